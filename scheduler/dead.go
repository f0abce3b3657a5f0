package scheduler

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
)

const (
	deadBatch = 256
	deadWait  = 2 * time.Second
	deadIdle  = 30 * time.Second // after which the server forgets who lists
)

// DeadLetter is a delivery that was given up.
type DeadLetter struct {
	ID       string // [Delivery.ID]
	Timer    Timer  // as it was; its Attempts are all that were made, up to MaxAttempts. List leaves its Payload out
	Died     time.Time
	Error    string // why it was given up
	Code     bus.Code
	Attempts int
	Size     int // of the payload, in bytes
	// Truncated: the payload was too large to keep beside the reasons. Such a letter cannot be delivered again.
	Truncated bool
}

// DeadLetters are the deliveries of a namespace that were given up. Where none ever was, nothing is created. They are in the stream
// SKYBUS_DLQ; its limits are set there. It is safe for concurrent use.
type DeadLetters struct{ s *Scheduler }

// DeadLetters are those of the scheduler's namespace.
func (s *Scheduler) DeadLetters() *DeadLetters { return &DeadLetters{s} }

// DeadFilter chooses letters. The zero value chooses all.
type DeadFilter struct {
	TimerID string // of one timer
	Prefix  string // of timer ids
	After   string // an ID: those that died after it. It must still be there
}

func (f DeadFilter) matches(timer string) bool {
	return (f.TimerID == "" || f.TimerID == timer) && strings.HasPrefix(timer, f.Prefix)
}

// List is the letters, oldest first, without their payloads.
func (d *DeadLetters) List(ctx context.Context, f DeadFilter) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		consumer, err := d.consumer(ctx, f)
		if err != nil {
			yield(DeadLetter{}, err)
			return
		}
		if consumer == nil {
			return
		}
		defer func() { // else the server forgets it after a while
			_ = d.s.js.DeleteConsumer(context.WithoutCancel(ctx), deadStream, consumer.CachedInfo().Name)
		}()
		for left := int(consumer.CachedInfo().NumPending); left > 0; {
			batch, err := consumer.Fetch(min(left, deadBatch), jetstream.FetchMaxWait(deadWait))
			n := 0
			if err == nil {
				for msg := range batch.Messages() {
					n++
					l, lerr := listed(msg)
					if f.matches(l.Timer.ID) && !yield(l, lerr) {
						return
					}
				}
				err = batch.Error()
			}
			if left -= n; err != nil || ctx.Err() != nil {
				yield(DeadLetter{}, fmt.Errorf("scheduler: dead letters: %w", errors.Join(err, context.Cause(ctx))))
				return
			}
			if n == 0 {
				return // the rest was removed meanwhile
			}
		}
	}
}

// consumer reads the letters; it is nil where there are none.
func (d *DeadLetters) consumer(ctx context.Context, f DeadFilter) (jetstream.Consumer, error) {
	cfg := jetstream.ConsumerConfig{
		FilterSubject: d.subject("*"), AckPolicy: jetstream.AckNonePolicy, HeadersOnly: true,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: deadIdle,
	}
	if f.After != "" {
		_, raw, err := d.raw(ctx, f.After)
		if err != nil {
			return nil, err
		}
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, raw.Sequence+1
	}
	consumer, err := d.s.js.CreateConsumer(ctx, deadStream, cfg)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil //nolint:nilnil // there is nothing to read
	}
	if err != nil {
		return nil, fmt.Errorf("scheduler: dead letters: %w", err)
	}
	return consumer, nil
}

func (d *DeadLetters) subject(id string) string {
	return d.s.conn.Namespace().DeadLetterSubject(deadKind, id)
}

func listed(msg jetstream.Msg) (DeadLetter, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return DeadLetter{}, fmt.Errorf("scheduler: dead letters: %w", err)
	}
	l := readLetter(msg.Subject(), msg.Headers(), meta.Timestamp, nil)
	if !l.Truncated {
		l.Size, _ = strconv.Atoi(first(msg.Headers(), nats.MsgSize))
	}
	return l, nil
}

// readLetter reads what can be read: a letter may be there because its delivery was not readable.
func readLetter(subject string, h nats.Header, died time.Time, payload []byte) DeadLetter {
	l := DeadLetter{
		ID: subject[strings.LastIndexByte(subject, '.')+1:], Died: died.UTC(), Size: len(payload),
		Error: first(h, headerDeadError), Code: bus.Code(first(h, headerDeadCode)),
	}
	l.Attempts, _ = strconv.Atoi(first(h, headerDeadAttempts))
	if n, err := strconv.Atoi(first(h, headerDeadTruncated)); err == nil {
		l.Truncated, l.Size = true, n
	}
	m, err := readDead(0, died, h, payload)
	if err != nil {
		l.Timer.ID, l.Timer.Payload = idOf(first(h, headerDeadSubject)), payload
		return l
	}
	l.Timer = m.timer()
	l.Timer.State, l.Timer.Revision = "", 0
	return l
}

// Get is one letter. A missing one is an error with the code not_found.
func (d *DeadLetters) Get(ctx context.Context, id string) (DeadLetter, error) {
	_, raw, err := d.raw(ctx, id)
	if err != nil {
		return DeadLetter{}, err
	}
	return readLetter(raw.Subject, raw.Header, raw.Time, raw.Data), nil
}

func (d *DeadLetters) raw(ctx context.Context, id string) (jetstream.Stream, *jetstream.RawStreamMsg, error) {
	if err := checkDelivery(id); err != nil {
		return nil, nil, err
	}
	stream, err := d.s.js.Stream(ctx, deadStream)
	var raw *jetstream.RawStreamMsg
	if err == nil {
		raw, err = stream.GetLastMsgForSubject(ctx, d.subject(id))
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil, bus.Wrap(bus.NotFound, fmt.Sprintf("there is no dead letter %q", id), err)
	}
	if err != nil {
		return nil, nil, unread(fmt.Errorf("scheduler: dead letter %q: %w", id, err))
	}
	return stream, raw, nil
}

// Redrive delivers a letter once more, with new attempts and the same Delivery.ID, and removes it. Retry.MaxAge counts from now. Interrupted
// between the two it does so again the next time; two who do so at once have it delivered once. The error is not_found; failed_precondition for a letter without its payload, or
// one that was not readable; or resource_exhausted where the server has no room, and the letter stays.
func (d *DeadLetters) Redrive(ctx context.Context, id string) error {
	stream, raw, err := d.raw(ctx, id)
	if err != nil {
		return err
	}
	if first(raw.Header, headerDeadTruncated) != "" {
		return bus.Errorf(bus.FailedPrecondition, "dead letter %q was too large to keep its payload; it cannot be delivered again", id)
	}
	m, err := readDead(raw.Sequence, raw.Time, raw.Header, raw.Data)
	x := &parcel{stored: m}
	if err == nil {
		err = x.readHistory()
	}
	if err != nil || m.record.delivery(m.id) != id {
		return bus.Wrap(bus.FailedPrecondition, fmt.Sprintf("dead letter %q is not readable as a delivery; it cannot be delivered again", id), err)
	}
	sh := d.s.shard(m.id)
	now, err := sh.clock.now(ctx)
	if err != nil {
		return err
	}
	x.redrives, x.redriven, x.tried = x.redrives+1, now, nil
	m.record.name = sh.name(m.id)
	body, err := m.record.encode(m.due, d.s.cfg.Grace, m.payload)
	if err == nil {
		err = d.s.room.take(ctx, len(body)+storedOverhead)
	}
	if err != nil {
		return err
	}
	h := nats.Header{nats.MsgIdHdr: {id + "/" + strconv.Itoa(x.redrives)}}
	if err := x.historyTo(h); err != nil {
		return err
	}
	if _, err := d.s.store(ctx, sh, &nats.Msg{Subject: sh.subject(kindDue, m.id), Header: h, Data: body}); err != nil {
		return fmt.Errorf("scheduler: redrive dead letter %q: %w", id, err)
	}
	return d.purge(ctx, stream, raw)
}

// Remove forgets a letter. A missing one is an error with the code not_found.
func (d *DeadLetters) Remove(ctx context.Context, id string) error {
	stream, raw, err := d.raw(ctx, id)
	if err != nil {
		return err
	}
	return d.purge(ctx, stream, raw)
}

// RemoveAll forgets the letters that f chooses and returns how many they were. Those that come meanwhile may stay.
func (d *DeadLetters) RemoveAll(ctx context.Context, f DeadFilter) (int, error) {
	n := 0
	for l, err := range d.List(ctx, f) {
		if err != nil {
			return n, err
		}
		switch err := d.Remove(ctx, l.ID); {
		case err == nil:
			n++
		case bus.CodeOf(err) != bus.NotFound: // else somebody else removed it
			return n, err
		}
	}
	return n, nil
}

// purge removes what was seen. A full stream deletes no single messages, but it purges.
func (d *DeadLetters) purge(ctx context.Context, stream jetstream.Stream, raw *jetstream.RawStreamMsg) error {
	err := stream.Purge(ctx, jetstream.WithPurgeSubject(raw.Subject), jetstream.WithPurgeSequence(raw.Sequence+1))
	if err != nil {
		return fmt.Errorf("scheduler: remove dead letter: %w", err)
	}
	return nil
}
