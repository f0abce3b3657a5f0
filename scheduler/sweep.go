package scheduler

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/internal/backoff"
)

const (
	sweepSlack    = 2 * time.Second // after the server should have fired, before the first look
	sweepEvery    = 5 * time.Second
	sweepPatience = 10 * time.Second // a server that has much to fire gets that long, and
	sweepLongest  = time.Minute      // so long while it is seen to fire
	sweepRetry    = time.Minute      // between looks at what waits to be tried again
)

// sweep fires what the server has failed to: a schedule whose message it could not store once, it does not try again before its next start.
// A server that is only slow must not be helped: what it has collected it fires once more.
func (o *owner) sweep(ctx context.Context) {
	retries := time.Now()
	for backoff.Sleep(ctx, sweepEvery) {
		o.sweepOverdue(ctx)
		if time.Since(retries) > sweepRetry {
			retries = time.Now()
			if err := o.sweepRetries(ctx, sweepPatience); err != nil && ctx.Err() == nil {
				o.s.log.WarnContext(ctx, "deliveries that wait to be tried again not looked through", "shard", o.sh.shard, "error", err)
			}
		}
	}
}

// sweepOverdue looks at all that is to be looked at now.
func (o *owner) sweepOverdue(ctx context.Context) {
	for ctx.Err() == nil {
		now := o.sh.clock.at(time.Now())
		o.mu.Lock()
		e, ok := o.overdue.first()
		if ok = ok && e.due <= now.UnixNano(); ok {
			o.overdue.pop()
		}
		o.mu.Unlock()
		if !ok {
			return
		}
		m, err := o.s.pending(ctx, o.sh, e.id)
		switch {
		case errors.Is(err, errNone), err == nil && (m.seq != e.seq || m.record.Paused):
			o.mu.Lock()
			o.moved = now // fired, or changed: then it was heard of
			o.mu.Unlock()
		case err != nil:
			o.lookAgain(e, now)
			return
		case !o.stuck(m, now):
			o.lookAgain(e, now)
		default:
			if !o.sweepOne(ctx, m, now) {
				o.lookAgain(e, now)
				return
			}
		}
	}
}

// stuck tells whether the server will not fire m any more: it had the time to, and has fired nothing else for a while.
func (o *owner) stuck(m *stored, now time.Time) bool {
	if o.s.cfg.VirtualTime {
		return true // what is due by that is not by the server's own
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	begun := m.overdue()
	if begun.Before(o.since) {
		begun = o.since
	}
	since := now.Sub(begun)
	return since > sweepLongest || since > sweepPatience && now.Sub(o.moved) > sweepPatience
}

func (o *owner) lookAgain(e entry, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.overdue.put(e.id, now.Add(sweepEvery).UnixNano(), e.seq)
}

// sweepOne fires m, and tells whether that is done with.
func (o *owner) sweepOne(ctx context.Context, m *stored, now time.Time) bool {
	err := o.s.storeDue(ctx, o.sh.dueMessage(m, now))
	if err == nil {
		o.s.counters.swept.Add(1)
		o.s.tellFired(m, now)
	}
	return err == nil || errors.Is(err, errConflict)
}

// retries calls f with the deliveries of a shard that wait to be tried again, from a sequence on, until it returns false.
func (s *Scheduler) retries(ctx context.Context, sh *shard, from uint64, f func(*stored) bool) error {
	return s.scan(ctx, sh, sh.all(kindRetry), from, func(msg *nats.Msg, seq uint64) bool {
		m, err := readStored(msg.Subject, seq, storedAt(msg), msg.Header, msg.Data)
		return err != nil || isGone(msg) || f(m)
	})
}

// againMessage makes a delivery that waits one that is due, as the server would.
func (s space) againMessage(m *stored) *nats.Msg {
	h := nats.Header{}
	for name, values := range m.header {
		if !strings.HasPrefix(name, "Nats-") {
			h[name] = values
		}
	}
	h[headerExpectSeq], h[headerExpectSubject] = []string{itoa(m.seq)}, []string{m.subject}
	h[headerScheduleNext], h[headerScheduler] = []string{"purge"}, []string{m.subject}
	return &nats.Msg{Subject: s.subject(kindDue, m.id), Header: h, Data: m.body}
}
