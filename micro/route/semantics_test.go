package route_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// What the three flags of a step mean, for each way in which a step can fail: how often it is called, with which code the route
// ends (none: it goes on), and with which the step is noted.
func TestSemantics(t *testing.T) {
	t.Parallel()
	const long, short = 20 * time.Second, 2 * time.Second
	h := buildWith(t, bustest.Server(t), micro.ClientConfig{AttemptTimeout: time.Second, Patience: 3 * time.Second})
	h.serve(t, "shop", "", endpoints(says("after", `{"after":true}`)))
	for i, tt := range []semantics{
		{"answers", false, true, 0, "1", "", ""},
		{"answers", true, false, short, "1", "", ""},

		// An answer that is an error is one: it is not tried again.
		{"refuses", false, true, 0, "1", bus.Aborted, bus.Aborted},
		{"refuses", true, true, 0, "1", bus.Aborted, bus.Aborted},
		{"refuses", true, false, 0, "1", "", bus.Aborted},

		// No answer: another attempt only where the step may be done twice. The time-out bounds all of them.
		{"hangs once", true, true, long, "more", "", ""},
		{"hangs once", false, true, short, "1", bus.DeadlineExceeded, bus.DeadlineExceeded},
		{"hangs once", false, false, short, "1", "", bus.DeadlineExceeded},
		{"hangs", true, true, 2500 * time.Millisecond, "more", bus.DeadlineExceeded, bus.DeadlineExceeded},
		{"hangs", true, false, 2500 * time.Millisecond, "more", "", bus.DeadlineExceeded},

		// Nobody there: nothing was done, so it is tried for a while whatever the flags, and is an error then.
		{"is not there", false, true, long, "0", bus.Unavailable, bus.Unavailable},
		{"is not there", true, false, long, "0", "", bus.Unavailable},
		{"starts late", false, true, long, "1", "", ""},
	} {
		name := fmt.Sprintf("%s, retry %v, required %v, timeout %v", tt.fails, tt.retry, tt.required, tt.timeout)
		t.Run(name, func(t *testing.T) { tt.run(t, h, fmt.Sprint("app", i)) })
	}
}

type semantics struct {
	fails           string // how
	retry, required bool
	timeout         time.Duration
	calls           string // 0, 1 or "more"
	route, step     bus.Code
}

func (tt semantics) run(t *testing.T, h *house, name string) {
	t.Helper()
	var calls atomic.Int64
	add := endpoint("e", func(ctx context.Context, _ []byte) ([]byte, error) {
		n := calls.Add(1)
		switch {
		case tt.fails == "refuses":
			return nil, bus.Errorf(bus.Aborted, "no")
		case tt.fails == "hangs", tt.fails == "hangs once" && n == 1:
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return []byte(`{"step":true}`), nil
	})
	s := step(name+".e", within(tt.timeout))
	s.Retry = tt.retry
	s.Required = &tt.required
	h.put(t, name, s, step("shop.after"))
	switch tt.fails {
	case "is not there":
	case "starts late":
		timer := time.AfterFunc(50*time.Millisecond, func() { serve(t, h.conn, micro.Config{Name: name}, add) })
		t.Cleanup(func() { timer.Stop() })
	default:
		h.serve(t, name, "", add)
	}
	res, err := h.runner.Run(t.Context(), name, route.Request{Body: []byte(`{}`)})
	if code := bus.CodeOf(err); code != tt.route {
		t.Errorf("the route ends with %q (%v), want %q", code, err, tt.route)
	}
	if code := res.Hops[0].Code; code != tt.step {
		t.Errorf("the step is noted with %q, want %q", code, tt.step)
	}
	n := calls.Load()
	if got := map[bool]string{true: "more", false: fmt.Sprint(n)}[n > 1]; got != tt.calls {
		t.Errorf("%d calls, want %s", n, tt.calls)
	}
	if got, want := len(res.Hops) == 2, tt.route == ""; got != want {
		t.Errorf("went on: %v, want %v", got, want)
	}
}
