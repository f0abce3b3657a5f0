package mirror

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/internal/backoff"
)

const (
	pageWrites    = 4096
	mostVerdicts  = 1 << 16 // in memory
	keptBytes     = 8 << 20 // of answers whose reference is not known yet
	excerptBytes  = 16 << 10
	lettersFirst  = 50 * time.Millisecond
	lettersPause  = 5 * time.Second // at most, between attempts to park
	lettersSilent = time.Minute     // between warnings
	parkedSilent  = 10 * time.Second
	ledgerPatient = 5 * time.Second // with a ledger that cannot be read
	dealtWithWait = time.Second
	tidyEvery     = 10 * time.Second
)

func pageOf(seq uint64) uint64 { return seq / pageWrites }

// page is what is remembered of the writes with neighbouring sequences.
type page struct {
	verdicts   map[uint64]*verdict
	fromLedger bool // it may have begun before this sender, or was forgotten
	epoch      int  // of the voters whose answers were read
	loading    chan struct{}
}

func (p *page) verdict(seq uint64) *verdict {
	if p == nil {
		return nil
	}
	return p.verdicts[seq]
}

func (j *judges) add(p *page, seq uint64, lane int) *verdict {
	v := &verdict{lane: lane}
	j.count++
	if p.verdicts == nil {
		p.verdicts = map[uint64]*verdict{}
	}
	p.verdicts[seq] = v
	return v
}

// lockPage returns with mu held, but for an error. What was answered to the writes of a page and is not remembered, is read from the ledger before. A page without anything is nil.
func (s *sender) lockPage(ctx context.Context, n uint64) (*page, error) {
	j := &s.judges
	for {
		j.mu.Lock()
		p := j.pages[n]
		if p == nil {
			if n > j.horizon && !j.evicted[n] {
				return nil, nil //nolint:nilnil // there is none
			}
			p = &page{fromLedger: true}
			j.pages[n] = p
			delete(j.evicted, n)
		}
		if !p.fromLedger || p.epoch == j.epoch {
			return p, nil
		}
		if loading := p.loading; loading != nil {
			j.mu.Unlock()
			select {
			case <-loading:
			case <-ctx.Done():
				return nil, errEnded
			}
			continue
		}
		loading, epoch, voters := make(chan struct{}), j.epoch, slices.Collect(maps.Values(j.voters))
		p.loading = loading
		j.mu.Unlock()
		found := s.loadPage(ctx, n, voters)
		j.mu.Lock()
		if p.loading = nil; ctx.Err() == nil {
			j.remember(p, found)
			p.epoch = epoch
		}
		j.mu.Unlock()
		close(loading)
		if ctx.Err() != nil {
			return nil, errEnded
		}
	}
}

// found is an answer in the ledger that is not taken.
type found struct {
	seq uint64
	given
}

// remember adds what was found, but for what is known better. mu is held.
func (j *judges) remember(p *page, all []found) {
	for _, f := range all {
		v := p.verdict(f.seq)
		if v == nil {
			v = j.add(p, f.seq, -1)
		}
		if v.reference == unanswered && !slices.ContainsFunc(v.given, func(g given) bool { return g.backend == f.backend }) {
			v.given = append(v.given, f.given)
		}
	}
}

// loadPage reads what the voters answered to the writes of a page. A ledger that cannot be read is waited for a while, then they are taken for agreed.
func (s *sender) loadPage(ctx context.Context, n uint64, voters []*voter) []found {
	each := make([][]found, len(voters))
	var loading sync.WaitGroup
	for i, v := range voters {
		loading.Go(func() { each[i] = s.loadAnswers(ctx, n, v.a.node) })
	}
	loading.Wait()
	return slices.Concat(each...)
}

func (s *sender) loadAnswers(ctx context.Context, n uint64, of *node) []found {
	deadline := time.Now().Add(ledgerPatient)
	for attempt := 1; ; attempt++ {
		answers, err := s.m.notTaken(ctx, of.Backend, n*pageWrites, (n+1)*pageWrites)
		if err == nil {
			return answers
		}
		if errors.Is(err, jetstream.ErrStreamNotFound) || time.Now().After(deadline) {
			s.m.log.WarnContext(ctx, "ledger not read, writes that backends answered differently just now are not parked", "backend", of.Name, "error", err)
			return nil
		}
		if !backoff.Sleep(ctx, backoff.Full(attempt, firstPause, time.Second)) {
			return nil
		}
	}
}

// notTaken reads from the ledger which writes, from one up to another, a backend has answered and not taken.
func (m *Mirror) notTaken(ctx context.Context, b Backend, from, to uint64) ([]found, error) {
	from = max(from, b.From+1)
	if from >= to {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, ledgerPatient)
	defer cancel()
	at, err := m.findChunk(ctx, b, from)
	if err != nil || at == 0 {
		return nil, err
	}
	last := map[uint64]uint16{}
	err = m.eachChunk(ctx, b.Name, at, func(c *chunk) bool {
		if c.generation != b.Generation {
			return true
		}
		for _, e := range c.entries {
			if e.seq >= from && e.seq < to {
				if last[e.seq] = e.status; classOf(int(e.status)) == taken {
					delete(last, e.seq)
				}
			}
		}
		return c.floor < to
	})
	if err != nil {
		return nil, err
	}
	var all []found
	for seq, status := range last {
		all = append(all, found{seq, given{backend: b.Name, generation: b.Generation, class: classOf(int(status)), status: int(status)}})
	}
	return all, nil
}

// makeRoom forgets the page with the most verdicts of those that nobody is at, as long as there are too many. The ledger has them. mu is held.
func (j *judges) makeRoom() {
	for j.count > mostVerdicts {
		largest, most := uint64(0), 0
		for n, p := range j.pages {
			if len(p.verdicts) > most && p.loading == nil && j.nobodyAt(n) {
				largest, most = n, len(p.verdicts)
			}
		}
		if most == 0 {
			return
		}
		j.forgetPage(largest)
		j.evicted[largest] = true
	}
}

func (j *judges) forgetPage(n uint64) {
	p := j.pages[n]
	for _, v := range p.verdicts {
		j.drop(v, func(given) bool { return true })
	}
	j.count -= len(p.verdicts)
	delete(j.pages, n)
}

// nobodyAt tells whether each voter has committed all of a page, or has not come to it.
func (j *judges) nobodyAt(n uint64) bool {
	for _, v := range j.voters {
		if v.a.position() >= n*pageWrites && v.a.node.floor.Load() < (n+1)*pageWrites {
			return false
		}
	}
	return true
}

// rejudge looks at what is remembered when backends have changed: references may be known now that they are fewer.
func (s *sender) rejudge(ctx context.Context) {
	j := &s.judges
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			j.tidy()
			continue
		case <-j.poked:
		}
		for _, open := range j.open() {
			reference, differ := j.differing(open.verdict, open.seq)
			for _, g := range differ {
				w, err := s.m.storedWrite(ctx, open.seq, open.lane)
				if err != nil || s.parkLetter(ctx, w, g, reference) != nil {
					return // with ctx
				}
				j.isParked(open.verdict, g)
			}
			j.forget(open.verdict, open.seq)
		}
		j.tidy()
		j.remade.notify()
	}
}

type openVerdict struct {
	seq uint64
	*verdict
}

// open is what is remembered and concerns voters.
func (j *judges) open() []openVerdict {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []openVerdict
	for _, p := range j.pages {
		for seq, v := range p.verdicts {
			if v.lane >= 0 {
				all = append(all, openVerdict{seq, v})
			}
		}
	}
	return all
}

// tidy forgets pages that all have passed.
func (j *judges) tidy() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for n, p := range j.pages {
		if p.loading == nil && j.allPast(n) {
			j.forgetPage(n)
		}
	}
	for n := range j.evicted {
		if j.allPast(n) {
			delete(j.evicted, n)
		}
	}
}

// allPast tells whether all backends have committed all of a page.
func (j *judges) allPast(n uint64) bool {
	for _, node := range j.nodes() {
		if node.Active && node.floor.Load() < (n+1)*pageWrites {
			return false
		}
	}
	return true
}
