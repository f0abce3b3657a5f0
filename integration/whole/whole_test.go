//go:build unix

package whole_test

import (
	"flag"
	"testing"
	"time"
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
	broken *brokenBuild // what the programs are; nil for what they should be
}

func readPlan(t *testing.T) plan {
	t.Helper()
	get := func(name string) any { return flag.Lookup(name).Value.(flag.Getter).Get() } //nolint:forcetypeassert // all of flag's are
	p := plan{seed: get(seedFlag).(uint64), during: get(forFlag).(time.Duration)}       //nolint:forcetypeassert // TestMain made them so
	if get(longFlag).(bool) && p.during == 0 {                                          //nolint:forcetypeassert // TestMain made it so
		p.during = longFaults
	}
	p.short = p.during == 0
	p.broken = brokenBuildOf(get(brokenFlag).(string)) //nolint:forcetypeassert // TestMain made it so
	if p.seed == 0 {
		p.seed = uint64(time.Now().UnixNano()) //nolint:gosec // not negative
	}
	t.Logf("-seed %d", p.seed)
	return p
}

// TestWhole breaks everything while it works, and asks what became of what clients were told.
func TestWhole(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	p := readPlan(t)
	faults := newSchedule(p.seed, p.short).faults(p.during)
	if p.broken != nil {
		faults = p.broken.faults
	}
	for _, f := range faults {
		t.Log(f)
	}
	r := startRig(t)
	r.awaitCluster()
	j := newJournal()
	l := startLoad(t, t.Context(), r.sys, p.seed, j)
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
	r.restartAll(restarted, j)
	r.awaitProgress(progressLimit, j)
	l.stop()
	r.checkUse(before)
	r.checkProbes()
	verdict(t, r.sys, j)
}
