package scheduler

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
)

const headerRedriven = "Skybus-Redriven" // how often from a dead letter, "@", and when the last time, in Unix nanoseconds

const (
	maxAttemptError = 200             // bytes
	maxHistory      = 12_000          // bytes of the attempts in a message; a header has room for 64 KiB altogether
	laterFirst      = 2 * time.Second // until what cannot be settled comes again
	laterLast       = 10 * time.Second
	scheduleTries   = 5
	scheduleRetry   = 20 * time.Millisecond
	maxWarned       = 64 // names of transports
)

// Delays of what is put off without an attempt, for the first time and at most. They are random times below.
const (
	ejectedFirst = 2 * time.Second // is a destination left alone, and so much longer each time
	ejectedLast  = time.Minute
	ejectedMore  = 5 * time.Second // after the end of the ejection, but not more than that takes
	probeFirst   = time.Second
	probeLast    = 30 * time.Second
	unknownFirst = 5 * time.Second
	unknownLast  = time.Minute
	overlapFirst = 500 * time.Millisecond
	overlapLast  = 5 * time.Second
)

// failed settles an attempt that failed.
func (c *courier) failed(ctx context.Context, x *parcel, a Attempt, cause error, failure *DeliveryError) {
	now, err := x.pipe.clock.now(ctx)
	if err != nil {
		c.later(ctx, x, err)
		return
	}
	a.At = now.Add(-a.Took).UTC()
	if failure != nil {
		a.Status = failure.Status
	}
	x.tried = append(x.tried, a)
	c.s.counters.failed.Add(1)
	e := x.event(Failed)
	e.Attempt, e.Status, e.Code, e.Error = len(x.tried), a.Status, a.Code, a.Error
	c.s.tell(e)

	next, why := x.next(now, failure)
	if why != "" {
		c.bury(ctx, x, bus.Wrap(cmp.Or(a.Code, bus.Unknown), why+reasonText(cause), cause))
		return
	}
	if !c.again(ctx, x, next, 0) {
		return
	}
	c.s.counters.retried.Add(1)
	e.Kind, e.Next = Retried, next.UTC()
	c.s.tell(e)
}

// next is when the next attempt is made, or else why there is none.
func (x *parcel) next(now time.Time, failure *DeliveryError) (at time.Time, why string) {
	retry := x.record.Retry
	n := len(x.tried)
	if failure != nil && failure.Permanent {
		return time.Time{}, "no attempt will succeed: "
	}
	if most := cmp.Or(retry.MaxAttempts, DefaultAttempts); n >= most {
		return time.Time{}, fmt.Sprintf("attempt %d of %d: ", n, most)
	}
	wait := backoff.Full(n, cmp.Or(retry.First, DefaultFirst), max(cmp.Or(retry.Last, DefaultLast), retry.First))
	plain := now.Add(wait)
	if failure != nil {
		wait = max(wait, failure.RetryAfter)
	}
	if at = now.Add(wait); at.After(x.deadline()) && !plain.After(x.deadline()) {
		at = x.deadline() // asked for more time than there is: once more at its end
	}
	if at.After(x.deadline()) {
		return time.Time{}, fmt.Sprintf("attempt %d, and the next would be more than %s after it was due, or fired: ", n, x.maxAge())
	}
	return at, ""
}

func (x *parcel) maxAge() time.Duration { return cmp.Or(x.record.Retry.MaxAge, DefaultAge) }

// deadline is when the last attempt may be made. What was fired late, or is delivered once more, has its time from then on.
func (x *parcel) deadline() time.Time {
	from := time.Unix(0, x.due)
	switch {
	case x.redrives > 0:
		from = x.redriven
	case x.firedAt().After(from):
		from = x.firedAt()
	}
	return from.Add(x.maxAge())
}

func (c *courier) putOffCrowded(ctx context.Context, x *parcel) {
	c.putOff(ctx, x, x.wait,
		bus.Errorf(bus.ResourceExhausted, "scheduler: there were more deliveries to %q than it took in time", x.destination))
}

// putOffEjected puts off until about the end of the ejection; where that is over and somebody makes the attempt that decides, for a short while.
func (c *courier) putOffEjected(ctx context.Context, x *parcel) {
	wait := backoff.Full(x.defers+1, probeFirst, probeLast)
	if left := time.Until(c.s.outliers.Until(x.destination)); left > 0 {
		wait = left + rand.N(min(max(left, ejectedFirst/4), ejectedMore))
	}
	c.putOff(ctx, x, wait, bus.Errorf(bus.Unavailable, "scheduler: %q failed again and again, so it was left alone", x.destination))
}

// putOffUnknown puts off what another process may be able to deliver.
func (c *courier) putOffUnknown(ctx context.Context, x *parcel, name string) {
	c.mu.Lock()
	_, warned := c.warned[name]
	if warned = warned || len(c.warned) == maxWarned; !warned {
		c.warned[name] = struct{}{}
	}
	c.mu.Unlock()
	if !warned {
		c.log.WarnContext(ctx, "deliveries wait for a process with their transport", "transport", name, "timer", x.id)
	}
	c.putOff(ctx, x, backoff.Full(x.defers+1, unknownFirst, unknownLast), bus.Errorf(bus.Unimplemented, "scheduler: nobody has the transport %q", name))
}

// putOffEarly puts off what the server fired before it was due. NATS does so, rarely, where a timer takes the place of one that recurs
// while it is about to tell that the former is overdue: it moves the new schedule to the next time of the old one.
func (c *courier) putOffEarly(ctx context.Context, x *parcel) {
	if _, err := x.pipe.clock.now(ctx); err != nil {
		c.later(ctx, x, err)
		return
	}
	c.log.WarnContext(ctx, "the server fired a timer too early, so it waits until it is due", "timer", x.id, "delivery", x.delivery)
	_, within := x.pipe.clock.skew()
	x.early = true
	if c.again(ctx, x, time.Unix(0, x.due).Add(2*within), x.defers+1) {
		c.s.counters.deferred.Add(1)
	}
}

func (c *courier) putOffOverlap(ctx context.Context, x *parcel) {
	c.putOff(ctx, x, backoff.Full(x.defers+1, overlapFirst, overlapLast),
		bus.Errorf(bus.Aborted, "scheduler: an earlier occurrence of timer %q was delivered all the time", x.id))
}

// putOff puts a delivery off without an attempt, or gives it up if it is too old for that.
func (c *courier) putOff(ctx context.Context, x *parcel, wait time.Duration, cause *bus.Error) {
	now, err := x.pipe.clock.now(ctx)
	if err != nil {
		c.later(ctx, x, err)
		return
	}
	c.tellFired(x)
	deadline := x.deadline()
	if !now.Before(deadline) {
		c.bury(ctx, x, cause)
		return
	}
	at := now.Add(wait)
	if at.After(deadline) {
		at = deadline
	}
	if c.again(ctx, x, at, x.defers+1) {
		c.s.counters.deferred.Add(1)
	}
}

// later has a message come again that cannot be settled at present.
func (c *courier) later(ctx context.Context, x *parcel, cause error) {
	c.log.DebugContext(ctx, "delivery not settled", "timer", x.id, "delivery", x.delivery, "error", cause)
	if ctx.Err() != nil {
		c.nak(ctx, x, 0)
		return
	}
	c.nak(ctx, x, laterFirst+rand.N(laterLast-laterFirst))
}

// again stores the delivery as one that comes again, and tells whether that is done and x settled.
func (c *courier) again(ctx context.Context, x *parcel, at time.Time, defers int) bool {
	msg, err := x.retryMessage(at, defers)
	if err == nil {
		err = c.schedule(ctx, x, msg)
	}
	if tooLarge(err) && x.verdict == nil { // its history has grown, or the server takes less than it did
		c.bury(ctx, x, bus.Wrap(bus.ResourceExhausted, "the delivery is too large to be tried again", err))
		return false
	}
	if err != nil {
		c.later(ctx, x, err)
		return false
	}
	c.done.add(x.place())
	c.acknowledge(ctx, x)
	return true
}

// schedule stores the retry. Whoever has the same message under way, because it was thought lost, may have done so already: then that one counts.
// A retry that is older than the message is the one that the message came from, which the server just removes, or
// failed to remove when it crashed; it is replaced.
func (c *courier) schedule(ctx context.Context, x *parcel, msg *nats.Msg) error {
	expect := uint64(0)
	for try := 1; ; try++ {
		err := c.s.storeExpecting(ctx, msg, expect)
		if !errors.Is(err, errConflict) || try == scheduleTries {
			return err
		}
		_, last, err := c.s.last(ctx, x.pipe.shard, msg.Subject)
		switch {
		case errors.Is(err, errNone):
			expect = 0
		case err != nil:
			return err
		case last > x.seq:
			return nil
		default:
			expect = last
		}
		if try > 1 && !backoff.Sleep(ctx, scheduleRetry) {
			return context.Cause(ctx)
		}
	}
}

// retryMessage is a schedule of the server's, of one delivery, for a time by the server's clock.
func (x *parcel) retryMessage(at time.Time, defers int) (*nats.Msg, error) {
	h := nats.Header{}
	if err := x.historyTo(h); err != nil {
		return nil, err
	}
	h[headerSchedule] = []string{"@at " + at.UTC().Format(time.RFC3339Nano)}
	h[headerScheduleTarget] = []string{x.pipe.subject(kindDue, x.id)}
	if defers > 0 {
		h[headerDefers] = []string{strconv.Itoa(defers)}
	}
	return &nats.Msg{Subject: x.pipe.retry(x.id, x.delivery), Header: h, Data: x.body}, nil
}

// historyTo gives all that comes after an attempt the headers that say what happened to the delivery.
func (x *parcel) historyTo(h nats.Header) error {
	if !x.early {
		h[headerFired] = []string{strconv.FormatInt(x.firedAt().UnixNano(), 10)}
	}
	if x.verdict != nil {
		x.verdictTo(h)
	}
	if x.redrives > 0 {
		h[headerRedriven] = []string{redriven(x.redrives, x.redriven)}
	}
	if len(x.tried) > 0 {
		v, err := encodeAttempts(x.tried)
		if err != nil {
			return fmt.Errorf("scheduler: encode attempts of %q: %w", x.delivery, err)
		}
		h[headerAttempts] = []string{v}
	}
	return nil
}

func redriven(n int, at time.Time) string {
	return strconv.Itoa(n) + "@" + strconv.FormatInt(at.UnixNano(), 10)
}

// encodeAttempts leaves out the reasons of the oldest where they are too long all together.
func encodeAttempts(tried []Attempt) (string, error) {
	for bare := 0; ; bare++ {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(tried); err != nil {
			return "", err
		}
		if b.Len() <= maxHistory || bare == len(tried) {
			return strings.TrimSuffix(b.String(), "\n"), nil
		}
		if bare == 0 {
			tried = append([]Attempt(nil), tried...)
		}
		tried[bare].Error = ""
	}
}

// reasonText is the text of an error without the code that is told beside it.
func reasonText(err error) string {
	if e, ok := errors.AsType[*bus.Error](err); ok {
		return strings.Replace(err.Error(), e.Error(), e.Message, 1)
	}
	return err.Error()
}

// excerpt is at most n bytes of a text that is fit for a header.
func excerpt(text string, n int) string {
	text = strings.ToValidUTF8(text, "\ufffd")
	if len(text) > n {
		for n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}
