//go:build unix

package whole_test

import (
	"context"
	"flag"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/micro"
)

const (
	warmUp     = 5 * time.Second
	longFaults = 20 * time.Minute
)

// plan is what the flags say.
type plan struct {
	seed   uint64
	short  bool
	during time.Duration
}

func readPlan(t *testing.T) plan {
	t.Helper()
	get := func(name string) any { return flag.Lookup(name).Value.(flag.Getter).Get() } //nolint:forcetypeassert // all of flag's are
	p := plan{seed: get(seedFlag).(uint64), during: get(forFlag).(time.Duration)}       //nolint:forcetypeassert // TestMain made them so
	if get(longFlag).(bool) && p.during == 0 {                                          //nolint:forcetypeassert // TestMain made it so
		p.during = longFaults
	}
	p.short = p.during == 0
	if p.seed == 0 {
		p.seed = uint64(time.Now().UnixNano()) //nolint:gosec // not negative
	}
	t.Logf("-seed %d", p.seed)
	return p
}

// TestWhole runs everything while it is broken.
func TestWhole(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	p := readPlan(t)
	faults := newSchedule(p.seed, p.short).faults(p.during)
	for _, f := range faults {
		t.Log(f)
	}
	r := startRig(t)
	r.awaitCluster()
	j := &callWitness{}
	stop := r.startCalls(j)
	r.awaitProgress(time.Minute, j)
	time.Sleep(warmUp) // so that there is something to compare with
	before := r.most()
	for _, f := range faults {
		r.apply(f, j)
	}
	r.awaitProgress(progressLimit, j)
	r.checkUse(before)
	if !p.short {
		r.restartAll(killed, j)
		r.awaitProgress(progressLimit, j)
	}
	stop()
	r.restartAll(restarted, j)
	r.checkUse(before)
	r.checkProbes()
}

// callWitness knows of the calls of one caller.
type callWitness struct {
	mu     sync.Mutex
	failed int
	asked  time.Time // when the last one that succeeded was
}

func (*callWitness) fault(string, string, time.Time, time.Time) {}

func (w *callWitness) idle(since time.Time) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked.After(since) {
		return nil
	}
	return []string{"call"}
}

// startCalls calls one service after the other until stop.
func (r *rig) startCalls(w *callWitness) (stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			asked := time.Now()
			_, err := r.client.Do(context.WithoutCancel(ctx), micro.Request{
				Service: services()[n%3], Endpoint: probeEndpoint, Body: []byte(`{"id":"call"}`), Idempotent: true,
			})
			w.mu.Lock()
			if err == nil {
				w.asked = asked
			} else {
				w.failed++
				r.t.Logf("%s: %v", asked.Format(clock), err)
			}
			w.mu.Unlock()
		}
	})
	return func() {
		cancel()
		running.Wait()
		if w.failed > 0 {
			r.t.Errorf("%d calls failed", w.failed)
		}
	}
}
