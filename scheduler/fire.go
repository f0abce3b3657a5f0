package scheduler

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/internal/backoff"
)

// fireAll fires what is due until ctx ends.
func (o *owner) fireAll(ctx context.Context) {
	for ctx.Err() == nil {
		if o.sh.clock.ready(ctx) != nil { // then the server fires, a little late
			backoff.Sleep(ctx, storePause)
			continue
		}
		now := o.sh.clock.at(time.Now())
		m, wait := o.nextDue(now)
		if m == nil {
			if !pause(ctx, o.wakeFire, wait) {
				return
			}
			continue
		}
		o.fire(ctx, m, now)
	}
}

// nextDue takes out a timer that is due, or tells how long to wait for the next.
func (o *owner) nextDue(now time.Time) (*stored, time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := o.near.first()
	switch {
	case m == nil:
		return nil, time.Hour
	case m.due > now.UnixNano():
		return nil, time.Duration(m.due - now.UnixNano())
	}
	wake(o.wakeFetch) // there may be room now
	o.busy++
	return o.near.pop(), 0
}

// fire makes a timer's occurrence one to be delivered.
func (o *owner) fire(ctx context.Context, m *stored, now time.Time) {
	if m.record.Repeat != nil {
		select {
		case o.recurring <- m:
		default: // too many at once: a little later
			o.again(m, retryLater)
		}
		return
	}
	select {
	case o.window <- struct{}{}:
	case <-ctx.Done():
		o.lookLater(m)
		return
	}
	f := &fire{o, m, now}
	for {
		err := f.send()
		if err == nil {
			return
		}
		if !errors.Is(err, nats.ErrConnectionReconnecting) || !backoff.Sleep(ctx, retryLater) {
			f.answered(0, err)
			return
		}
	}
}

// errLate says that it is the server who fires.
var errLate = errors.New("too late to fire")

// send sends the fire. Half a grace before the server would do it nothing is sent any more: what arrives there late would meet what the server has begun.
func (f *fire) send() error {
	overdue := f.m.overdue()
	half := overdue.Sub(time.Unix(0, f.m.due)) / 2
	if f.o.sh.clock.atMost(time.Now()).After(overdue.Add(-half)) && !f.o.s.cfg.VirtualTime {
		f.o.s.counters.shed.Add(1)
		return errLate
	}
	return f.o.s.firing.send(f.o.sh.dueMessage(f.m, f.at), f)
}

// fire is one on its way to the server.
type fire struct {
	o  *owner
	m  *stored
	at time.Time
}

// answered is told what came of the fire.
func (f *fire) answered(_ uint64, err error) {
	o := f.o
	<-o.window
	switch {
	case err == nil:
		o.s.counters.fired.Add(1)
		o.s.tellFired(f.m, f.at)
		o.remember(f.m)
		o.done(1)
	case errors.Is(storeError(err), errConflict):
		o.lookAtOnce(f.m) // somebody fired, changed or cancelled it
	default:
		if unanswered(err) {
			o.remember(f.m)
		}
		o.lookLater(f.m)
	}
}

// tellFired tells that an occurrence was fired.
func (s *Scheduler) tellFired(m *stored, at time.Time) {
	s.tell(Event{
		Kind: Fired, ID: m.id, Time: at.UTC(), Due: time.Unix(0, m.due).UTC(),
		Occurrence: m.record.N, Delivery: m.record.delivery(m.id),
	})
}

// lookLater remembers a timer that the server will fire by itself, to see whether it does.
func (o *owner) lookLater(m *stored) {
	at := max(m.overdue().UnixNano(), o.sh.clock.at(time.Now()).UnixNano()) + int64(sweepSlack)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.overdue.put(m.id, at, m.seq)
	o.busy--
}

// lookAtOnce looks what became of a timer that is not any more as it was known: perhaps its note was lost.
func (o *owner) lookAtOnce(m *stored) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.far.put(m.id, m.due, m.seq+1)
	o.busy--
	wake(o.wakeFetch)
}
