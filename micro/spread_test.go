package micro_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// What one instance refuses because it has too much to do goes to another.
func TestRefusedGoesElsewhere(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	release := make(chan struct{})
	entered := make(chan string, 10)
	for _, id := range []string{"a", "b"} {
		serve(t, connect(t, s), micro.Config{Name: "x", Instance: id, Concurrency: 1}, endpoint("y", func(_ context.Context, hold bool) (string, error) {
			if hold {
				entered <- id
				bustest.Hold(t, release)
			}
			return id, nil
		}))
	}
	c := newClient(t, connect(t, s), micro.ClientConfig{Timeout: time.Minute, Patience: patience})
	sees(t, c, "x", 2)
	held := make(chan error, 2)
	hold := func(opts ...micro.CallOption) string {
		go func() {
			_, err := micro.Call[string](t.Context(), c, "x.y", true, opts...)
			held <- err
		}()
		return bustest.Receive(t, "the handler", entered)
	}
	full := hold()
	for range 50 {
		if id, err := micro.Call[string](t.Context(), c, "x.y", false); err != nil || id == full {
			t.Fatalf("answered by %q, %v, while %s is full", id, err, full)
		}
	}
	// Both are full: that is told at once.
	hold()
	start := time.Now()
	_, err := micro.Call[string](t.Context(), c, "x.y", false)
	wantCode(t, err, bus.Unavailable, "handles 1 requests already")
	if took := time.Since(start); took > patience/2 {
		t.Errorf("it took %v", took)
	}
	close(release)
	for range 2 {
		if err := bustest.Receive(t, "the caller", held); err != nil {
			t.Error(err)
		}
	}
}

// While two versions run, an endpoint counts as idempotent only if both say so.
func TestIdempotentInAllVersions(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var handled atomic.Int64
	slow := func(ctx context.Context, _ hello) (greeting, error) {
		handled.Add(1)
		<-ctx.Done()
		return greeting{}, ctx.Err()
	}
	serve(t, connect(t, s), micro.Config{Name: "x", Instance: "a", Version: "1.0.0"}, endpoint("y", slow, micro.Idempotent()))
	serve(t, connect(t, s), micro.Config{Name: "x", Instance: "b", Version: "2.0.0"}, endpoint("y", slow))
	c := newClient(t, connect(t, s), micro.ClientConfig{Timeout: 500 * time.Millisecond, AttemptTimeout: 100 * time.Millisecond})
	sees(t, c, "x", 2)
	for range 4 {
		_, err := micro.Call[greeting](t.Context(), c, "x.y", hello{})
		wantCode(t, err, bus.DeadlineExceeded, "")
	}
	if n := handled.Load(); n != 4 {
		t.Errorf("4 calls were handled %d times", n)
	}
	// The one that says so is called again when it is addressed.
	_, err := micro.Call[greeting](t.Context(), c, "x.y", hello{}, micro.ToInstance("a"))
	wantCode(t, err, bus.DeadlineExceeded, "")
	if n := handled.Load(); n < 6 {
		t.Errorf("an idempotent call was handled %d times", n-4)
	}
}
