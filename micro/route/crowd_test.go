package route_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// However many steps an endpoint has that never answers, those of others are done at once. None of them becomes a dead letter
// because it waited for a place, and all are done when the endpoint answers again.
func TestHangingEndpointHoldsNobodyBack(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		const queued = 100 // more than there are places
		h := build(t, bustest.Server(t))
		var stuck, fine handled
		var inFlight, most atomic.Int64
		var well atomic.Bool
		h.serve(t, "stuck", "", endpoint("later", func(ctx context.Context, _ []byte) ([]byte, error) {
			if n := inFlight.Add(1); n > most.Load() {
				most.Store(n) // a little too low at worst
			}
			defer inFlight.Add(-1)
			if !well.Load() {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			stuck.add(micro.Info(ctx).RequestID)
			return nil, nil
		}))
		h.serve(t, "fine", "", endpoint("later", func(ctx context.Context, _ []byte) ([]byte, error) {
			fine.add(micro.Info(ctx).RequestID)
			return nil, nil
		}))
		h.put(t, "stuck", step("stuck.later", async))
		h.put(t, "fine", step("fine.later", async))
		h.publish(t, "stuck", "bad", queued)
		work(t, h.client)
		time.Sleep(time.Second)
		h.publish(t, "fine", "id", 1)
		for begin := time.Now(); len(fine.ids()) == 0; time.Sleep(100 * time.Millisecond) {
			if time.Since(begin) > 3*time.Second {
				t.Fatalf("not done in 3 s, while %d calls hang", inFlight.Load())
			}
		}
		time.Sleep(2 * time.Minute)             // far more than 20 deliveries
		if n := most.Load(); n < 10 || n > 24 { // a call given up may end a little later than its place
			t.Errorf("%d calls at a time, want up to 16", n)
		}
		if n := messages(t, h.conn, route.AsyncStream); n != queued {
			t.Errorf("%d steps are queued, want all %d", n, queued)
		}
		well.Store(true)
		h.untilDone(t, 30*time.Minute)
		if n := len(stuck.ids()); n != queued {
			t.Errorf("%d steps were done, want %d", n, queued)
		}
		if n := messages(t, h.conn, route.DeadLetterStream); n != 0 {
			t.Errorf("%d dead letters", n)
		}
	})
}

// However many endpoints hang, others are served at once; and the more often they did, the fewer places they take.
func TestManyHangingEndpointsHoldNobodyBack(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		const hanging = 6
		h := build(t, bustest.Server(t))
		var fine handled
		var inFlight atomic.Int64
		for i := range hanging {
			name := fmt.Sprint("stuck", i)
			h.serve(t, name, "", endpoint("later", func(ctx context.Context, _ []byte) ([]byte, error) {
				inFlight.Add(1)
				defer inFlight.Add(-1)
				<-ctx.Done()
				return nil, ctx.Err()
			}))
			h.put(t, name, step(name+".later", async))
			h.publish(t, name, name, 20)
		}
		h.serve(t, "fine", "", endpoint("later", func(ctx context.Context, _ []byte) ([]byte, error) {
			fine.add(micro.Info(ctx).RequestID)
			return nil, nil
		}))
		h.put(t, "fine", step("fine.later", async))
		work(t, h.client)
		time.Sleep(2 * time.Second)
		if n := inFlight.Load(); n != 64 {
			t.Fatalf("%d calls hang, want all 64 places taken", n)
		}
		served := func(prefix string, limit time.Duration) {
			t.Helper()
			before := len(fine.ids())
			h.publish(t, "fine", prefix, 10)
			begin := time.Now()
			for len(fine.ids()) < before+10 {
				if time.Since(begin) > limit {
					t.Fatalf("%d of 10 steps done in %v, while %d calls hang", len(fine.ids())-before, limit, inFlight.Load())
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		served("early", 20*time.Second)
		time.Sleep(5 * time.Minute)
		if n := inFlight.Load(); n > 3*hanging {
			t.Errorf("%d calls hang still, want about one for each of %d endpoints", n, hanging)
		}
		served("late", 10*time.Second)
	})
}
