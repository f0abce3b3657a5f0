package micro

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const flushTimeout = 2 * time.Second

// handlers are the running handlers of one endpoint and the ctx they live under, which outlives that of the service by the
// time it takes to drain.
type handlers struct {
	running sync.WaitGroup
	count   atomic.Int64
	base    func() context.Context
	cancel  context.CancelFunc
}

func newHandlers(ctx context.Context) *handlers {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	return &handlers{base: func() context.Context { return base }, cancel: cancel}
}

func (h *handlers) start(f func()) {
	h.count.Add(1)
	h.running.Go(func() {
		defer h.count.Add(-1)
		f()
	})
}

// end waits for the handlers; after wait their ctx ends, and they are given a moment to notice. It returns how many did
// not.
func (h *handlers) end(wait time.Duration) (left int64) {
	done := make(chan struct{})
	go func() {
		h.running.Wait()
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
