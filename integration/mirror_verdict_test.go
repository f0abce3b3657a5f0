//go:build unix

package integration_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/skybus-io/skybus/internal/proctest"
)

// copyVerdict is what came of all writes at one copy.
type copyVerdict struct {
	applied  int           // different writes
	lost     []uint64      // stored, and never applied
	repeats  int           // the newest of a lane once more
	replays  int           // older ones once more
	retries  int           // older ones once more, as the copy had not answered them in a replay
	worst    string        // the write that reaches back furthest
	late     int           // the same, by a process that no longer was the sender
	reach    time.Duration // how long before the last apply of one sender a write had been applied that the next one repeated, at most
	reorders []string      // applied for the first time after a later one of the lane
	foreign  []string      // the same write under another key, or another one than the client sent
	phantoms []string      // of which clients were told that nothing would happen
}

func (v *copyVerdict) String() string {
	return fmt.Sprintf("applied %d, lost %d, repeated %d and in a replay %d (reaching back %v), tried again in a replay %d, late %d, reordered %d, with another key or body %d, applied though refused %d",
		v.applied, len(v.lost), v.repeats, v.replays, v.reach.Round(time.Millisecond), v.retries, v.late, len(v.reorders), len(v.foreign), len(v.phantoms))
}

// settle waits until every copy has applied every write that is stored, after from where a copy has one, and then until all have the same content. What it
// returns has been checked: nothing is lost, out of order, or repeated under another key.
func (r *mirrorRig) settle(w *writers, from map[*copyProcess]uint64) {
	r.t.Helper()
	all := w.end()
	begin := time.Now()
	last := r.lastStored()
	for _, s := range all {
		if s.Seq > last {
			r.t.Errorf("write %d was accepted, the last that is stored is %d", s.Seq, last)
		}
	}
	for i, c := range r.copies {
		missing := uint64(0)
		left := max(0, patience-time.Since(begin))
		if !proctest.Within(left, func() bool { missing = c.lacks(from[c], last); return missing == 0 }) {
			r.t.Errorf("copy %s lacks write %d of %d", copyName(i), missing, last)
		}
	}
	r.quiet()
	l := latenciesOf(all, all[0].begin, w.ended)
	n := map[stored]int{}
	for _, s := range all {
		n[s.stored]++
	}
	r.t.Logf("%d writes by clients: accepted %d, refused %d, unknown %d (%s); %d stored, applied by all %v after the last; %v",
		len(all), n[accepted], n[notStored], n[unknown], statuses(all), last, time.Since(begin).Round(time.Millisecond), l)
	for i, c := range r.copies {
		v := r.judge(all, c, from[c], last)
		r.t.Logf("copy %s: %v", copyName(i), v)
		v.check(r, copyName(i))
	}
	r.compare(from)
	r.commits.check(r.t)
}

// lastStored is the number of the last write.
func (r *mirrorRig) lastStored() (last uint64) {
	r.t.Helper()
	eventually(r.t, elections, "the stream of writes answers", func() bool {
		s, err := r.conn.JetStream().Stream(r.t.Context(), "SKYBUS_MIR")
		if err != nil {
			return false
		}
		last = s.CachedInfo().State.LastSeq
		return true
	})
	return last
}

// quiet waits until nothing is sent any more: a sender that took over repeats what was not committed.
func (r *mirrorRig) quiet() {
	r.t.Helper()
	for _, c := range r.copies {
		n, since := len(c.applied()), time.Now()
		eventually(r.t, patience, "nothing is repeated any more", func() bool {
			if now := len(c.applied()); now != n {
				n, since = now, time.Now()
			}
			return time.Since(since) > 300*time.Millisecond
		})
	}
}

// judge compares what a copy did with what its clients saw.
func (r *mirrorRig) judge(all []sent, c *copyProcess, from, last uint64) *copyVerdict {
	v := &copyVerdict{}
	first, highest := map[uint64]apply{}, map[int]uint64{}
	newest := map[uint64]apply{}  // the last time
	bodies := map[uint64]uint64{} // by hash
	applies, reigns := c.applied(), r.reigns()
	for _, a := range applies {
		before, again := first[a.Seq]
		switch {
		case again && (before.Key != a.Key || before.Hash != a.Hash || before.Path != a.Path || before.Method != a.Method || before.Lane != a.Lane):
			v.foreign = append(v.foreign, fmt.Sprintf("write %d as %v and as %v", a.Seq, before, a))
		case again:
			v.repeat(newest[a.Seq], a, highest[a.Lane], applies, reigns)
		case a.Seq < highest[a.Lane] && a.Seq != r.retried:
			v.reorders = append(v.reorders, fmt.Sprintf("lane %d: %d after %d", a.Lane, a.Seq, highest[a.Lane]))
		}
		if other, ok := bodies[a.Hash]; ok && other != a.Seq {
			v.foreign = append(v.foreign, fmt.Sprintf("%.100q as write %d and as %d", a.Body, other, a.Seq))
		}
		bodies[a.Hash], newest[a.Seq] = a.Seq, a
		if !again {
			first[a.Seq] = a
		}
		highest[a.Lane] = max(highest[a.Lane], a.Seq)
	}
	v.applied = len(first)
	for seq := from + 1; seq <= last; seq++ {
		if _, ok := first[seq]; !ok {
			v.lost = append(v.lost, seq)
		}
	}
	for _, s := range all {
		v.told(s, first, bodies)
	}
	return v
}

// repeat counts a write that was applied before.
func (v *copyVerdict) repeat(before, a apply, highest uint64, applies []apply, reigns []int64) {
	if a.Seq >= highest { // it may have waited long for its answer
		v.repeats++
		return
	}
	if before.Cut {
		v.retries++
		return
	}
	n, _ := slices.BinarySearch(reigns, a.At)
	if n == 0 || before.At > reigns[n-1] {
		v.late++
		return
	}
	v.replays++
	i, _ := slices.BinarySearchFunc(applies, reigns[n-1], func(a apply, at int64) int { return cmp.Compare(a.At, at) })
	// Nothing is sent while nothing can be committed: the time that counts ends with what the last sender applied last.
	if reach := time.Duration(applies[max(i-1, 0)].At - before.At); reach > v.reach {
		v.reach = reach
		v.worst = fmt.Sprintf("write %d of lane %d, whose last is %d, applied %v before a sender began and %v after",
			a.Seq, a.Lane, highest, time.Duration(reigns[n-1]-before.At), time.Duration(a.At-reigns[n-1]))
	}
}

// told compares what a client was told about a write with what was applied.
func (v *copyVerdict) told(s sent, first map[uint64]apply, bodies map[uint64]uint64) {
	if a, ok := first[s.Seq]; ok && (a.Hash != s.Hash || a.Path != s.Path || a.Method != s.Method || a.Lane != s.Lane || s.Key != "" && a.Key != s.Key) {
		v.foreign = append(v.foreign, fmt.Sprintf("write %d is %v, its client sent %v", s.Seq, a, s.apply))
	}
	if _, ok := bodies[s.Hash]; ok && s.stored == notStored {
		v.phantoms = append(v.phantoms, fmt.Sprintf("%.100q, answered %d %s", s.Body, s.status, s.text))
	}
}

// check is what has to hold whatever fails.
func (v *copyVerdict) check(r *mirrorRig, name string) {
	r.t.Helper()
	if len(v.lost) > 0 {
		r.t.Errorf("copy %s: %d lost, such as %v", name, len(v.lost), v.lost[:min(10, len(v.lost))])
	}
	for what, list := range map[string][]string{"out of order": v.reorders, "under another key or with another body": v.foreign, "applied though refused": v.phantoms} {
		if len(list) > 0 {
			r.t.Errorf("copy %s: %d %s, such as %s", name, len(list), what, strings.Join(list[:min(5, len(list))], "; "))
		}
	}
	if v.late > 0 {
		r.t.Errorf("copy %s: %d were sent by a process that no longer was the sender", name, v.late)
	}
	if limit := 2 * time.Second; v.reach > limit { // on a busy machine
		r.t.Errorf("copy %s: a replay reaches back %v, want at most %v: %s", name, v.reach, limit, v.worst)
	}
}

// compare compares the whole content of the copies with each other, and with what all writes one after the other come to where a copy has got all of them.
func (r *mirrorRig) compare(from map[*copyProcess]uint64) {
	r.t.Helper()
	unique := map[uint64]apply{}
	for _, c := range r.copies {
		for _, a := range c.applied() {
			unique[a.Seq] = a
		}
	}
	want := newContent()
	for _, a := range slices.SortedFunc(maps.Values(unique), func(a, b apply) int { return cmp.Compare(a.Seq, b.Seq) }) {
		want.apply(a)
	}
	for i, c := range r.copies {
		got := c.content()
		if got.equal(want) {
			continue
		}
		for _, path := range slices.Sorted(maps.Keys(want.Values)) {
			if got.Values[path] != want.Values[path] {
				r.t.Errorf("copy %s has %.200q at %s, want %.200q", copyName(i), got.Values[path], path, want.Values[path])
			}
		}
		r.t.Errorf("copy %s, whose writes begin after %d, has %d paths, want %d with the same content", copyName(i), from[c], len(got.Values), len(want.Values))
	}
}
