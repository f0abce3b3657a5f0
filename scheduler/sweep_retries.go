package scheduler

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// retriesAgain is how often all that waits to be tried again is read anew: a replica that was asked may have been behind.
const retriesAgain = time.Hour

// retrying is what is known of the deliveries of a shard that wait to be tried again. Each is read once, with its payload, as there is no other
// way; later it is only asked for by name whether it is there still.
type retrying struct {
	waiting *queue    // by the end of their subjects, and by when the next attempt is
	read    uint64    // up to here the stream was read
	since   time.Time // when that was begun
}

// sweepRetries fires deliveries whose next attempt should have been fired by the server slack ago.
func (o *owner) sweepRetries(ctx context.Context, slack time.Duration) error {
	select {
	case o.sweeping <- struct{}{}:
		defer func() { <-o.sweeping }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	now, err := o.sh.clock.now(ctx)
	if err != nil {
		return err
	}
	if err := o.readRetries(ctx); err != nil {
		return err
	}
	for due := now.Add(-slack).UnixNano(); ctx.Err() == nil; {
		late := o.retries.late(due)
		if len(late) == 0 {
			return nil
		}
		if err := o.fireRetries(ctx, late, due); err != nil {
			for _, e := range late { // those that are fired are gone when it looks again
				o.retries.waiting.put(e.id, e.due, e.seq)
			}
			return err
		}
	}
	return context.Cause(ctx)
}

// readRetries reads what was stored since it did so last.
func (o *owner) readRetries(ctx context.Context) error {
	info, err := o.sh.stream.Info(ctx)
	if err != nil {
		return err
	}
	r := &o.retries
	if r.waiting == nil || info.State.LastSeq < r.read || time.Since(r.since) > retriesAgain { // or another stream of that name
		*r = retrying{waiting: newQueue(), since: time.Now()}
	}
	if info.State.LastSeq == r.read {
		return nil
	}
	all := o.sh.all(kindRetry)
	err = o.s.scan(ctx, o.sh, all, r.read+1, func(m *nats.Msg, seq uint64) bool {
		if at, ok := nextAttempt(m.Header); ok && !isGone(m) {
			r.waiting.put(strings.Clone(m.Subject[len(all)-1:]), at.UnixNano(), seq)
		}
		r.read = seq
		return true
	})
	if err == nil && !o.sh.replicated() { // else who answered may have had less
		r.read = max(r.read, info.State.LastSeq)
	}
	return err
}

// late takes out those that were due before, as many as are asked for at a time.
func (r *retrying) late(due int64) (late []entry) {
	for len(late) < fetchSize {
		e, ok := r.waiting.first()
		if !ok || e.due >= due {
			break
		}
		late = append(late, r.waiting.pop())
	}
	return late
}

// fireRetries fires those that are there still.
func (o *owner) fireRetries(ctx context.Context, late []entry, due int64) error {
	subjects := make([]string, len(late))
	for i, e := range late {
		subjects[i] = o.sh.subject(kindRetry, e.id)
	}
	var failed error
	err := o.s.lasts(ctx, o.sh, subjects, func(msg *nats.Msg, seq uint64) {
		at, ok := nextAttempt(msg.Header)
		if failed != nil || !ok || isGone(msg) || at.UnixNano() >= due { // one that was put off once more is read, or will be
			return
		}
		m, err := readStored(msg.Subject, seq, storedAt(msg), msg.Header, msg.Data)
		if err != nil {
			return
		}
		if err := o.s.storeDue(ctx, o.sh.againMessage(m)); err != nil && !errors.Is(err, errConflict) {
			failed = err
			return
		}
		o.s.counters.swept.Add(1)
	})
	return errors.Join(err, failed)
}

// nextAttempt is when the server is to fire a message.
func nextAttempt(h nats.Header) (time.Time, bool) {
	text, ok := strings.CutPrefix(first(h, headerSchedule), "@at ")
	if !ok {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	return at, err == nil
}
