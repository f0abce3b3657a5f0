package scheduler

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// read is the parcel that a message is, and what is to be done with it. Nil means that it is settled, or is none.
func (c *courier) read(ctx context.Context, p *pipe, msg *nats.Msg) *parcel {
	meta, err := msg.Metadata()
	if err != nil {
		c.log.WarnContext(ctx, "message without a way to acknowledge it", "subject", msg.Subject, "error", err)
		return nil
	}
	x := &parcel{pipe: p, msg: msg, epoch: p.receipts.present()}
	x.stored, err = readStored(msg.Subject, meta.Sequence.Stream, meta.Timestamp, msg.Header, msg.Data)
	if err == nil {
		err = x.readHistory()
	}
	if err == nil {
		x.delivery = x.record.delivery(x.id)
		err = checkDelivery(x.delivery)
	}
	if err != nil {
		if x.stored == nil {
			x.stored = &stored{id: idOf(msg.Subject), subject: msg.Subject, seq: meta.Sequence.Stream, at: meta.Timestamp, header: msg.Header, payload: msg.Data}
		}
		x.key = attemptKey{delivery: x.place()}
		x.aside = func(ctx context.Context, x *parcel) { c.spoiled(ctx, x, err) }
		return x
	}
	if msg.Subject == p.overdue(x.id) {
		x.key = attemptKey{delivery: x.place()}
		x.aside = c.overdue
		return x
	}
	x.key = attemptKey{x.delivery, x.redrives, len(x.tried), x.defers}
	if c.done.has(x.finish()) || meta.NumDelivered > 1 && c.done.has(x.place()) {
		c.acknowledge(ctx, x)
		return nil
	}
	if p.receipts.doubtful(meta) {
		c.nak(ctx, x, doubtWait)
		return nil
	}
	c.address(x)
	return x
}

// readHistory reads what happened to the delivery before.
func (x *parcel) readHistory() error {
	if v := first(x.header, headerAttempts); v != "" {
		if err := json.Unmarshal([]byte(v), &x.tried); err != nil {
			return fmt.Errorf("scheduler: message %d at %q: header %s: %w", x.seq, x.subject, headerAttempts, err)
		}
	}
	x.defers, _ = strconv.Atoi(first(x.header, headerDefers)) // without it a delay is shorter
	count, at, _ := strings.Cut(first(x.header, headerRedriven), "@")
	if count == "" {
		return nil
	}
	ns, err := strconv.ParseInt(at, 10, 64)
	if err == nil {
		x.redriven = time.Unix(0, ns)
		x.redrives, err = strconv.Atoi(count)
	}
	if err != nil {
		return fmt.Errorf("scheduler: message %d at %q: header %s: %w", x.seq, x.subject, headerRedriven, err)
	}
	return nil
}

// finish names the delivery among those that are finished. One that was given up may be delivered again.
func (x *parcel) finish() string {
	if x.redrives == 0 {
		return x.delivery
	}
	return x.delivery + "/" + strconv.Itoa(x.redrives)
}

// place names the message among those that are settled.
func (x *parcel) place() string {
	return strconv.Itoa(x.pipe.shard.shard) + "/" + strconv.FormatUint(x.seq, 10)
}

// address finds where the parcel goes.
func (c *courier) address(x *parcel) {
	target := &x.record.Target
	name := target.Transport
	if name == "" {
		name, _, _ = strings.Cut(target.URI, ":")
		if name == "https" {
			name = "http"
		}
	}
	x.transport = c.s.transports[name]
	switch {
	case first(x.header, headerDeadError) != "":
		x.aside = c.buryAgain
	case x.fired == 0 && x.due > x.pipe.clock.at(time.Now()).UnixNano():
		x.aside = c.putOffEarly
	case x.transport == nil:
		x.aside = func(ctx context.Context, x *parcel) { c.putOffUnknown(ctx, x, name) }
	default:
		x.destination = c.destinationOf(name, x.transport, *target)
		if c.s.outliers.Ejected(x.destination) {
			x.aside = c.putOffEjected
		}
	}
}

func (c *courier) destinationOf(name string, t Transport, target Target) (destination string) {
	if d, ok := t.(Destinationer); ok {
		defer func() {
			if v := recover(); v != nil {
				c.log.Error("a transport panicked", "transport", name, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
				destination = name + " " + target.URI
			}
		}()
		return name + " " + d.Destination(target)
	}
	return name + " " + target.URI
}

// deliver makes one attempt, or puts it off, and settles what came of it. It returns how long the attempt took.
func (c *courier) deliver(ctx context.Context, x *parcel) (took time.Duration) {
	overlaps, err := c.overlaps(ctx, x)
	switch {
	case err != nil:
		c.later(ctx, x, err)
		return 0
	case overlaps:
		c.putOffOverlap(ctx, x)
		return 0
	case c.s.outliers.Ejected(x.destination) || !c.s.outliers.Begin(x.destination):
		c.putOffEjected(ctx, x)
		return 0
	}
	c.tellFired(x)
	began := time.Now()
	c.s.counters.inFlight.Add(1)
	err = c.call(ctx, x)
	c.s.counters.inFlight.Add(-1)
	took = time.Since(began)

	failure, _ := errors.AsType[*DeliveryError](err)
	switch {
	case err == nil:
		c.s.outliers.Report(x.destination, true)
		c.delivered(ctx, x)
	case ctx.Err() != nil: // it was not given the time it has
		c.nak(ctx, x, 0)
	default:
		unharmed := failure != nil && failure.Unharmed
		if (unharmed || !c.stoodStill(began)) && c.s.outliers.Report(x.destination, unharmed) {
			c.log.WarnContext(ctx, "a destination failed again and again, and is left alone for a while", "destination", x.destination, "error", err)
		}
		c.failed(ctx, x, Attempt{Took: took, Code: bus.CodeOf(err), Error: excerpt(reasonText(err), maxAttemptError)}, err, failure)
	}
	return took
}

// call makes the attempt.
func (c *courier) call(ctx context.Context, x *parcel) (err error) {
	target := x.record.Target
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(target.Timeout, DefaultTimeout))
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			c.log.ErrorContext(ctx, "a transport panicked", "transport", target.Transport, "timer", x.id, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = bus.Errorf(bus.Internal, "transport %q panicked: %v", target.Transport, v)
		}
	}()
	return x.transport.Deliver(ctx, &Delivery{
		ID: x.delivery, TimerID: x.id, Occurrence: x.record.N, Attempt: len(x.tried) + 1,
		Due: time.Unix(0, x.due).UTC(), Fired: x.firedAt().UTC(),
		Target: target, Payload: x.payload, ContentType: x.record.ContentType, Header: x.record.Header,
	})
}

// firedAt is when the occurrence was fired: where nobody said so, the server fired it by storing the message.
func (m *stored) firedAt() time.Time {
	if m.fired != 0 {
		return time.Unix(0, m.fired)
	}
	return m.at
}

// tellFired tells of what the server fired: others tell themselves.
func (c *courier) tellFired(x *parcel) {
	if x.fired == 0 {
		e := x.event(Fired)
		e.Time = x.at.UTC()
		c.s.tell(e)
	}
}

func (x *parcel) event(kind EventKind) Event {
	return Event{
		Kind: kind, ID: x.id, Time: x.pipe.clock.at(time.Now()).UTC(), Due: time.Unix(0, x.due).UTC(),
		Occurrence: x.record.N, Delivery: x.delivery,
	}
}

func (c *courier) delivered(ctx context.Context, x *parcel) {
	c.done.add(x.finish())
	c.acknowledge(ctx, x)
	c.s.counters.delivered.Add(1)
	e := x.event(Delivered)
	e.Attempt = len(x.tried) + 1
	c.s.tell(e)
}

// overlaps tells whether the occurrence has to wait for an earlier one. It looks at what is due twice, since what is tried again goes from there
// to the retries and back.
func (c *courier) overlaps(ctx context.Context, x *parcel) (bool, error) {
	if x.record.Repeat == nil || !x.record.Repeat.waits() || x.record.Manual != "" {
		return false, nil
	}
	due, retries := x.pipe.subject(kindDue, x.id), x.pipe.retry(x.id, "*")
	for _, subject := range []string{due, retries, due} {
		if earlier, err := c.earlier(ctx, x, subject); earlier || err != nil {
			return earlier, err
		}
	}
	return false, nil
}

// earlier tells whether there is an earlier occurrence of the same timer.
func (c *courier) earlier(ctx context.Context, x *parcel, subject string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for seq := uint64(1); ; {
		msg, at, err := c.s.following(ctx, x.pipe.shard, subject, seq)
		if errors.Is(err, errNone) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("scheduler: other occurrences of timer %q: %w", x.id, err)
		}
		m, err := readStored(msg.Subject, at, storedAt(msg), msg.Header, msg.Data)
		if err == nil && m.record.Manual == "" && m.precedes(x.stored) {
			return true, nil
		}
		seq = at + 1
	}
}

// precedes tells whether m is an earlier occurrence of the same timer than x, also one from before an update: that has another Gen, and counts on. Of two with one
// number the one from before the update had fired when it was updated. A timer that was made under the id of another one was made at another time.
func (m *stored) precedes(x *stored) bool {
	a, b := &m.record, &x.record
	switch {
	case a.Created != b.Created:
		return false
	case a.N != b.N || a.Gen == b.Gen:
		return a.N < b.N
	}
	return cmp.Or(m.firedAt().Compare(x.firedAt()), strings.Compare(a.Gen, b.Gen)) < 0
}

// overdue hands on what the server tells of a recurring timer that nobody fired.
func (c *courier) overdue(ctx context.Context, x *parcel) {
	if err := c.s.fireOverdue(ctx, x.stored); err != nil {
		c.later(ctx, x, err)
		return
	}
	c.acknowledge(ctx, x)
}

func (c *courier) acknowledge(ctx context.Context, x *parcel) {
	x.pipe.receipts.add(x)
	if err := x.msg.Ack(); err != nil {
		c.log.DebugContext(ctx, "not acknowledged, so it will be delivered again", "timer", x.id, "error", err)
	}
}

// nak gives a message back, at once or after a while.
func (c *courier) nak(ctx context.Context, x *parcel, wait time.Duration) {
	err := x.msg.NakWithDelay(wait)
	if err != nil {
		c.log.DebugContext(ctx, "not given back, so it will come again after a while", "timer", x.id, "error", err)
	}
}
