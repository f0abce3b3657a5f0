package micro

import (
	"bytes"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// goroutine is the first line of its stack, up to its state.
func goroutine() string {
	stack := make([]byte, 64)
	name, _, _ := bytes.Cut(stack[:runtime.Stack(stack, false)], []byte(" ["))
	return string(name)
}

// One request after the other is handled by the same goroutine, and any number at the same time, after which some of the goroutines stay.
func TestHandlersReuse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHandlers(t.Context())
		var seen []string
		for range 3 {
			h.start(func() { seen = append(seen, goroutine()) })
			synctest.Wait()
		}
		if len(seen) != 3 || seen[0] != seen[1] || seen[1] != seen[2] {
			t.Errorf("handled by %q, want the same three times", seen)
		}
		for range 2 {
			const n = 3 * keptWorkers
			var all sync.WaitGroup
			all.Add(n)
			for range n {
				h.start(func() {
					all.Done()
					all.Wait() // they run at the same time, or never end
				})
			}
			synctest.Wait()
			if running, waiting := h.count.Load(), h.waiting.Load(); running != 0 || waiting != keptWorkers {
				t.Errorf("%d run and %d goroutines wait, want 0 and %d", running, waiting, keptWorkers)
			}
		}
		var ends sync.WaitGroup
		for range 2 {
			ends.Go(func() {
				if left := h.end(time.Second); left != 0 {
					t.Errorf("%d are left", left)
				}
			})
		}
		ends.Wait()
		if waiting := h.waiting.Load(); waiting != 0 {
			t.Errorf("%d goroutines wait after the end", waiting)
		}
	})
}

// A handler that ends its goroutine is counted as done, and others go on.
func TestHandlersGoexit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHandlers(t.Context())
		h.start(runtime.Goexit)
		synctest.Wait()
		ran := false
		h.start(func() { ran = true })
		synctest.Wait()
		if left := h.end(time.Second); left != 0 || !ran {
			t.Errorf("%d are left, the next ran: %t", left, ran)
		}
	})
}

// Handlers that do not end are told of after a while, and those that come too late run all the same.
func TestHandlersLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHandlers(t.Context())
		release := make(chan struct{})
		for range 2 {
			h.start(func() { <-release })
		}
		h.start(func() {})
		if left := h.end(time.Minute); left != 2 {
			t.Errorf("%d are left, want 2", left)
		}
		h.start(func() { close(release) })
		if left := h.end(time.Minute); left != 0 {
			t.Errorf("%d are left, want none", left)
		}
	})
}
