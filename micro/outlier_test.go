package micro_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/balance"
)

// serveFailing runs an instance that answers "are" with its id, or with an error while failing is set to a code.
func serveFailing(t testing.TB, s *bustest.Node, id string, failing *atomic.Value, handled *atomic.Int64) {
	t.Helper()
	serve(t, connect(t, s), micro.Config{Name: "who", Instance: id}, endpoint("are", func(context.Context, hello) (string, error) {
		handled.Add(1)
		if code, _ := failing.Load().(bus.Code); code != "" {
			return "", bus.Errorf(code, "broken")
		}
		return id, nil
	}))
}

// failures makes n calls and counts those that failed.
func failures(t testing.TB, c *micro.Client, n int, opts ...micro.CallOption) (failed int) {
	t.Helper()
	for range n {
		if _, err := micro.Call[string](t.Context(), c, "who.are", hello{}, opts...); err != nil {
			failed++
		}
	}
	return failed
}

// One instance of three that fails is left out, asked again by one request when its time is over, and back when that was
// answered. So it is with the queue group and with a policy.
func TestOutlierIsEjected(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]balance.Policy{"queue group": nil, "round robin": balance.RoundRobin()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := bustest.Server(t)
			var fine, bad atomic.Value
			var others, handled atomic.Int64
			serveFailing(t, s, "a", &fine, &others)
			serveFailing(t, s, "b", &bad, &handled)
			serveFailing(t, s, "c", &fine, &others)
			var book logBook
			const out = 3 * time.Second // longer than a busy machine takes for 60 calls
			c := newClient(t, connect(t, s), micro.ClientConfig{
				Policy: policy, Logger: book.logger(), Outliers: micro.OutlierConfig{BaseEjectionTime: out, Interval: time.Hour},
			})
			sees(t, c, "who", 3)
			if by := spread(t, c, 60); len(by) != 3 {
				t.Fatalf("answers %v", by)
			}
			bad.Store(bus.Internal)
			if failed := failures(t, c, 60); failed != 5 {
				t.Errorf("%d of 60 calls failed, want the 5 that eject", failed)
			}
			ejected := time.Now()
			if !strings.Contains(book.String(), "instance=b") {
				t.Errorf("the log does not tell of it: %s", book.String())
			}
			before := handled.Load()
			if failed := failures(t, c, 60); failed != 0 || handled.Load() != before {
				t.Errorf("%d calls failed, %d went to the one that is out", failed, handled.Load()-before)
			}
			// Its time is over: of many calls few are probes, and it is out again for longer.
			<-time.After(time.Until(ejected.Add(out)))
			if failed := failures(t, c, 100); failed != 1 {
				t.Errorf("%d of 100 calls failed, want the one that was its probe", failed)
			}
			probed := time.Now()
			bad.Store(bus.Code(""))
			if by := spread(t, c, 60); by["b"] != 0 {
				t.Errorf("answers %v while it is out", by)
			}
			<-time.After(time.Until(probed.Add(2 * out)))
			if by := spread(t, c, 90); by["b"] < 10 {
				t.Errorf("answers %v when it is well again", by)
			}
		})
	}
}

// Of many calls at the same time only one is the probe, however long that takes.
func TestOneProbe(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var bad atomic.Bool
	var probes atomic.Int64
	release := make(chan struct{})
	serve(t, connect(t, s), micro.Config{Name: "who", Instance: "a"}, endpoint("are", func(context.Context, hello) (string, error) {
		if bad.Load() {
			return "", bus.Errorf(bus.Unavailable, "broken")
		}
		probes.Add(1)
		bustest.Hold(t, release)
		return "a", nil
	}))
	serveWho(t, s, micro.Config{Name: "who", Instance: "b"})
	const out = 2 * time.Second
	c := newClient(t, connect(t, s), micro.ClientConfig{Outliers: micro.OutlierConfig{BaseEjectionTime: out}})
	sees(t, c, "who", 2)
	bad.Store(true)
	if failed := failures(t, c, 60); failed != 5 {
		t.Fatalf("%d of 60 calls failed, want the 5 that eject", failed)
	}
	bad.Store(false)
	<-time.After(out)
	var wg sync.WaitGroup
	var answered atomic.Int64
	const calls = 50
	for range calls {
		wg.Go(func() {
			if _, err := micro.Call[string](t.Context(), c, "who.are", hello{}); err != nil {
				t.Error(err)
			}
			answered.Add(1)
		})
	}
	bustest.Eventually(t, "all others to be answered", func() bool { return answered.Load() == calls-1 })
	if n := probes.Load(); n != 1 {
		t.Errorf("%d probes", n)
	}
	close(release)
	wg.Wait()
}

// Where all fail, all but one are still asked; and what is no failure of an instance leaves nobody out.
func TestOutlierNotAll(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var state atomic.Value
	var handled [3]atomic.Int64
	for i := range handled {
		serveFailing(t, s, fmt.Sprint("i", i), &state, &handled[i])
	}
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	off := newClient(t, connect(t, s), micro.ClientConfig{Outliers: micro.OutlierConfig{Off: true}})
	sees(t, c, "who", 3)
	sees(t, off, "who", 3)
	counts := func() (n [3]int64, least int64) {
		least = 1 << 60
		for i := range handled {
			n[i] = handled[i].Swap(0)
			least = min(least, n[i])
		}
		return n, least
	}
	state.Store(bus.NotFound)
	failures(t, c, 90)
	if n, least := counts(); least == 0 {
		t.Errorf("an answer was held against somebody: %v", n)
	}
	state.Store(bus.Unavailable)
	failures(t, c, 90) // ejects whom it can
	counts()
	if failed := failures(t, c, 90); failed != 90 {
		t.Errorf("%d calls failed", failed)
	}
	n, _ := counts()
	asked := 0
	for _, k := range n {
		if k > 0 {
			asked++
		}
	}
	if asked < 2 || n[0]+n[1]+n[2] != 90 {
		t.Errorf("handled %v", n)
	}
	failures(t, off, 90)
	if n, least := counts(); least == 0 {
		t.Errorf("somebody was left out though that is off: %v", n)
	}
	// All are well at once.
	state.Store(bus.Code(""))
	if failed := failures(t, c, 30); failed != 0 {
		t.Errorf("%d calls failed", failed)
	}
}

// An instance that does not answer in time is left out too, when calls address it.
func TestOutlierTimeout(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var fine atomic.Value
	var n, hung atomic.Int64
	serveFailing(t, s, "a", &fine, &n)
	serve(t, connect(t, s), micro.Config{Name: "who", Instance: "b", Drain: time.Millisecond}, endpoint("are", func(ctx context.Context, _ hello) (string, error) {
		hung.Add(1)
		<-ctx.Done()
		return "", ctx.Err()
	}))
	c := newClient(t, connect(t, s), micro.ClientConfig{Policy: balance.RoundRobin(), AttemptTimeout: 200 * time.Millisecond})
	sees(t, c, "who", 2)
	if failed := failures(t, c, 60, micro.Idempotent()); failed != 0 {
		t.Errorf("%d idempotent calls failed", failed)
	}
	if hung := hung.Load(); hung != 5 {
		t.Errorf("%d attempts hung, want 5", hung)
	}
}

// A caller that gives up says nothing about the instance.
func TestOutlierCanceled(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	entered := make(chan struct{}, 100)
	serve(t, connect(t, s), micro.Config{Name: "who", Instance: "a", Drain: time.Millisecond}, endpoint("are", func(ctx context.Context, _ hello) (string, error) {
		entered <- struct{}{}
		<-ctx.Done()
		return "", ctx.Err()
	}))
	serveWho(t, s, micro.Config{Name: "who", Instance: "b"})
	var book logBook
	c := newClient(t, connect(t, s), micro.ClientConfig{Policy: only("a"), Logger: book.logger()})
	sees(t, c, "who", 2)
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		failed := make(chan error, 1)
		go func() {
			_, err := micro.Call[string](ctx, c, "who.are", hello{})
			failed <- err
		}()
		bustest.Receive(t, "the handler of a", entered)
		cancel()
		wantCode(t, bustest.Receive(t, "the call", failed), bus.Canceled)
	}
	if strings.Contains(book.String(), "instance=a") {
		t.Error("the instance was left out")
	}
}

// What is tried again is a share of what is called, so that a service in trouble is not buried.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var handled atomic.Int64
	for _, id := range []string{"a", "b", "c"} {
		serve(t, connect(t, s), micro.Config{Name: "who", Instance: id}, endpoint("are", func(context.Context, hello) (string, error) {
			handled.Add(1)
			return "", bus.Errorf(bus.DeadlineExceeded, "too slow")
		}))
	}
	conn := connect(t, s)
	const calls = 100
	for name, tt := range map[string]struct {
		budget micro.RetryBudgetConfig
		opts   []micro.CallOption
		want   int64
	}{
		"none":      {micro.RetryBudgetConfig{Percent: -1, MinPerSecond: -1}, []micro.CallOption{micro.Idempotent()}, calls},
		"a fifth":   {micro.RetryBudgetConfig{MinPerSecond: -1, Window: time.Minute}, []micro.CallOption{micro.Idempotent()}, calls * 120 / 100},
		"half":      {micro.RetryBudgetConfig{Percent: 50, MinPerSecond: -1, Window: time.Minute}, []micro.CallOption{micro.Idempotent()}, calls * 150 / 100},
		"of hedges": {micro.RetryBudgetConfig{MinPerSecond: -1, Window: time.Minute}, []micro.CallOption{micro.Hedge(time.Hour)}, calls * 120 / 100},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, conn, micro.ClientConfig{RetryBudget: tt.budget, Outliers: micro.OutlierConfig{Off: true}})
			sees(t, c, "who", 3)
			handled.Store(0)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for range calls {
				_, err := micro.Call[string](ctx, c, "who.are", hello{}, tt.opts...)
				wantCode(t, err, bus.DeadlineExceeded)
			}
			if n := handled.Load(); n != tt.want {
				t.Errorf("%d attempts of %d calls, want %d", n, calls, tt.want)
			}
		})
	}
}

// A one-way message is no probe: nobody hears how it ended, and the instance would stay out for it.
func TestNotifyIsNoProbe(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var fine, bad atomic.Value
	var others, handled atomic.Int64
	serveFailing(t, s, "a", &fine, &others)
	serveFailing(t, s, "b", &bad, &handled)
	const out = 2 * time.Second
	c := newClient(t, connect(t, s), micro.ClientConfig{
		Policy: balance.RoundRobin(), Outliers: micro.OutlierConfig{BaseEjectionTime: out, Interval: time.Hour},
	})
	sees(t, c, "who", 2)
	bad.Store(bus.Internal)
	if failed := failures(t, c, 40); failed != 5 {
		t.Fatalf("%d of 40 calls failed, want the 5 that eject", failed)
	}
	bad.Store(bus.Code(""))
	<-time.After(out)
	for range 10 {
		if err := micro.Notify(t.Context(), c, "who.are", hello{}); err != nil {
			t.Fatal(err)
		}
	}
	if by := spread(t, c, 40); by["b"] < 10 {
		t.Errorf("answers %v: the one that is well again gets none", by)
	}
}
