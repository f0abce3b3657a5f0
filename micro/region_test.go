package micro_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/balance"
)

// A call to a region stays there also when it is tried again: after a time-out, a refusal, an ejection, and hedged.
func TestRegionIsNotLeftByRetries(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var home, abroad atomic.Int64
	serve(t, connect(t, s), micro.Config{Name: "who", Instance: "us1", Region: "us"}, endpoints(
		endpoint("hang", func(context.Context, hello) (string, error) { abroad.Add(1); return "us1", nil }, micro.Idempotent()),
		endpoint("full", func(context.Context, hello) (string, error) { abroad.Add(1); return "us1", nil }),
		endpoint("broken", func(context.Context, hello) (string, error) { abroad.Add(1); return "us1", nil }),
	))
	hang := func(ctx context.Context, _ hello) (string, error) { home.Add(1); <-ctx.Done(); return "", ctx.Err() }
	serve(t, connect(t, s), micro.Config{Name: "who", Instance: "eu1", Region: "eu", Drain: time.Millisecond}, endpoints(
		endpoint("hang", hang, micro.Idempotent()),
		endpoint("full", hang, micro.Concurrency(1)),
		endpoint("broken", func(context.Context, hello) (string, error) {
			home.Add(1)
			return "", bus.Errorf(bus.Internal, "broken")
		}),
	))
	c := newClient(t, connect(t, s), micro.ClientConfig{
		AttemptTimeout: 50 * time.Millisecond, Patience: 200 * time.Millisecond, Outliers: micro.OutlierConfig{ConsecutiveFailures: 1},
	})
	sees(t, c, "who", 2)
	toEU := micro.ToRegion("eu")
	within := func(d time.Duration, target string, opts ...micro.CallOption) error {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		_, err := micro.Call[string](ctx, c, target, hello{}, append(opts, toEU)...)
		return err
	}

	wantCode(t, within(400*time.Millisecond, "who.hang"), bus.DeadlineExceeded)
	if n := home.Load(); n < 2 {
		t.Errorf("%d attempts at home: it was not tried again", n)
	}
	wantCode(t, within(200*time.Millisecond, "who.hang", micro.Hedge(20*time.Millisecond)), bus.DeadlineExceeded)
	wantCode(t, within(400*time.Millisecond, "who.hang", micro.WithPolicy(balance.Nearest(balance.BestQuality()))), bus.DeadlineExceeded)

	// The one at home is out, and is full, and fails: nobody else is asked.
	ctx, cancel := context.WithCancel(t.Context())
	held := make(chan struct{})
	before := home.Load()
	go func() {
		defer close(held)
		_, _ = micro.Call[string](ctx, c, "who.full", hello{}, toEU) // until it is canceled
	}()
	bustest.Eventually(t, "it to be full", func() bool { return home.Load() > before })
	wantCode(t, within(time.Second, "who.full"), bus.Unavailable)
	cancel()
	bustest.Receive(t, "the call that was given up", held)
	for range 5 {
		wantCode(t, within(time.Second, "who.broken"), bus.Internal, "broken")
	}
	if n := abroad.Load(); n != 0 {
		t.Errorf("%d attempts left the region", n)
	}
	if _, err := micro.Call[string](t.Context(), c, "who.broken", hello{}, micro.ToRegion("us")); err != nil || abroad.Load() != 1 {
		t.Errorf("the other one: %v, %d", err, abroad.Load())
	}
}
