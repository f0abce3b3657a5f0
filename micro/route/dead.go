package route

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
)

const (
	deadBatch = 256
	deadWait  = 2 * time.Second
	deadIdle  = 30 * time.Second // after which the server forgets who lists
)

// DeadLetter is an asynchronous step that was given up.
type DeadLetter struct {
	ID        string    `json:"id"`
	Target    string    `json:"target"` // "service.endpoint", or "route <name>"
	Version   string    `json:"version,omitempty"`
	Error     string    `json:"error"` // of the last attempt, at most 1,000 bytes
	Attempts  int       `json:"attempts"`
	Died      time.Time `json:"died"`
	RequestID string    `json:"request_id,omitempty"`
	Origin    string    `json:"origin,omitempty"` // the address of who ran the route
	// ContentType says how Body is encoded; empty means JSON.
	ContentType string `json:"content_type,omitempty"`
	Size        int    `json:"size"` // of the body, in bytes
	// Truncated: the body was too large to keep beside the reasons. Such a letter cannot be sent again.
	Truncated bool   `json:"truncated,omitempty"`
	Body      []byte `json:"-"` // from Get only
}

// DeadLetters are the asynchronous steps of one namespace that were given up. It is safe for concurrent use.
type DeadLetters struct{ conn *bus.Conn }

// NewDeadLetters looks at nothing yet. Where no letter was ever stored there are none, and nothing is created.
func NewDeadLetters(conn *bus.Conn) *DeadLetters { return &DeadLetters{conn} }

// List is the letters, oldest first, without their bodies.
func (d *DeadLetters) List(ctx context.Context) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		consumer, err := d.conn.JetStream().CreateConsumer(ctx, DeadLetterStream, jetstream.ConsumerConfig{
			FilterSubject: deadLetters(d.conn), AckPolicy: jetstream.AckNonePolicy, HeadersOnly: true,
			MemoryStorage: true, Replicas: 1, InactiveThreshold: deadIdle,
		})
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return
		}
		if err != nil {
			yield(DeadLetter{}, fmt.Errorf("route: dead letters: %w", err))
			return
		}
		defer func() { // else the server forgets it after a while
			_ = d.conn.JetStream().DeleteConsumer(context.WithoutCancel(ctx), DeadLetterStream, consumer.CachedInfo().Name)
		}()
		for left := int(consumer.CachedInfo().NumPending); left > 0; {
			batch, err := consumer.Fetch(min(left, deadBatch), jetstream.FetchMaxWait(deadWait))
			n := 0
			if err == nil {
				for msg := range batch.Messages() {
					n++
					if !yield(readLetter(msg)) {
						return
					}
				}
				err = batch.Error()
			}
			if left -= n; err != nil || ctx.Err() != nil {
				yield(DeadLetter{}, fmt.Errorf("route: dead letters: %w", errors.Join(err, context.Cause(ctx))))
				return
			}
			if n == 0 {
				return // the rest was removed meanwhile
			}
		}
	}
}

func readLetter(msg jetstream.Msg) (DeadLetter, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return DeadLetter{}, fmt.Errorf("route: dead letters: %w", err)
	}
	size, _ := strconv.Atoi(msg.Headers().Get(nats.MsgSize))
	return newDeadLetter(msg.Subject(), msg.Headers(), size, meta.Timestamp), nil
}

func newDeadLetter(subject string, h nats.Header, size int, died time.Time) DeadLetter {
	l := DeadLetter{
		ID: subject[strings.LastIndexByte(subject, '.')+1:], Died: died, Size: size,
		Error: h.Get(HeaderDeadError), Version: h.Get(headerVersion),
	}
	l.Attempts, _ = strconv.Atoi(h.Get(HeaderDeadAttempts))
	if n, err := strconv.Atoi(h.Get(HeaderDeadTruncated)); err == nil {
		l.Truncated, l.Size = true, n
	}
	env, _ := bus.ReadEnvelope(h) // as far as it can be read
	l.RequestID, l.Origin, l.ContentType = env.RequestID, env.Origin, env.ContentType
	l.Target = h.Get(HeaderDeadSubject)
	if tokens := strings.Split(l.Target, "."); len(tokens) == 6 {
		if l.Target = tokens[4] + "." + tokens[5]; tokens[4] == RouterService {
			l.Target = target("", "", tokens[5])
		}
	}
	return l
}

// Get is one letter with its body. A missing one is an error with the code not_found.
func (d *DeadLetters) Get(ctx context.Context, id string) (DeadLetter, error) {
	_, raw, err := d.raw(ctx, id)
	if err != nil {
		return DeadLetter{}, err
	}
	l := newDeadLetter(raw.Subject, raw.Header, len(raw.Data), raw.Time)
	l.Body = raw.Data
	return l, nil
}

func (d *DeadLetters) raw(ctx context.Context, id string) (jetstream.Stream, *jetstream.RawStreamMsg, error) {
	if err := bus.CheckToken("dead letter", id); err != nil {
		return nil, nil, err
	}
	stream, err := d.conn.JetStream().Stream(ctx, DeadLetterStream)
	var raw *jetstream.RawStreamMsg
	if err == nil {
		raw, err = stream.GetLastMsgForSubject(ctx, d.conn.Namespace().DeadLetterSubject(deadKind, id))
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil, bus.Wrap(bus.NotFound, fmt.Sprintf("there is no dead letter %q", id), err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("route: dead letter %q: %w", id, err)
	}
	return stream, raw, nil
}

// Redrive gives a letter back to the queue of asynchronous steps, as one that was not tried yet, and removes it. Interrupted
// between the two it does it again the next time: the step is done at least once. A letter without its body is an error with the
// code failed_precondition, a full queue one with resource_exhausted.
func (d *DeadLetters) Redrive(ctx context.Context, id string) error {
	stream, raw, err := d.raw(ctx, id)
	if err != nil {
		return err
	}
	subject := raw.Header.Get(HeaderDeadSubject)
	if raw.Header.Get(HeaderDeadTruncated) != "" {
		return bus.Errorf(bus.FailedPrecondition, "dead letter %q was too large to keep its body; it cannot be done again", id)
	}
	if !strings.HasPrefix(subject, asyncPrefix(d.conn.Namespace())) {
		return bus.Errorf(bus.FailedPrecondition, "dead letter %q does not say which step it was", id)
	}
	msg := &nats.Msg{Subject: subject, Header: nats.Header{}, Data: raw.Data}
	maps.Copy(msg.Header, raw.Header)
	for _, name := range []string{HeaderDeadSubject, HeaderDeadError, HeaderDeadAttempts} {
		msg.Header.Del(name)
	}
	msg.Header.Set(nats.MsgIdHdr, nuid.Next()) // its old one may still be remembered as stored
	if err := openAsync(ctx, d.conn); err != nil {
		return publishError(err)
	}
	if _, err := d.conn.JetStream().PublishMsg(ctx, msg); err != nil {
		return publishError(err)
	}
	return d.purge(ctx, stream, raw)
}

// Remove removes a letter. A missing one is an error with the code not_found.
func (d *DeadLetters) Remove(ctx context.Context, id string) error {
	stream, raw, err := d.raw(ctx, id)
	if err != nil {
		return err
	}
	return d.purge(ctx, stream, raw)
}

// purge removes what was seen. A full stream deletes no single messages, but it purges.
func (d *DeadLetters) purge(ctx context.Context, stream jetstream.Stream, raw *jetstream.RawStreamMsg) error {
	err := stream.Purge(ctx, jetstream.WithPurgeSubject(raw.Subject), jetstream.WithPurgeSequence(raw.Sequence+1))
	if err != nil {
		return fmt.Errorf("route: remove dead letter: %w", err)
	}
	return nil
}
