package scheduler

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/internal/backoff"
)

// fireAll fires what is due until ctx ends.
func (o *owner) fireAll(ctx context.Context) {
	for ctx.Err() == nil {
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
			o.mu.Lock()
			o.far.put(m.id, now.Add(retryLater).UnixNano(), m.seq)
			o.busy--
			o.mu.Unlock()
		}
		return
	}
	// Half a grace before the server would do it, nothing is sent any more: what arrives there late would meet what the server has begun.
	if now.Sub(time.Unix(0, m.due)) > o.s.cfg.Grace/2 && !o.s.cfg.VirtualTime {
		o.s.counters.shed.Add(1)
		o.lookLater(m)
		return
	}
	future, err := o.s.firing.PublishMsgAsync(o.sh.dueMessage(m, now))
	if err != nil {
		o.lookLater(m)
		return
	}
	select {
	case o.fires <- fire{m, now, future}:
	case <-ctx.Done():
	}
}

// collect hears what came of the fires.
func (o *owner) collect(ctx context.Context) {
	for {
		var f fire
		select {
		case f = <-o.fires:
		case <-ctx.Done():
			return
		}
		select {
		case <-f.future.Ok():
			o.s.counters.fired.Add(1)
			o.s.tellFired(f.m, f.at)
			o.done(1)
		case err := <-f.future.Err():
			if errors.Is(storeError(err), errConflict) {
				o.done(1) // somebody fired, changed or cancelled it
				continue
			}
			o.lookLater(f.m)
		case <-ctx.Done():
			return
		}
	}
}

// tellFired tells that an occurrence was fired.
func (s *Scheduler) tellFired(m *stored, at time.Time) {
	s.tell(Event{
		Kind: Fired, ID: m.id, Time: at.UTC(), Due: time.Unix(0, m.due).UTC(),
		Occurrence: m.record.N, Delivery: m.record.delivery(m.id),
	})
}

const (
	sweepSlack = 2 * time.Second // after the server should have fired
	sweepEvery = 5 * time.Second
	sweepRetry = time.Minute // between looks at what waits to be tried again
)

// lookLater remembers a timer that the server will fire by itself, to see whether it does.
func (o *owner) lookLater(m *stored) {
	at := max(m.due, o.sh.clock.at(time.Now()).UnixNano()) + int64(o.s.cfg.Grace+sweepSlack)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.overdue.put(m.id, at, m.seq)
	o.busy--
}

// sweep fires what the server has failed to: a schedule whose message it could not store once, it does not try again before its next start.
func (o *owner) sweep(ctx context.Context) {
	retries := time.Now()
	for backoff.Sleep(ctx, sweepEvery) {
		o.sweepOverdue(ctx)
		if time.Since(retries) > sweepRetry {
			retries = time.Now()
			if err := o.s.sweepRetries(ctx, o.sh, sweepSlack); err != nil && ctx.Err() == nil {
				o.s.log.WarnContext(ctx, "deliveries that wait to be tried again not looked through", "shard", o.sh.shard, "error", err)
			}
		}
	}
}

func (o *owner) sweepOverdue(ctx context.Context) {
	for ctx.Err() == nil {
		now := o.sh.clock.at(time.Now())
		o.mu.Lock()
		e, ok := o.overdue.first()
		if ok = ok && e.due <= now.UnixNano(); ok {
			o.overdue.pop()
		}
		o.mu.Unlock()
		if !ok || !o.sweepOne(ctx, e, now) {
			return
		}
	}
}

// sweepOne fires a timer that the server should have fired, and tells whether to go on.
func (o *owner) sweepOne(ctx context.Context, e entry, now time.Time) bool {
	m, err := o.sh.pending(ctx, e.id)
	if errors.Is(err, errNone) || err == nil && (m.seq != e.seq || m.record.Paused) {
		return true // fired, or changed: then it was heard of
	}
	if err == nil {
		err = o.s.storeDue(ctx, o.sh.dueMessage(m, now))
	}
	switch {
	case err == nil:
		o.s.counters.swept.Add(1)
		o.s.tellFired(m, now)
	case errors.Is(err, errConflict):
	case ctx.Err() != nil:
	default: // no room, or no leader
		o.mu.Lock()
		o.overdue.put(e.id, now.Add(sweepEvery).UnixNano(), e.seq)
		o.mu.Unlock()
		return false
	}
	return true
}

// firingContext is where owners publish what fires.
func firingContext(s *Scheduler) (jetstream.JetStream, error) {
	return jetstream.New(s.conn.NATS(), jetstream.WithPublishAsyncMaxPending(2*fireWindow*DefaultShards), jetstream.WithPublishAsyncTimeout(createWait))
}
