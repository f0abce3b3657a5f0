package route

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
)

// Headers of a dead letter.
const (
	HeaderDeadSubject   = "Skybus-Dead-Subject"
	HeaderDeadError     = "Skybus-Dead-Error"
	HeaderDeadAttempts  = "Skybus-Dead-Attempts"  // deliveries: some may have found no free place and made no call
	HeaderDeadTruncated = "Skybus-Dead-Truncated" // size in bytes of the body, left out because the letter was too large with it
)

// bury stores the step as a dead letter before it leaves the queue.
func (w *Worker) bury(ctx context.Context, msg jetstream.Msg, attempt int, cause error) error {
	id := msg.Headers().Get(nats.MsgIdHdr)
	if bus.CheckToken("id", id) != nil {
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		id = strconv.FormatUint(meta.Sequence.Stream, 10)
	}
	dead := &nats.Msg{Subject: w.conn.Namespace().DeadLetterSubject("async", id), Header: nats.Header{}, Data: msg.Data()}
	maps.Copy(dead.Header, msg.Headers())
	dead.Header.Set(nats.MsgIdHdr, "async-"+id)
	dead.Header.Set(HeaderDeadSubject, msg.Subject())
	dead.Header.Set(HeaderDeadError, fmt.Sprintf("%.1000s", cause))
	dead.Header.Set(HeaderDeadAttempts, strconv.Itoa(attempt))
	err := w.storeLetter(ctx, dead)
	if errors.Is(err, nats.ErrMaxPayload) { // the step itself was just small enough
		dead.Header.Set(HeaderDeadTruncated, strconv.Itoa(len(dead.Data)))
		dead.Data = nil
		err = w.storeLetter(ctx, dead)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("route: dead letter: %w", err), msg.NakWithDelay(stepBackoff(attempt)))
	}
	w.log.WarnContext(ctx, "asynchronous step given up", "subject", msg.Subject(), "id", id, "attempts", attempt, "error", cause)
	return msg.Ack()
}

// storeLetter opens the stream only when it is needed: without room for it steps are done all the same.
func (w *Worker) storeLetter(ctx context.Context, dead *nats.Msg) error {
	_, err := w.conn.JetStream().PublishMsg(ctx, dead)
	if !errors.Is(err, jetstream.ErrNoStreamResponse) {
		return err
	}
	if _, err := w.conn.OpenStream(ctx, jetstream.StreamConfig{
		Name:        DeadLetterStream,
		Description: "skybus: what was given up",
		Subjects:    []string{"skybus.dlq.>"},
		Storage:     jetstream.FileStorage,
	}); err != nil {
		return err
	}
	_, err = w.conn.JetStream().PublishMsg(ctx, dead)
	return err
}
