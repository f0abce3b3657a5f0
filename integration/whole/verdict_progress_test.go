//go:build unix

package whole_test

import (
	"slices"
	"strings"
	"time"

	"github.com/skybus-io/skybus/kv"
)

// failures looks for what clients were refused, with all their tries, though no server was away.
func (g *judgement) failures() {
	for _, o := range g.e.ops {
		if o.outcome != failed {
			continue
		}
		if g.e.outage(o) {
			g.counts["failed while a server was away: "+string(o.kind)]++
			continue
		}
		g.wrong(ruleFailed, "%s at %s, after %v and %d tries: %s", o.id, o.begin.Format(time.StampMilli), o.end.Sub(o.begin).Round(time.Millisecond), o.tries, o.err)
	}
}

// What works behind the clients.
const (
	fired      = "timer fired"
	recordDone = "record of a file"
	leaderActs = "leader acted"
)

// gapKinds are the kinds of things that go on all the time, in the order of tables.
func gapKinds() []string {
	return []string{
		string(called), string(once), string(routed), string(later), string(created), string(written), string(read), fired, recordDone, leaderActs,
	}
}

// successes are those of a run, in order.
func (e *evidence) successes() map[string][]time.Time {
	all := map[string][]time.Time{}
	for _, o := range e.ops {
		if o.outcome == acked {
			all[string(o.kind)] = append(all[string(o.kind)], o.end)
		}
	}
	ends := func(w what, name string, fits func(r record) bool) {
		e.each(w, func(_ string, r record) {
			if fits(r) {
				all[name] = append(all[name], time.Unix(0, r.At))
			}
		})
	}
	everything := func(record) bool { return true }
	ends(delivered, fired, everything)
	ends(acted, leaderActs, everything)
	ends(stepped, recordDone, func(r record) bool { return r.Step == fileTarget })
	e.each(applied, func(child string, r record) {
		name := "applied by " + child
		all[name] = append(all[name], time.Unix(0, r.At))
	})
	for _, times := range all {
		slices.SortFunc(times, time.Time.Compare)
	}
	return all
}

// progress looks whether everything works again after the last fault.
func (g *judgement) progress() {
	if len(g.e.faults) == 0 {
		return
	}
	last := slices.MaxFunc(g.e.faults, func(a, b fault) int { return a.end.Compare(b.end) })
	all := g.e.successes()
	want := gapKinds()
	for _, name := range g.e.expected {
		if strings.HasPrefix(name, backendRole) {
			want = append(want, "applied by "+name)
		}
	}
	for _, what := range want {
		next, ok := firstAfter(all[what], last.end)
		switch {
		case !ok:
			g.wrong(ruleProgress, "no %s after %s of %s", what, last.kind, last.target)
		case next.Sub(last.end) > progressLimit:
			g.wrong(ruleProgress, "the first %s %v after %s of %s", what, next.Sub(last.end), last.kind, last.target)
		}
	}
}

func firstAfter(times []time.Time, t time.Time) (time.Time, bool) {
	i, _ := slices.BinarySearchFunc(times, t, time.Time.Compare)
	if i == len(times) {
		return time.Time{}, false
	}
	return times[i], true
}

// gap is the longest time without a success between from and to.
func gap(times []time.Time, from, to time.Time) time.Duration {
	i, _ := slices.BinarySearchFunc(times, from, time.Time.Compare)
	longest := time.Duration(0)
	for ; i < len(times) && times[i].Before(to); i++ {
		longest, from = max(longest, times[i].Sub(from)), times[i]
	}
	return max(longest, to.Sub(from))
}

// compareTerms is -1, 0 or 1. One that cannot be read is before all others.
func compareTerms(a, b string) int {
	ta, aerr := kv.ParseTerm(a)
	tb, berr := kv.ParseTerm(b)
	if aerr != nil || berr != nil {
		return 1 // of which no order holds
	}
	return ta.Compare(tb)
}
