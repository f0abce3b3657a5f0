package mirror

import (
	"context"
	"net/http"
	"slices"
	"sync"
)

// class is what an answer says about a write.
type class uint8

const (
	unanswered class = iota // none yet
	taken                   // 2xx, 3xx
	refused                 // 4xx
	failed                  // 5xx again and again, or given up without an answer
)

func (c class) String() string {
	return [...]string{"unanswered", "taken", "refused", "failed"}[c]
}

func classOf(status int) class {
	switch {
	case status >= http.StatusOK && status < http.StatusBadRequest:
		return taken
	case status >= http.StatusBadRequest && status < http.StatusInternalServerError:
		return refused
	}
	return failed
}

// judges find the writes that backends answer otherwise than the others. What they remember is bounded: only answers that are not taken, and those only
// until all backends have answered the write; of the rest, the ledger knows.
//
// The reference for a write is the class that more than half of the active backends gave, or, when all have answered without such a majority, taken if any took
// it, else refused. A backend that has passed a write without a remembered answer took it.
type judges struct {
	nodes  func() []*node
	remade broadcast     // a reference may be known that was not
	poked  chan struct{} // backends have changed

	mu      sync.Mutex
	voters  map[string]*voter
	pages   map[uint64]*page // by number
	horizon uint64           // the last page that another sender may have begun
	evicted map[uint64]bool  // pages that were forgotten
	epoch   int              // changes with the voters
	count   int              // of verdicts
	kept    int              // bytes of answers
}

// voter is a backend that is sent writes.
type voter struct {
	a      *applier
	judged []uint64 // by lane, up to where it has answered
}

// verdict is what is remembered of a write.
type verdict struct {
	lane      int     // -1 while it comes from the ledger, and nobody has answered since
	given     []given // but for those that took it before anybody did not; once the reference is known, only those that differ and are not parked
	reference class   // once it is known
}

// given is an answer.
type given struct {
	backend    string
	generation int64
	class      class
	status     int     // 0 when there was none, or only its class is known
	answer     *answer // nil when it is not known any more
	parked     bool
}

func (s *sender) openJudges(context.Context) error {
	s.judges = judges{
		nodes: func() []*node { return *s.m.nodes.Load() }, poked: make(chan struct{}, 1),
		voters: map[string]*voter{}, pages: map[uint64]*page{}, evicted: map[uint64]bool{}, horizon: pageOf(s.tail.pos),
	}
	s.wg.Go(func() { s.rejudge(s.ctx) })
	return nil
}

// join makes a backend one whose answers are waited for. Its lanes are those it begins with. It may be sent again what the others have passed up to read, and what was
// remembered of that is forgotten: the ledger has it.
func (j *judges) join(a *applier, read uint64) {
	v := &voter{a: a, judged: make([]uint64, len(a.lanes))}
	for i := range v.judged {
		v.judged[i] = a.lanes[i].mark
	}
	j.mu.Lock()
	j.voters[a.node.Name] = v
	j.epoch++
	j.horizon = max(j.horizon, pageOf(read))
	for _, p := range j.pages {
		p.fromLedger = true
	}
	j.mu.Unlock()
	j.poke()
}

func (j *judges) leave(a *applier) {
	j.mu.Lock()
	if v := j.voters[a.node.Name]; v != nil && v.a == a {
		delete(j.voters, a.node.Name)
	}
	j.mu.Unlock()
}

// poke makes references known that are, now that backends have changed.
func (j *judges) poke() {
	select {
	case j.poked <- struct{}{}:
	default:
	}
}

// judge is told of a backend's final answer before it counts as applied. It waits until all that must not be lost is stored, and, where a lane stops at a divergent write,
// until somebody has dealt with that. The error is errEnded.
func (s *sender) judge(a *applier, w *write, ans *answer) error {
	j := &s.judges
	p, err := s.lockPage(a.ctx, pageOf(w.seq))
	if err != nil {
		return err
	}
	mine := classOf(ans.status)
	v := p.verdict(w.seq)
	if v != nil && v.lane < 0 {
		j.adopt(v, w)
	}
	if vote := j.voters[a.node.Name]; vote != nil && vote.a == a {
		vote.judged[w.lane] = w.seq
	}
	if mine == taken && v == nil {
		j.mu.Unlock()
		return nil
	}
	if p == nil {
		p = &page{}
		j.pages[pageOf(w.seq)] = p
	}
	if v == nil {
		v = j.add(p, w.seq, w.lane)
	}
	j.take(v, a, ans)
	j.mu.Unlock()
	return s.settle(a, w, v, ans)
}

// take adopts an answer.
func (j *judges) take(v *verdict, a *applier, ans *answer) {
	v.given = slices.DeleteFunc(v.given, func(g given) bool {
		again := g.backend == a.node.Name
		if again {
			j.kept -= g.answer.keeps()
		}
		return again
	})
	g := given{backend: a.node.Name, generation: a.node.Generation, class: classOf(ans.status), status: ans.status, answer: ans.excerpt()}
	if j.kept+g.answer.keeps() > keptBytes {
		g.answer = nil
	}
	v.given = append(v.given, g)
	j.kept += g.answer.keeps()
}

// settle parks what differs from the reference.
func (s *sender) settle(a *applier, w *write, v *verdict, ans *answer) error {
	j := &s.judges
	for {
		remade := j.remade.wait()
		reference, differ := j.differing(v, w.seq)
		for _, g := range differ {
			if err := s.parkLetter(a.ctx, w, g, reference); err != nil {
				return err
			}
			j.isParked(v, g)
		}
		if len(differ) > 0 {
			j.remade.notify()
		}
		mine := classOf(ans.status)
		var err error
		switch stop := s.m.cfg.Divergence == Stop; {
		case stop && reference == unanswered && mine != taken:
			if err = waitFor(a.ctx, remade); err == nil {
				continue
			}
		case stop && reference != unanswered && mine != reference:
			err = s.awaitDealtWith(a, w)
		case ans.status == 0 && (reference == unanswered || mine == reference): // given up: whatever the others say, it is not lost
			g := given{backend: a.node.Name, class: failed, answer: ans}
			if err = s.parkLetter(a.ctx, w, g, reference); err == nil {
				j.isParked(v, g)
			}
		}
		if err != nil {
			return err
		}
		j.remade.notify()
		j.forget(v, w.seq)
		return nil
	}
}

// differing is the reference of a write, and the answers that differ from it and are not parked yet.
func (j *judges) differing(v *verdict, seq uint64) (class, []given) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if v.reference == unanswered {
		if v.reference = j.reference(v, seq); v.reference != unanswered && v.reference != taken {
			j.addTaken(v, seq)
		}
	}
	if v.reference == unanswered {
		return unanswered, nil
	}
	j.drop(v, func(g given) bool { return g.parked || g.class == v.reference })
	return v.reference, slices.Clone(v.given)
}

// addTaken remembers those that took a write which most did not.
func (j *judges) addTaken(v *verdict, seq uint64) {
	for _, node := range j.nodes() {
		vote := j.voters[node.Name]
		if node.Active && seq > node.From && vote != nil && vote.a.node.Generation == node.Generation && !vote.a.gap && vote.judged[v.lane] >= seq &&
			!slices.ContainsFunc(v.given, func(g given) bool { return g.backend == node.Name }) {
			v.given = append(v.given, given{backend: node.Name, generation: node.Generation, class: taken})
		}
	}
}

func (j *judges) isParked(v *verdict, parked given) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, g := range v.given {
		if g.backend == parked.backend {
			v.given[i].parked = true
		}
	}
	if v.reference != unanswered { // before, it counts
		j.drop(v, func(g given) bool { return g.parked })
	}
}

func (j *judges) drop(v *verdict, which func(given) bool) {
	v.given = slices.DeleteFunc(v.given, func(g given) bool {
		if !which(g) {
			return false
		}
		j.kept -= g.answer.keeps()
		return true
	})
	if len(v.given) == 0 {
		v.given = nil
	}
}

// reference is that of a write, unanswered as long as it is not known. mu is held.
func (j *judges) reference(v *verdict, seq uint64) class {
	var n [failed + 1]int
	voters := 0
	for _, node := range j.nodes() {
		if !node.Active || seq <= node.From {
			continue
		}
		vote := j.voters[node.Name]
		if vote != nil && vote.a.gap || vote == nil && node.State() == StateGap {
			continue
		}
		voters++
		if vote == nil || vote.a.node.Generation != node.Generation || vote.judged[v.lane] < seq {
			n[unanswered]++
			continue
		}
		c := taken
		for _, g := range v.given {
			if g.backend == node.Name && g.generation == node.Generation {
				c = g.class
			}
		}
		n[c]++
	}
	for _, c := range []class{taken, refused, failed} {
		if n[c] > voters/2 {
			return c
		}
	}
	switch {
	case n[unanswered] > 0 || voters == 0:
		return unanswered
	case n[taken] > 0:
		return taken
	}
	return refused // some refused it, and others failed
}

// adopt makes a verdict that comes from the ledger one of this sender. Where the answers so far make a reference, whoever gave the last of them has parked what differs. mu is held.
func (j *judges) adopt(v *verdict, w *write) {
	v.lane = w.lane
	if v.reference = j.reference(v, w.seq); v.reference != unanswered {
		j.drop(v, func(given) bool { return true })
	}
}

// passed tells whether all backends have answered a write. mu is held.
func (j *judges) passed(v *verdict, seq uint64) bool {
	for _, node := range j.nodes() {
		if !node.Active || seq <= node.From {
			continue
		}
		if vote := j.voters[node.Name]; vote == nil || !vote.a.gap && vote.judged[v.lane] < seq {
			return false
		}
	}
	return true
}

// forget lets go of a write that nobody will be asked about any more.
func (j *judges) forget(v *verdict, seq uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if p := j.pages[pageOf(seq)]; p.verdict(seq) == v && len(v.given) == 0 && j.passed(v, seq) {
		delete(p.verdicts, seq)
		j.count--
	}
	j.makeRoom()
}
