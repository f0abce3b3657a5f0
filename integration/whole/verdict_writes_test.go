//go:build unix

package whole_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// stored is a write as the backends know it.
type stored struct {
	number         uint64
	lane           int
	key, path      string
	method, body   string
	backends       int
	lastOfBackends string
}

// writes looks whether each write that was answered is at each backend, in the order of its lane, and what was read.
func (g *judgement) writes() {
	numbers := map[uint64]*stored{} // by Skybus-Seq
	keys := map[string]uint64{}     // the last number, by Idempotency-Key
	asked := g.askedWrites()
	g.e.each(applied, func(child string, r record) {
		w := numbers[r.Number]
		if w == nil {
			w = &stored{number: r.Number, lane: r.Lane, key: r.Key, path: r.Path, method: r.Method, body: r.Body}
			numbers[r.Number] = w
			if before, ok := keys[r.Key]; ok && before != r.Number {
				g.counts["write stored again by a repeat of its client"]++
			}
			keys[r.Key] = max(keys[r.Key], r.Number)
			if body, ok := asked[r.Key]; !ok || body != r.Path+" "+r.Body {
				g.wrong(ruleForeign, "%s %s %q under the key %q, asked for was %q", r.Method, r.Path, r.Body, r.Key, body)
			}
		}
		if w.lane != r.Lane || w.key != r.Key || w.path != r.Path || w.method != r.Method || w.body != r.Body {
			g.wrong(ruleTwice, "write %d is %v, at %s %v", r.Number, *w, child, r)
		}
		if w.lastOfBackends != child { // they come one after the other
			w.lastOfBackends = child
			w.backends++
		}
	})
	g.lostWrites(numbers, keys)
	g.lanes()
	g.contents()
	g.reads(keys)
}

// askedWrites are all writes that anybody may have made: path and body by key.
func (g *judgement) askedWrites() map[string]string {
	all := map[string]string{}
	for _, o := range g.e.ops {
		if o.kind == written {
			all[o.id] = o.path + " " + o.id
		}
	}
	g.e.each(delivered, func(_ string, r record) { all[r.Key] = itemPath + r.ID + " " + r.ID + " " + r.Key })
	return all
}

// lostWrites looks for each write that was answered, at each backend. Nobody may lack one that others have.
func (g *judgement) lostWrites(numbers map[uint64]*stored, keys map[string]uint64) {
	want := 0
	for _, name := range g.e.expected {
		if strings.HasPrefix(name, backendRole) {
			want++
		}
	}
	for _, w := range numbers {
		if w.backends != want {
			g.wrong(ruleWrite, "write %d, %s %s, is at %d of %d backends", w.number, w.method, w.path, w.backends, want)
		}
	}
	look := func(key, path string, number uint64) {
		switch w := numbers[number]; {
		case w == nil && keys[key] == 0:
			g.wrong(ruleWrite, "%s at %s, which was answered as write %d", key, path, number)
		case w == nil || w.key != key:
			g.wrong(ruleTwice, "%s at %s was answered as write %d, and is %d", key, path, number, keys[key])
		}
	}
	for _, o := range g.e.ops {
		if o.kind == written && o.outcome == acked {
			look(o.id, o.path, o.number)
		}
	}
	g.e.each(wrote, func(_ string, r record) { look(r.Key, r.Path, r.Number) })
}

// lanes looks at the order in which writes came to each backend.
func (g *judgement) lanes() {
	for _, name := range g.e.expected {
		c := g.e.children[name]
		if c == nil || !strings.HasPrefix(name, backendRole) {
			continue
		}
		lanes, all, twice := map[int][]record{}, 0, 0
		for _, r := range c.records {
			if r.What == applied {
				lanes[r.Lane] = append(lanes[r.Lane], r)
				all++
			}
		}
		for _, lane := range slices.Sorted(maps.Keys(lanes)) {
			twice += g.lane(name, lanes[lane])
		}
		if twice > againAtMost(all) {
			g.wrong(ruleSenders, "%s was sent %d of %d writes again, while nothing was done to anybody", name, twice, all)
		}
	}
}

// againAtMost is how many writes may come again at once though nothing was done to anybody: a busy machine makes senders wait for too long.
func againAtMost(writes int) int { return max(50, writes/20) }

// lane looks at the order of one lane at one backend, and returns how many writes came again though nothing was wrong. A write may come again at
// once; and a new sender goes back some writes, once, and then sends all that follow again, in order. What comes otherwise is of somebody who should
// not send any more, or was under way when a process stood still.
func (g *judgement) lane(backend string, came []record) (twice int) {
	next := successors(came)
	var at, highest uint64 // the last write, the highest one
	known, late := map[uint64]bool{}, map[fault]int{}
	for _, r := range came {
		n := r.Number
		again := known[n]
		if again && n != next[at] && n != at {
			if f, ok := g.e.stoodStill(backend, r.At); ok && late[f] < f.underWay() {
				late[f]++
				g.counts["write that was under way while a process stood still"]++
				continue
			}
		}
		switch {
		case !again && n < highest:
			g.wrong(ruleOrder, "%s: lane %d: write %d came after %d", backend, r.Lane, n, highest)
			continue
		case n == at && again:
			g.counts["write sent again at once"]++
			if !g.e.disturbed(r.At, r.At) {
				twice++
			}
		case n == next[at]: // goes on
			if again {
				g.counts["write sent again by a new sender"]++
			}
		case again: // goes back
			g.counts["new sender went back"]++
		default:
			g.wrong(ruleOrder, "%s: lane %d: write %d came when %d to %d had to come again", backend, r.Lane, n, next[at], highest)
		}
		known[n] = true
		at, highest = n, max(highest, n)
	}
	return twice
}

// successors is which write of a lane follows which.
func successors(came []record) map[uint64]uint64 {
	numbers := map[uint64]bool{}
	for _, r := range came {
		numbers[r.Number] = true
	}
	next, last := map[uint64]uint64{}, uint64(0)
	for _, n := range slices.Sorted(maps.Keys(numbers)) {
		next[last], last = n, n
	}
	return next
}

const (
	// lateBy is how long after a freeze what was under way may arrive.
	lateBy = 2 * time.Second
	// disturbedFor is how long after any fault writes may be sent again because somebody had waited for too long.
	disturbedFor = 3 * time.Second
)

// stoodStill finds the freeze of the backend, or of a process of the mirror, that was at that time or just before.
func (e *evidence) stoodStill(backend string, at int64) (fault, bool) {
	t := time.Unix(0, at)
	i := slices.IndexFunc(e.faults, func(f fault) bool {
		return (f.froze(backend) || f.kind == frozen && strings.HasPrefix(f.target, mirrorKind)) && t.After(f.begin) && t.Before(f.end.Add(lateBy))
	})
	if i < 0 {
		return fault{}, false
	}
	return e.faults[i], true
}

// underWay is how many requests of one lane to one backend may be on their way when the target of a freeze goes on: of a sender the one that it was
// about to send, of a backend those that were not answered in time as well.
func (f fault) underWay() int {
	if strings.HasPrefix(f.target, mirrorKind) {
		return 1
	}
	return 1 + int(f.end.Sub(f.begin)/mirrorTimeout)
}

// disturbed tells whether anything was done to anybody between two times, or just before.
func (e *evidence) disturbed(from, to int64) bool {
	begin, end := time.Unix(0, from), time.Unix(0, to)
	return slices.ContainsFunc(e.faults, func(f fault) bool { return end.After(f.begin) && begin.Before(f.end.Add(disturbedFor)) })
}

// contents looks whether all backends have the same, and each what its journal says.
func (g *judgement) contents() {
	var first string
	for _, name := range slices.Sorted(maps.Keys(g.e.contents)) {
		want := newContent()
		if c := g.e.children[name]; c != nil {
			for _, r := range c.records {
				if r.What == applied {
					want.apply(r)
				}
			}
		}
		if d := differ(g.e.contents[name], want); d != "" {
			g.wrong(ruleContents, "%s and its journal: %s", name, d)
		}
		if first == "" {
			first = name
		}
		if d := differ(g.e.contents[name], g.e.contents[first]); d != "" {
			g.wrong(ruleContents, "%s and %s: %s", name, first, d)
		}
	}
}

// differ names a path at which two contents differ.
func differ(a, b content) string {
	for path := range a.Values {
		if v, ok := b.Values[path]; !ok || v != a.Values[path] {
			return fmt.Sprintf("%s is %.80q and %.80q", path, a.Values[path], v)
		}
	}
	if len(a.Values) != len(b.Values) {
		return fmt.Sprintf("%d paths and %d", len(a.Values), len(b.Values))
	}
	return ""
}

// reads looks whether what was read was as new as it had to be.
func (g *judgement) reads(keys map[string]uint64) {
	look := func(path, key, body string, status int, number uint64, add bool) {
		has := keys[key]
		switch {
		case status != 0 && status != http.StatusOK:
			g.wrong(ruleStale, "%s was %d after write %d", path, status, number)
		case add && !strings.Contains("\n"+body, "\n"+key+"\n"):
			g.wrong(ruleStale, "%s lacks %s after write %d", path, key, number)
		case !add && has < number:
			g.wrong(ruleStale, "%s was %.80q, of write %d, after write %d", path, body, has, number)
		}
	}
	for _, o := range g.e.ops {
		switch {
		case o.kind != read || o.outcome != acked:
		case o.add:
			look(o.path, o.id, o.body, 0, o.number, true)
		default:
			look(o.path, o.body, o.body, 0, o.number, false)
		}
	}
	g.e.each(looked, func(_ string, r record) {
		_, key, _ := strings.Cut(r.Body, " ")
		look(r.Path, key, r.Body, r.Status, r.Number, false)
	})
}
