package leanhttp_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/internal/leanhttp"
)

// gated answers when it is told to.
func gated(t *testing.T) (b *backend, asked chan struct{}, answer chan struct{}) {
	t.Helper()
	asked, answer = make(chan struct{}, 10), make(chan struct{})
	ctx := t.Context()
	return listen(t, func(p *peer) {
		for {
			if _, _, ok := p.request(); !ok {
				return
			}
			select {
			case asked <- struct{}{}:
			default: // nobody counts them any more
			}
			select {
			case <-answer:
				p.say(ok)
			case <-ctx.Done():
				return
			}
		}
	}), asked, answer
}

// TestMaxOpen: who finds no connection free waits, in order, within its deadline and its ctx.
func TestMaxOpen(t *testing.T) {
	t.Parallel()
	b, asked, answer := gated(t)
	c := client(t, b.addr, leanhttp.Config{MaxOpen: 2})
	var running sync.WaitGroup
	var order []int
	var mu sync.Mutex
	for i := range 5 {
		running.Go(func() {
			if _, err := c.Do(t.Context(), put(nil)); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			order = append(order, i)
		})
		if i < 2 {
			<-asked
		} else {
			until(t, "it waits", func() bool { return c.Waiting() == i-1 })
		}
	}
	late := put(nil)
	late.Deadline = time.Now().Add(20 * time.Millisecond)
	_, err := c.Do(t.Context(), late)
	if e, ok := errors.AsType[*leanhttp.Error](err); !ok || !e.Timeout() || e.Sent {
		t.Errorf("got %v: want a timeout of a request that was not sent", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := c.Do(ctx, put(nil)); !errors.Is(err, context.Canceled) || !leanhttp.NotSent(err) {
		t.Errorf("got %v: want that it was cancelled and not sent", err)
	}
	for range 5 {
		answer <- struct{}{}
	}
	running.Wait()
	if b.conns.Load() != 2 {
		t.Errorf("got %d connections: want 2", b.conns.Load())
	}
	if open, idle := c.Count(); open != 2 || idle != 2 || len(order) != 5 {
		t.Errorf("got %d connections, %d idle, %v: want 2 and five answers", open, idle, order)
	}
}

// TestPlaceOfFailed: who waits gets the place of a request that failed.
func TestPlaceOfFailed(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	b := listen(t, func(p *peer) {
		_, _, _ = p.request()
		if n.Add(1) == 3 {
			p.say(ok)
		}
	})
	c := client(t, b.addr, leanhttp.Config{MaxOpen: 1})
	var running sync.WaitGroup
	var failed atomic.Int64
	for range 3 {
		running.Go(func() {
			if _, err := c.Do(t.Context(), put(nil)); err != nil {
				failed.Add(1)
			}
		})
	}
	running.Wait()
	if failed.Load() != 2 {
		t.Errorf("%d requests failed: want 2", failed.Load())
	}
}

// TestLastUsedFirst: of idle connections the one used last is taken, so that others can age.
func TestLastUsedFirst(t *testing.T) {
	t.Parallel()
	b, asked, answer := gated(t)
	c := client(t, b.addr, leanhttp.Config{MaxIdle: 3, IdleTimeout: 300 * time.Millisecond})
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			if _, err := c.Do(t.Context(), put(nil)); err != nil {
				t.Error(err)
			}
		})
		<-asked
	}
	for range 4 {
		answer <- struct{}{}
	}
	running.Wait()
	if open, idle := c.Count(); open != 3 || idle != 3 {
		t.Errorf("got %d connections, %d idle: want MaxIdle of 3", open, idle)
	}
	close(answer) // from now on at once
	until(t, "two are closed by their age, and one that is used is not", func() bool {
		if _, err := c.Do(t.Context(), put(nil)); err != nil {
			t.Fatal(err)
		}
		_, idle := c.Count()
		return idle == 1
	})
	if got := b.conns.Load(); got != 4 {
		t.Errorf("got %d connections: want the 4 of the begin", got)
	}
	until(t, "the last is closed by its age", func() bool { open, _ := c.Count(); return open == 0 })
}

// TestClose: idle connections are closed, who waits is refused, what is under way goes on.
func TestClose(t *testing.T) {
	t.Parallel()
	b, asked, answer := gated(t)
	c := client(t, b.addr, leanhttp.Config{MaxOpen: 1})
	var running sync.WaitGroup
	running.Go(func() {
		if _, err := c.Do(t.Context(), put(nil)); err != nil {
			t.Error(err)
		}
	})
	<-asked
	running.Go(func() {
		if _, err := c.Do(t.Context(), put(nil)); !errors.Is(err, leanhttp.ErrClosed) || !leanhttp.NotSent(err) {
			t.Errorf("got %v: want that it is closed", err)
		}
	})
	until(t, "it waits", func() bool { return c.Waiting() == 1 })
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Do(t.Context(), put(nil)); !errors.Is(err, leanhttp.ErrClosed) || !leanhttp.NotSent(err) {
		t.Errorf("got %v: want that it is closed", err)
	}
	answer <- struct{}{}
	running.Wait()
	if open, _ := c.Count(); open != 0 {
		t.Errorf("%d connections are left", open)
	}
}

// TestMany uses one client from many sides while the backend closes connections at random moments: every answer is that of its
// own request.
func TestMany(t *testing.T) {
	t.Parallel()
	b := listen(t, func(p *peer) {
		for i := 0; ; i++ {
			req, body, ok := p.request()
			if !ok {
				return
			}
			answer := req.RequestURI + string(body)
			p.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer))
			if len(answer)%7 == i%7 {
				return
			}
		}
	})
	c := client(t, b.addr, leanhttp.Config{MaxOpen: 5, MaxIdle: 3})
	var running sync.WaitGroup
	for i := range 16 {
		running.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for j := range 100 {
				req := put(make([]byte, j))
				req.Target, req.Repeatable = fmt.Sprintf("/%d/%d/", i, j), true
				for k := range req.Body {
					req.Body[k] = 'x'
				}
				status, got, err := 0, "", error(nil)
				if j%2 == 0 {
					status, got, err = read(ctx, c, req)
				} else if resp, derr := c.Do(ctx, req); derr == nil {
					status, got = resp.Status, string(resp.Body)
				} else {
					err = derr
				}
				if want := req.Target + string(req.Body); err != nil && !errors.Is(err, net.ErrClosed) || err == nil && (status != http.StatusOK || got != want) {
					t.Errorf("got %d, %q, %v: want %q", status, got, err, want)
				}
			}
		})
	}
	running.Wait()
	if open, idle := c.Count(); open > 3 || open != idle {
		t.Errorf("got %d connections, %d idle: want at most 3, all idle", open, idle)
	}
}
