package kv

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/skybus-io/skybus/internal/backoff"
)

const (
	renewals  = 3 // per ttl
	minMargin = 100 * time.Millisecond
	maxMargin = 5 * time.Second
)

// Lease is a right that at most one has at a time: the one whose [Lease.Valid] is true. It is renewed three times per ttl
// until [Lease.Release], and ends by itself when renewing did not work in time. It is safe for concurrent use.
//
// Valid is a matter of clocks: between asking and acting time passes, and a process may be frozen there for long. Work that
// must not be done twice carries [Lease.Term] along, and who receives it refuses a term lower than one it has seen.
type Lease struct {
	t      *Table[leaseRecord]
	key    string
	owner  string
	ttl    time.Duration
	term   Term
	lost   chan struct{}
	cancel context.CancelFunc
	kept   chan struct{} // closed when keep has ended

	mu       sync.Mutex
	rev      uint64
	deadline time.Time
	watchdog *time.Timer // ends the lease at the deadline, whatever keep waits for
	ended    bool
	released bool
}

// Key is the key of the lease.
func (l *Lease) Key() string { return l.key }

// Term tells this holding of the lease from all others, before and after.
func (l *Lease) Term() Term { return l.term }

// Deadline is until when the lease is valid if it is not renewed again: the ttl from when the last acknowledged renewal
// was sent, less a margin of a twentieth (0.1 to 5 s) for clocks that run apart.
func (l *Lease) Deadline() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deadline
}

// Valid tells whether the lease is held now, for some time still. It asks no server.
func (l *Lease) Valid() bool {
	select {
	case <-l.lost:
		return false
	default:
	}
	return before(l.Deadline())
}

// Lost is closed when the lease has ended: its deadline passed, somebody else holds it, or it was released.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Release gives the lease up, so that somebody else can have it at once. The lease has ended when Release returns, also
// with an error; then it is free only after its ttl, and Release may be called again. To release what is lost, or was
// released, does nothing.
func (l *Lease) Release(ctx context.Context) error {
	l.end()
	select {
	case <-l.kept:
	case <-ctx.Done():
		return l.t.b.keyError("release", l.key, context.Cause(ctx))
	}
	l.mu.Lock()
	rev, released := l.rev, l.released
	l.mu.Unlock()
	if released {
		return nil
	}
	if err := l.remove(ctx, rev); err != nil {
		return err
	}
	l.mu.Lock()
	l.released = true
	l.mu.Unlock()
	return nil
}

func (l *Lease) remove(ctx context.Context, rev uint64) error {
	err := l.t.Delete(ctx, l.key, IfRevision(rev))
	if !errors.Is(err, ErrConflict) {
		return err
	}
	// A renewal may have been stored without our hearing of it.
	e, err := l.t.Get(ctx, l.key)
	switch {
	case err == nil && holderOf(e).Term == l.term:
		err = l.t.Delete(ctx, l.key, IfRevision(e.Revision))
	case errors.Is(err, ErrNotFound):
		err = nil
	}
	if errors.Is(err, ErrConflict) { // expired and taken just now
		err = nil
	}
	return err
}

// end makes the lease lost.
func (l *Lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLocked()
}

func (l *Lease) endLocked() {
	if !l.ended {
		l.ended = true
		l.watchdog.Stop()
		l.cancel()
		close(l.lost)
	}
}

// expire is the watchdog's.
func (l *Lease) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !before(l.deadline) { // not extended just now
		l.endLocked()
	}
}

// extend moves the deadline, unless the lease has ended.
func (l *Lease) extend(rev uint64, sent time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rev = rev
	if l.ended || !before(l.deadline) {
		return false
	}
	l.deadline = sent.Add(l.ttl - margin(l.ttl))
	l.watchdog.Reset(time.Until(l.deadline))
	return true
}

// keep renews the lease until ctx ends or the lease is lost.
func (l *Lease) keep(ctx context.Context) {
	defer close(l.kept)
	defer l.end()
	loss := make(chan struct{}, 1)
	stop := l.t.b.conn.NotifyLoss(loss)
	defer stop()
	timer := time.NewTimer(l.untilRenewal())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-loss: // the server may have lost the lease
		case <-timer.C:
		}
		if !l.renew(ctx) {
			return
		}
		timer.Reset(l.untilRenewal())
	}
}

func (l *Lease) untilRenewal() time.Duration {
	sent := l.Deadline().Add(margin(l.ttl) - l.ttl)
	return max(0, time.Until(sent.Add(l.ttl/renewals)))
}

// renew tells whether the lease is still held. It goes on trying until the deadline.
func (l *Lease) renew(ctx context.Context) bool {
	value := leaseRecord{Owner: l.owner, Epoch: l.term.Epoch, Term: l.term.Revision}
	l.mu.Lock()
	rev := l.rev
	l.mu.Unlock()
	for l.Valid() {
		sent := time.Now()
		renewed, err := l.t.Update(ctx, l.key, value, rev, TTL(l.ttl))
		switch {
		case err == nil:
			return l.extend(renewed, sent)
		case errors.Is(err, ErrConflict), ctx.Err() != nil:
			return false
		}
		l.t.b.log.DebugContext(ctx, "lease is not renewed yet", "key", l.key, "error", err)
		if !backoff.Sleep(ctx, pause()) {
			return false
		}
	}
	return false
}

// before tells whether now is before t by all clocks: the monotonic one stands still while the machine sleeps, the wall
// clock can be set back.
func before(t time.Time) bool {
	now := time.Now()
	return now.Before(t) && now.Round(0).Before(t.Round(0))
}

func margin(ttl time.Duration) time.Duration { return min(max(ttl/20, minMargin), maxMargin) }
