package micro

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	flushTimeout = 2 * time.Second
	keptWorkers  = 64 // of each endpoint that wait for the next request
)

// handlers are the running handlers of one endpoint and the ctx they live under, which outlives that of the service by the
// time it takes to drain. They run in goroutines that are used again: a new one has a small stack, and what decodes a request needs a larger one,
// to which all is copied.
type handlers struct {
	running sync.WaitGroup
	count   atomic.Int64
	base    func() context.Context
	cancel  context.CancelFunc

	workers sync.WaitGroup
	waiting atomic.Int64
	work    chan func()
	over    chan struct{} // closed when workers wait no longer
	ending  sync.Once
}

func newHandlers(ctx context.Context) *handlers {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	return &handlers{base: func() context.Context { return base }, cancel: cancel, work: make(chan func()), over: make(chan struct{})}
}

func (h *handlers) start(f func()) {
	h.count.Add(1)
	h.running.Add(1)
	select {
	case h.work <- f:
	default: // none waits
		h.workers.Go(func() { h.runAll(f) })
	}
}

// runAll runs f, and what comes after it.
func (h *handlers) runAll(f func()) {
	for f != nil {
		h.run(f)
		f = h.next()
	}
}

func (h *handlers) run(f func()) {
	defer h.running.Done() // also where f ends the goroutine
	defer h.count.Add(-1)
	f()
}

// next waits for another handler to run. It is nil where enough others wait, and when there will be none.
func (h *handlers) next() func() {
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > keptWorkers {
		return nil
	}
	select {
	case f := <-h.work:
		return f
	case <-h.over:
		return nil
	}
}

// end waits for the handlers; after wait their ctx ends, and they are given a moment to notice. It returns how many did
// not. It may be called twice, also at the same time.
func (h *handlers) end(wait time.Duration) (left int64) {
	h.ending.Do(func() { close(h.over) })
	done := make(chan struct{})
	go func() {
		h.running.Wait()
		h.workers.Wait()
		close(done)
	}()
	defer h.cancel()
	late := time.NewTimer(max(0, wait))
	defer late.Stop()
	select {
	case <-done:
		return 0
	case <-late.C:
	}
	h.cancel()
	select {
	case <-done:
	case <-time.After(flushTimeout):
	}
	return h.count.Load()
}
