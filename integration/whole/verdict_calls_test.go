//go:build unix

package whole_test

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// ranBy is how long after an edit of the route the one before may run: requests that have begun finish by it.
const ranBy = time.Second

// calls looks for the steps of each call that was answered, and which route ran.
func (g *judgement) calls() {
	steps := map[string]map[string]int{} // times, by step and id
	g.e.each(stepped, func(_ string, r record) {
		if steps[r.Step] == nil {
			steps[r.Step] = map[string]int{}
		}
		steps[r.Step][r.ID]++
	})
	for step, ids := range steps {
		for _, n := range ids {
			g.counts["done again: "+step] += n - 1
		}
	}
	var edit time.Time
	for _, o := range g.e.ops {
		if o.kind == rerouted && o.outcome == acked {
			edit = o.end
		}
	}
	for _, o := range g.e.ops {
		if o.outcome != acked {
			continue
		}
		id := o.id
		switch o.kind {
		case created:
			if !o.step {
				continue
			}
			id = o.timer
			fallthrough
		case called, once, routed:
			var d done
			if err := json.Unmarshal([]byte(o.body), &d); err != nil || d.Order == "" {
				g.wrong(ruleCall, "%s was answered %.100q", o.id, o.body)
				continue
			}
			want := []string{"order.create", "stock.remind", "note.write"}
			if d.Stock != "" {
				want = append(want, "stock.reserve")
			} else if !edit.IsZero() && o.begin.After(edit.Add(ranBy)) {
				g.wrong(ruleRoute, "%s, %v after the edit", o.id, o.begin.Sub(edit))
			}
			for _, step := range want {
				if steps[step][id] == 0 {
					g.wrong(ruleCall, "%s has no %s", o.id, step)
				}
			}
		case later:
			if steps["stock.later"][o.id] == 0 {
				g.wrong(ruleLater, "%s", o.id)
			}
		default:
		}
	}
}

// fileRecords looks for each record of a file that was put into place, and whether they came in order for the first time.
func (g *judgement) fileRecords() {
	first := map[string]record{}
	g.e.each(stepped, func(_ string, r record) {
		if r.Step != fileTarget {
			return
		}
		before, again := first[r.ID]
		if again && before.Key != r.Key {
			g.wrong(ruleTwice, "record %s with the key %q and %q", r.ID, before.Key, r.Key)
		}
		if !again || r.At < before.At {
			first[r.ID] = r
		}
	})
	for _, o := range g.e.ops {
		if o.kind != dropped || o.outcome != acked {
			continue
		}
		last := record{}
		for n := range o.records {
			r, ok := first[recordID(o.id, n)]
			switch {
			case !ok:
				g.wrong(ruleRecord, "%s", recordID(o.id, n))
				continue
			case r.At < last.At:
				g.wrong(ruleOrder, "record %s came before %s", r.ID, last.ID)
			}
			last = r
		}
	}
}

// reign is a term, and the time during which its leader found itself to be the leader.
type reign struct {
	term, child string
	from, to    int64
}

// leaders looks whether two led at one time, and whether one acted whose time was over.
func (g *judgement) leaders() {
	reigns := map[string]*reign{}
	g.e.each(led, func(child string, r record) {
		k := reigns[r.Term]
		if k == nil {
			k = &reign{r.Term, child, r.At, r.At}
			reigns[r.Term] = k
		}
		if k.child != child {
			g.wrong(ruleTerms, "%s was of %s and of %s", r.Term, k.child, child)
		}
		k.from, k.to = min(k.from, r.At), max(k.to, r.At)
	})
	all := slices.SortedFunc(maps.Values(reigns), func(a, b *reign) int { return cmp.Compare(a.from, b.from) })
	for i := 1; i < len(all); i++ {
		if before, k := all[i-1], all[i]; k.from <= before.to {
			g.wrong(ruleTerms, "%s of %s led %v into %s of %s", before.term, before.child, time.Duration(before.to-k.from), k.term, k.child)
		}
		if before, k := all[i-1], all[i]; compareTerms(before.term, k.term) >= 0 {
			g.wrong(ruleTerms, "%s came after %s", k.term, before.term)
		}
	}
	g.counts["terms of leaders"] = len(all)
	var acts []record
	g.e.each(acted, func(_ string, r record) { acts = append(acts, r) })
	slices.SortFunc(acts, func(a, b record) int { return cmp.Compare(a.Revision, b.Revision) })
	for i := 1; i < len(acts); i++ {
		before, a := acts[i-1], acts[i]
		if before.Revision == a.Revision || compareTerms(before.Term, a.Term) > 0 {
			g.wrong(ruleFence, "%s as revision %d, after %s as %d", a.Term, a.Revision, before.Term, before.Revision)
		}
	}
}

// settings looks whether what was edited is what there is, for all.
func (g *judgement) settings() {
	may, last := map[string]bool{}, ""
	for _, o := range slices.SortedFunc(slices.Values(g.e.ops), func(a, b operation) int { return a.begin.Compare(b.begin) }) {
		switch {
		case o.kind == edited && o.outcome == acked:
			last = o.body
			may = map[string]bool{o.body: true}
		case o.kind == edited:
			may[o.body] = true
		}
	}
	if !may[g.e.setting] {
		g.wrong(ruleSetting, "it is %q, was set to %q", g.e.setting, last)
	}
	for name, c := range g.e.children {
		for _, r := range slices.Backward(c.records) {
			if r.What == learned {
				if r.Body != g.e.setting {
					g.wrong(ruleSetting, "%s knows %q, not %q", name, r.Body, g.e.setting)
				}
				break
			}
		}
	}
	if steps, want := routeSteps(g.e.route), []string{"order.create", "stock.reserve", "stock.remind", "note.write"}; !slices.Equal(steps, want) {
		g.wrong(ruleRoute, "at the end it is %v", steps)
	}
}

// routeSteps are the targets of the steps of a route, as the command line shows it.
func routeSteps(shown string) (steps []string) {
	var r struct {
		Steps []struct {
			Service  string `json:"service"`
			Endpoint string `json:"endpoint"`
		} `json:"steps"`
	}
	_ = json.Unmarshal([]byte(shown), &r) // nothing is no route
	for _, s := range r.Steps {
		steps = append(steps, s.Service+"."+s.Endpoint)
	}
	return steps
}
