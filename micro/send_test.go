package micro_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// Send asks another instance every two seconds and gives up after ten, unless it is told otherwise. The time is fake.
func TestSendDefaults(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		s := bustest.Server(t)
		var mu sync.Mutex
		var at []time.Duration
		by := map[string]int{}
		var begin time.Time
		for _, id := range []string{"a", "b", "c"} {
			serve(t, connect(t, s), micro.Config{Name: "who", Instance: id, Drain: time.Millisecond}, endpoint("are", func(ctx context.Context, _ hello) (string, error) {
				mu.Lock()
				at = append(at, time.Since(begin).Round(100*time.Millisecond))
				by[id]++
				mu.Unlock()
				<-ctx.Done()
				return "", ctx.Err()
			}))
		}
		c := newClient(t, connect(t, s), micro.ClientConfig{})
		sees(t, c, "who", 3)
		begin = time.Now()
		_, err := micro.Send[string](t.Context(), c, "who.are", hello{})
		took := time.Since(begin).Round(100 * time.Millisecond)
		wantCode(t, err, bus.DeadlineExceeded)
		mu.Lock()
		defer mu.Unlock()
		if want := []time.Duration{0, 2 * time.Second, 4 * time.Second}; !slices.Equal(at, want) || len(by) != 3 {
			t.Errorf("attempts after %v on %v, want %v on three instances", at, by, want)
		}
		if took != 10*time.Second {
			t.Errorf("it gave up after %v, want 10s", took)
		}
	})
}
