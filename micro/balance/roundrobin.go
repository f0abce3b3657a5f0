package balance

import (
	"math/rand/v2"
	"sync/atomic"

	"github.com/skybus-io/skybus/micro/registry"
)

// mostTurns is how many sets of instances a round robin knows its turn of.
const mostTurns = 256

// RoundRobin gives each instance its turn: of any n calls in a row to the same n instances, also concurrent ones, each gets
// exactly one. Endpoints, and choices among different instances (another version, say), take turns of their own, so
// that a caller who alternates between them leaves nobody out. Where the turn begins is random; otherwise a thousand
// callers that begin together would all begin with the same instance.
func RoundRobin() Policy { return &roundRobin{} }

type roundRobin struct {
	turns table[turnKey, atomic.Uint64]
}

// turnKey stands for a set of instances. Different sets that it cannot tell apart share their turn, which is harmless unless
// they are called in strict alternation.
type turnKey struct {
	service, endpoint, first, last string
	n                              int
}

var _ Policy = (*roundRobin)(nil)

func (p *roundRobin) Pick(instances []*registry.Instance, call Call) *registry.Instance {
	n := len(instances)
	if n == 1 {
		return instances[0]
	}
	first := instances[0]
	key := turnKey{first.Service, call.Endpoint, first.Instance, instances[n-1].Instance, n}
	turn := p.turns.get(key)
	if turn == nil {
		turn = p.begin(key)
	}
	return instances[turn.Add(1)%uint64(n)]
}

func (p *roundRobin) begin(key turnKey) *atomic.Uint64 {
	turn := &atomic.Uint64{}
	turn.Store(rand.Uint64N(uint64(key.n)))
	known := 0
	return p.turns.add(key, turn, func(turnKey, *atomic.Uint64) bool {
		known++ // in no order, so those that go are any
		return known >= mostTurns
	})
}
