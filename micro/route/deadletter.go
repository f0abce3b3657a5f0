package route

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/jscode"
)

// Headers of a dead letter.
const (
	HeaderDeadSubject   = "Skybus-Dead-Subject"
	HeaderDeadError     = "Skybus-Dead-Error"
	HeaderDeadAttempts  = "Skybus-Dead-Attempts"  // deliveries: some may have found no free place and made no call
	HeaderDeadTruncated = "Skybus-Dead-Truncated" // size in bytes of the body, left out because the letter was too large with it
)

const (
	deadKind = "async"
	fullWait = time.Hour // until a step is tried again whose dead letter finds no room
)

// FullPolicy says what happens to a step that is given up when SKYBUS_DLQ is full.
type FullPolicy int

const (
	// Keep leaves the step in its queue, where it is tried again each hour: nothing is lost.
	Keep FullPolicy = iota
	// DropOldest drops the oldest tenth of the namespace's asynchronous dead letters to make room: a queue of steps that never
	// succeed cannot fill up.
	DropOldest
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
	dead := &nats.Msg{Subject: w.conn.Namespace().DeadLetterSubject(deadKind, id), Header: nats.Header{}, Data: msg.Data()}
	maps.Copy(dead.Header, msg.Headers())
	dead.Header.Set(nats.MsgIdHdr, deadKind+"-"+id)
	dead.Header.Set(HeaderDeadSubject, msg.Subject())
	dead.Header.Set(HeaderDeadError, fmt.Sprintf("%.1000s", cause))
	dead.Header.Set(HeaderDeadAttempts, strconv.Itoa(attempt))
	err := w.storeLetter(ctx, dead)
	if errors.Is(err, nats.ErrMaxPayload) { // the step itself was just small enough
		dead.Header.Set(HeaderDeadTruncated, strconv.Itoa(len(dead.Data)))
		dead.Data = nil
		err = w.storeLetter(ctx, dead)
	}
	if jscode.Of(err) == jscode.StreamFull && w.cfg.DeadLetters == DropOldest {
		if err = w.makeRoom(ctx, dead); err == nil {
			err = w.storeLetter(ctx, dead)
		}
	}
	if err != nil {
		again := stepBackoff(attempt)
		if jscode.Of(err) == jscode.StreamFull {
			again = fullWait
		}
		return errors.Join(fmt.Errorf("route: dead letter: %w", err), msg.NakWithDelay(again))
	}
	w.log.WarnContext(ctx, "asynchronous step given up", "subject", msg.Subject(), "id", id, "attempts", attempt, "error", cause)
	return msg.Ack()
}

// makeRoom drops the oldest tenth of the namespace's dead letters of this kind. Other workers may do the same for their own
// letters at the same time, and then more are dropped than need be.
func (w *Worker) makeRoom(ctx context.Context, dead *nats.Msg) error {
	w.dropping <- struct{}{}
	defer func() { <-w.dropping }()
	if err := w.storeLetter(ctx, dead); jscode.Of(err) != jscode.StreamFull {
		return err // another step has made room; stored again, the letter is one with the same id
	}
	stream, err := w.conn.JetStream().Stream(ctx, DeadLetterStream)
	if err != nil {
		return err
	}
	mine := deadLetters(w.conn)
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(mine))
	if err != nil {
		return err
	}
	var there uint64
	for _, n := range info.State.Subjects {
		there += n
	}
	if there == 0 {
		return w.storeLetter(ctx, dead) // what fills it is not ours to drop
	}
	drop := max(1, there/10)
	opts := []jetstream.StreamPurgeOpt{jetstream.WithPurgeSubject(mine)}
	if there > drop { // to keep 0 means to keep all
		opts = append(opts, jetstream.WithPurgeKeep(there-drop))
	}
	if err := stream.Purge(ctx, opts...); err != nil {
		return err
	}
	w.log.WarnContext(ctx, "dead letters were dropped to make room for new ones", "stream", DeadLetterStream, "dropped", drop)
	return nil
}

// deadLetters are the subjects of all dead letters of this namespace and kind.
func deadLetters(conn *bus.Conn) string { return conn.Namespace().DeadLetterSubject(deadKind, "*") }

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
