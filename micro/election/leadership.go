package election

import (
	"context"
	"fmt"
	"sync"

	"github.com/skybus-io/skybus/kv"
)

// Leadership is the right to act as the leader, from an election until [Leadership.Resign] or until it is lost. It is safe
// for concurrent use.
type Leadership struct {
	lease *kv.Lease

	mu        sync.Mutex
	ended     bool
	works     map[*workContext]struct{}
	resigning bool
	resigned  bool
}

func newLeadership(lease *kv.Lease) *Leadership {
	return &Leadership{lease: lease, works: map[*workContext]struct{}{}}
}

// Term is the fencing token of this leadership: of two leaderships of a service the later has the higher. Who hands work on
// sends it along.
func (l *Leadership) Term() kv.Term { return l.lease.Term() }

// Valid tells whether l leads now, for some time still. It compares clocks, asks no server, and takes some 100 ns: ask
// before each act. It is right from the first instruction after a freeze, when what waits for Lost was not told yet.
func (l *Leadership) Valid() bool { return l.lease.Valid() }

// Lost is closed when the leadership has ended: it was lost or resigned from.
func (l *Leadership) Lost() <-chan struct{} { return l.lease.Lost() }

// Resign gives the leadership up, so that the next is elected at once. It has ended when Resign returns, also with an
// error: then others wait for its TTL, and Resign may be called again. Who does not lead any more, because the leadership
// was lost or resigned from, gets [ErrNotLeader].
func (l *Leadership) Resign(ctx context.Context) error {
	l.mu.Lock()
	refused := l.resigned || !l.resigning && !l.lease.Valid()
	l.resigning = l.resigning || !refused
	l.mu.Unlock()
	if refused {
		return fmt.Errorf("election: resign: %w", ErrNotLeader)
	}
	l.end()
	if err := l.lease.Release(ctx); err != nil {
		return fmt.Errorf("election: resign: %w", err)
	}
	l.mu.Lock()
	l.resigned = true
	l.mu.Unlock()
	return nil
}

// Context is ctx, and ends besides when the leadership does, with the cause [ErrNotLeader]. Its Err and Done look at the
// clock like [Leadership.Valid] does; contexts made from it end a moment later. cancel ends it and frees what it holds.
func (l *Leadership) Context(ctx context.Context) (_ context.Context, cancel context.CancelFunc) {
	inner, end := context.WithCancelCause(ctx)
	w := &workContext{Context: inner, l: l, end: end}
	l.mu.Lock()
	ended := l.ended
	if !ended {
		l.works[w] = struct{}{}
	}
	l.mu.Unlock()
	if ended {
		end(ErrNotLeader)
	}
	return w, func() {
		l.mu.Lock()
		delete(l.works, w)
		l.mu.Unlock()
		end(context.Canceled)
	}
}

// end ends the contexts.
func (l *Leadership) end() {
	l.mu.Lock()
	l.ended = true
	works := l.works
	l.works = nil
	l.mu.Unlock()
	for w := range works {
		w.end(ErrNotLeader)
	}
}

// workContext ends with a leadership. After a freeze the deadline may be over before any timer told of it: so it looks.
type workContext struct {
	context.Context //nolint:containedctx // it is one

	l   *Leadership
	end context.CancelCauseFunc
}

func (w *workContext) look() {
	if !w.l.Valid() {
		w.end(ErrNotLeader)
	}
}

// Done is closed when the context has ended.
func (w *workContext) Done() <-chan struct{} {
	w.look()
	return w.Context.Done()
}

// Err is why the context has ended.
func (w *workContext) Err() error {
	w.look()
	return w.Context.Err()
}
