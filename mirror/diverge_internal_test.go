package mirror

import "testing"

// fakeVoter is a backend that has read and committed so far.
func fakeVoter(j *judges, name string, read, floor uint64) {
	n := &node{Backend: Backend{Name: name, Active: true}, nodeState: newNodeState(1)}
	n.floor.Store(floor)
	a := &applier{node: n, read: read, lanes: []lane{{mark: read}}}
	nodes := append(j.nodes(), n)
	j.nodes = func() []*node { return nodes }
	j.join(a, read)
}

func fakeJudges() *judges {
	return &judges{
		nodes: func() []*node { return nil }, poked: make(chan struct{}, 1),
		voters: map[string]*voter{}, pages: map[uint64]*page{}, evicted: map[uint64]bool{},
	}
}

// What is remembered while a backend is down and clients send what the others refuse is bounded: pages are forgotten, but those that somebody is at.
func TestVerdictsAreBounded(t *testing.T) {
	t.Parallel()
	const pages = mostVerdicts/pageWrites + 4
	j := fakeJudges()
	fakeVoter(j, "a", pages*pageWrites, pages*pageWrites)
	fakeVoter(j, "b", pages*pageWrites, (pages-1)*pageWrites) // has not committed the last
	fakeVoter(j, "c", pageWrites+5, pageWrites+5)             // is at the second
	for seq := range uint64(pages * pageWrites) {
		n := pageOf(seq)
		if n != 1 && n != pages-1 && seq%pageWrites == 0 {
			continue // those two have the most, and would be forgotten first
		}
		if j.pages[n] == nil {
			j.pages[n] = &page{}
		}
		v := j.add(j.pages[n], seq, 0)
		v.given = []given{{backend: "a", class: refused, answer: &answer{body: make([]byte, 1)}}}
		j.kept += v.given[0].answer.keeps()
	}
	each := j.kept / j.count
	j.makeRoom()
	if j.count > mostVerdicts || j.count < mostVerdicts-pageWrites || j.kept != j.count*each {
		t.Errorf("%d verdicts with %d bytes are remembered, want %d or a little less", j.count, j.kept, mostVerdicts)
	}
	if len(j.evicted) != 4 || j.evicted[1] || j.evicted[pages-1] || j.pages[1] == nil || j.pages[pages-1] == nil {
		t.Errorf("forgotten are the pages %v, want four, and not 1 or %d", j.evicted, pages-1)
	}
	for _, v := range j.voters {
		v.a.node.floor.Store(pages * pageWrites)
	}
	if j.tidy(); j.count != 0 || j.kept != 0 || len(j.pages)+len(j.evicted) != 0 {
		t.Errorf("%d verdicts, %d bytes, pages %v and %v left when all have passed", j.count, j.kept, j.pages, j.evicted)
	}
}

// What the ledger says completes what is remembered, and does not replace it.
func TestRemember(t *testing.T) {
	t.Parallel()
	j := fakeJudges()
	p := &page{fromLedger: true}
	j.add(p, 5, 0).reference = taken
	j.add(p, 6, 0).given = []given{{backend: "a", class: failed}}
	j.remember(p, []found{
		{5, given{backend: "a", class: refused}}, // decided
		{6, given{backend: "a", class: refused}}, // known better
		{6, given{backend: "b", class: refused}},
		{7, given{backend: "a", class: refused}},
	})
	if v := p.verdict(5); len(v.given) != 0 {
		t.Errorf("5: %+v", v)
	}
	if v := p.verdict(6); len(v.given) != 2 || v.given[0].class != failed || v.given[1].backend != "b" {
		t.Errorf("6: %+v", v)
	}
	if v := p.verdict(7); len(v.given) != 1 || v.lane >= 0 || j.count != 3 {
		t.Errorf("7: %+v", v)
	}
}
