package scheduler_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
)

// What is acknowledged is what happens, however close to the time due it was asked for.
func TestChangesRaceWithFires(t *testing.T) {
	t.Parallel()
	races(t, newRig(t), 2000, time.Millisecond)
}

// On a cluster the time of a message says less, and who is asked may be behind.
func TestChangesRaceWithFiresOnCluster(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	node := bustest.Cluster(t, 3).Node(0)
	races(t, &rig{node, connect(t, node)}, 300, 10*time.Millisecond) // to store one takes that
}

// races makes n timers, or as many as the environment says, that are changed about when they are due: within some of unit.
func races(t *testing.T, r *rig, n int, unit time.Duration) {
	t.Helper()
	if v, err := strconv.Atoi(os.Getenv("SKYBUS_RACES")); err == nil {
		n = v
	}
	s, p, _ := r.run(t, scheduler.Config{})
	var outcome sync.Map // id -> payload that has to come, "" for none, "?" for unknown
	var wg sync.WaitGroup
	next := atomic.Int64{}
	for range 16 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				id := strconv.FormatInt(i, 10)
				outcome.Store(id, race(t, s, id, unit))
			}
		})
	}
	wg.Wait()
	want := 0
	outcome.Range(func(_, v any) bool {
		if v != "" && v != "?" {
			want++
		}
		return true
	})
	p.wait(t, want)
	// One more that is due later: all before it are through.
	create(t, s, scheduler.Spec{ID: "last", After: 3 * time.Second})
	got := map[string][]string{}
	eventually(t, "the last one", func() bool {
		clear(got)
		for _, d := range p.all() {
			got[d.TimerID] = append(got[d.TimerID], string(d.Payload))
		}
		return len(got["last"]) > 0
	})
	counts := map[string]int{}
	outcome.Range(func(id, v any) bool {
		came := strings.Join(got[id.(string)], " ")
		counts[v.(string)]++
		if v != "?" && came != v {
			t.Errorf("timer %s: %q came, want %q", id, came, v)
		}
		return true
	})
	t.Logf("as created %d, updated %d, cancelled %d, unknown %d", counts["old"], counts["new"], counts[""], counts["?"])
	if counts["old"] == 0 || counts["new"] == 0 || counts[""] == 0 || counts["?"] > n/4 {
		t.Error("the race was none")
	}
}

// race creates a timer, cancels or updates it about when it is due, and returns what has to come.
func race(t *testing.T, s *scheduler.Scheduler, id string, unit time.Duration) string {
	t.Helper()
	after := time.Duration(1+rand.IntN(10)) * unit
	if _, err := s.Create(t.Context(), scheduler.Spec{ID: id, After: after, Target: target(), Payload: []byte("old")}); err != nil {
		t.Errorf("create: %v", err)
		return "?"
	}
	<-time.After(time.Duration(rand.IntN(12)) * unit) // about when it is due
	var err error
	won := ""
	if rand.IntN(2) == 0 {
		err = s.Cancel(t.Context(), id, 0)
	} else {
		won = "new"
		_, err = s.Update(t.Context(), id, 0, scheduler.Spec{After: after, Target: target(), Payload: []byte("new")})
	}
	switch code := bus.CodeOf(err); {
	case err == nil:
		return won
	case code == bus.NotFound, code == bus.FailedPrecondition:
		return "old"
	default:
		t.Logf("unknown: %v", err)
		return "?"
	}
}
