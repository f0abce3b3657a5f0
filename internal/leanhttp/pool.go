package leanhttp

import (
	"context"
	"os"
	"slices"
	"sync"
	"time"
)

// pool is the connections of a client: places, of which some have an idle connection.
type pool struct {
	maxOpen, maxIdle int
	idleTimeout      time.Duration

	mu      sync.Mutex
	open    int     // places taken, by idle connections too
	idle    []*conn // the one used last at the end
	waiting []*waiter
	closed  bool
	reaper  *time.Timer // runs while there are idle ones
}

// waiter is who waits for a connection or a place.
type waiter struct {
	got chan grant // has room for one
}

// grant is an idle connection, or a place to make one, or an error.
type grant struct {
	conn *conn
	err  error
}

// take returns an idle connection, or nil and a place to make one. Whoever has a place gives it back by put or release.
func (p *pool) take(ctx context.Context, deadline time.Time) (*conn, error) {
	cn, w, err := p.tryTake()
	if w != nil {
		cn, err = p.wait(ctx, deadline, w)
	}
	if err != nil || cn == nil {
		return nil, err
	}
	if !cn.alive(deadline) {
		cn.close()
		return nil, nil // its place is free
	}
	return cn, nil
}

// tryTake returns a waiter if there is neither a connection nor a place.
func (p *pool) tryTake() (*conn, *waiter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, ErrClosed
	}
	if n := len(p.idle); n > 0 {
		cn := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		return cn, nil, nil
	}
	if p.open < p.maxOpen {
		p.open++
		return nil, nil, nil
	}
	w := &waiter{got: make(chan grant, 1)}
	p.waiting = append(p.waiting, w)
	return nil, w, nil
}

func (p *pool) wait(ctx context.Context, deadline time.Time, w *waiter) (*conn, error) {
	var late <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		late = timer.C
	}
	var err error
	select {
	case g := <-w.got:
		return g.conn, g.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-late:
		err = os.ErrDeadlineExceeded
	}
	p.mu.Lock()
	i := slices.Index(p.waiting, w)
	if i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	p.mu.Unlock()
	if i >= 0 {
		return nil, err
	}
	if g := <-w.got; g.conn != nil { // it came at the same moment
		p.put(g.conn)
	} else if g.err == nil {
		p.release()
	}
	return nil, err
}

// put gives an idle connection back with its place.
func (p *pool) put(cn *conn) {
	p.mu.Lock()
	switch {
	case p.closed || len(p.waiting) == 0 && len(p.idle) >= p.maxIdle:
		p.mu.Unlock()
		cn.close()
		p.release()
		return
	case len(p.waiting) > 0:
		p.grantLocked(grant{conn: cn})
	default:
		cn.since = time.Now()
		p.idle = append(p.idle, cn)
		if len(p.idle) == 1 {
			p.reapLocked(p.idleTimeout)
		}
	}
	p.mu.Unlock()
}

// release gives a place back whose connection is closed.
func (p *pool) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) > 0 {
		p.grantLocked(grant{})
		return
	}
	p.open--
}

func (p *pool) grantLocked(g grant) {
	p.waiting[0].got <- g // has room
	p.waiting = slices.Delete(p.waiting, 0, 1)
}

// reapLocked looks for connections that are idle for too long, in d.
func (p *pool) reapLocked(d time.Duration) {
	if p.reaper == nil {
		p.reaper = time.AfterFunc(d, p.reap)
		return
	}
	p.reaper.Reset(d)
}

func (p *pool) reap() {
	now := time.Now()
	p.mu.Lock()
	n := 0 // those idle for longest are first
	for n < len(p.idle) && now.Sub(p.idle[n].since) >= p.idleTimeout {
		n++
	}
	old := slices.Clone(p.idle[:n])
	p.idle = slices.Delete(p.idle, 0, n)
	if len(p.idle) > 0 {
		p.reapLocked(p.idleTimeout - now.Sub(p.idle[0].since))
	}
	p.mu.Unlock()
	p.discard(old)
}

// discard closes connections and gives their places back.
func (p *pool) discard(all []*conn) {
	for _, cn := range all {
		cn.close()
		p.release()
	}
}

func (p *pool) closeIdle() {
	p.mu.Lock()
	all := p.idle
	p.idle = nil
	if p.reaper != nil {
		p.reaper.Stop()
	}
	p.mu.Unlock()
	p.discard(all)
}

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	for len(p.waiting) > 0 {
		p.grantLocked(grant{err: ErrClosed})
	}
	p.mu.Unlock()
	p.closeIdle()
}

// count returns how many connections are open, and how many of them are idle.
func (p *pool) count() (open, idle int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open, len(p.idle)
}
