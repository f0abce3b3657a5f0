package micro_test

import (
	"context"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// What a client holds against instances, and what is left of its retries, can be seen.
func TestClientStats(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serve(t, connect(t, s), micro.Config{Name: "who", Instance: "good"}, endpoint("are", greet))
	serve(t, connect(t, s), micro.Config{Name: "who", Instance: "bad", Drain: time.Millisecond}, endpoints(
		endpoint("are", func(context.Context, hello) (greeting, error) { return greeting{}, bus.Errorf(bus.Internal, "broken") }),
		endpoint("hang", func(ctx context.Context, _ hello) (greeting, error) { <-ctx.Done(); return greeting{}, ctx.Err() }, micro.Idempotent()),
	))
	c := newClient(t, connect(t, s), micro.ClientConfig{
		Patience: -1, AttemptTimeout: 20 * time.Millisecond,
		Outliers:    micro.OutlierConfig{ConsecutiveFailures: 3, BaseEjectionTime: time.Hour, MaxEjectionTime: time.Hour},
		RetryBudget: micro.RetryBudgetConfig{Window: time.Hour, MinPerSecond: -1, Percent: 50},
	})
	sees(t, c, "who", 2)
	if got := c.Stats(); len(got) != 0 {
		t.Errorf("before any call: %+v", got)
	}
	toBad := micro.ToInstance("bad")
	for range 2 {
		_, err := micro.Call[greeting](t.Context(), c, "who.are", hello{}, toBad)
		wantCode(t, err, bus.Internal)
	}
	suspects := func() micro.Suspect {
		t.Helper()
		all := c.Stats()
		if len(all) != 1 || all[0].Service != "who" || len(all[0].Suspects) != 1 {
			t.Fatalf("stats %+v, want one suspect of who", all)
		}
		return all[0].Suspects[0]
	}
	if got := suspects(); got != (micro.Suspect{Instance: "bad", State: "failing", Failures: 2}) {
		t.Errorf("after two failures: %+v", got)
	}
	// The third failure ejects it; of the retries there is one for each two of the four calls.
	for range 2 {
		_, err := micro.Call[greeting](t.Context(), c, "who.hang", hello{}, toBad)
		wantCode(t, err, bus.DeadlineExceeded)
	}
	got := suspects()
	if got.State != "ejected" || got.Ejections != 1 || time.Until(got.Until) < 50*time.Minute {
		t.Errorf("after more of them: %+v", got)
	}
	if st := c.Stats()[0]; st.Requests != 4 || st.Retries != 2 || st.RetriesLeft != 0 {
		t.Errorf("stats %+v, want 4 requests, 2 retries and none left", st)
	}
	if _, err := micro.Call[greeting](t.Context(), c, "nobody.there", hello{}); bus.CodeOf(err) != bus.Unavailable {
		t.Error(err)
	}
	if all := c.Stats(); len(all) != 2 || all[0].Service != "" || all[0].Requests != 1 {
		t.Errorf("stats %+v, want those of the unknown first", all)
	}
}
