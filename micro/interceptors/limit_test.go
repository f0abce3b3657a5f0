package interceptors_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/interceptors"
)

func newLimiter(t testing.TB, cfg interceptors.LimitConfig) *interceptors.Limiter {
	t.Helper()
	l, err := interceptors.NewLimiter(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLimitConfig(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]interceptors.LimitConfig{
		"Min above Max":     {Min: 5, Max: 4},
		"Initial above Max": {Initial: 5, Max: 4},
		"negative":          {Min: -1},
		"ratio of one":      {BackoffRatio: 1},
		"ratio too low":     {BackoffRatio: 0.1},
		"negative timeout":  {Timeout: -1},
	} {
		_, err := interceptors.NewLimiter(cfg)
		if bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if l := newLimiter(t, interceptors.LimitConfig{Max: 5}); l.Limit() != 5 {
		t.Errorf("limit %d at first, want the 5 that are allowed", l.Limit())
	}
}

// load makes n callers call for a time, each again as soon as it is answered, and returns how many were refused.
func load(t *testing.T, l *interceptors.Limiter, n int, d time.Duration, h micro.UnaryHandler) (refused int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	limited := l.Intercept(h)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, err := limited(ctx, call(nil))
				if bus.CodeOf(err) != bus.Unavailable {
					continue
				}
				if bus.AsError(err).Details["reason"] != micro.ReasonOverloaded {
					t.Errorf("refused with %v", err)
				}
				mu.Lock()
				refused++
				mu.Unlock()
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	return refused
}

// A resource that takes 20 at a time: more than that and each takes as much longer. The limit finds it from both sides.
func TestLimitAdapts(t *testing.T) {
	t.Parallel()
	for _, initial := range []int{1, 100} {
		synctest.Test(t, func(t *testing.T) {
			l := newLimiter(t, interceptors.LimitConfig{Initial: initial, Max: 100, Timeout: 150 * time.Millisecond})
			resource := func(context.Context, *micro.Unary) (any, error) {
				time.Sleep(100 * time.Millisecond * time.Duration(max(20, l.InFlight())) / 20)
				return nil, nil
			}
			refused := load(t, l, 60, 20*time.Second, resource)
			if got := l.Limit(); got < 22 || got > 33 { // 30 at a time take 150 ms each
				t.Errorf("from %d: the limit is %d, want about 30", initial, got)
			}
			if refused == 0 {
				t.Error("none was refused")
			}
			if l.InFlight() != 0 {
				t.Errorf("%d are under way after all ended", l.InFlight())
			}
		})
	}
}

// Without load the limit stays, however quick the answers are.
func TestLimitUnused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, interceptors.LimitConfig{})
		load(t, l, 2, time.Second, func(context.Context, *micro.Unary) (any, error) {
			time.Sleep(time.Millisecond)
			return nil, nil
		})
		if l.Limit() != 20 {
			t.Errorf("limit %d, want 20", l.Limit())
		}
	})
}

// Calls that fail together are one sign, and a panic gives its place back.
func TestLimitFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, interceptors.LimitConfig{Initial: 100})
		var wg sync.WaitGroup
		limited := l.Intercept(func(context.Context, *micro.Unary) (any, error) {
			time.Sleep(time.Millisecond)
			return nil, bus.Errorf(bus.Unavailable, "no")
		})
		for range 50 {
			wg.Go(func() { _, _ = limited(t.Context(), call(nil)) })
		}
		wg.Wait()
		if l.Limit() != 90 {
			t.Errorf("limit %d after 50 failures at once, want 90", l.Limit())
		}
		func() {
			defer func() { _ = recover() }()
			_, _ = l.Intercept(func(context.Context, *micro.Unary) (any, error) { panic("x") })(t.Context(), call(nil))
		}()
		if l.InFlight() != 0 {
			t.Errorf("%d are under way", l.InFlight())
		}
	})
}

func BenchmarkLimiter(b *testing.B) {
	h := newLimiter(b, interceptors.LimitConfig{}).Intercept(answers(nil, nil))
	c := call(nil)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = h(b.Context(), c)
	}
}
