package balance

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/micro/registry"
)

const (
	// memory is the time in which what was measured loses all but 1/e of its weight.
	memory = 5 * time.Second
	// forgetAfter is when an instance that was not called counts as one that never was.
	forgetAfter = 12 * memory
	// leastRise is the weight of a measurement that is worse than those before: trouble is to be seen at once.
	leastRise = 0.25

	// A failed call counts as one that took errorFactor times as long as calls did before, but not more than errorMost;
	// a first call that fails, as one that took errorFirst.
	errorFactor = 10
	errorFirst  = time.Second
	errorMost   = 10 * time.Second

	// certain is how much dearer an instance is that is not chosen at all; below it chance has a say, so that callers who
	// know the same, and what they know is some seconds old, do not all choose the same.
	certain = 2.0
	// mostReported is how much the reported work of two instances may make one dearer. It is as old as the last heartbeat.
	mostReported = 1.5
	// overloaded is how much dearer an instance is that refused requests in the last shedTime, or is about to.
	overloaded = 2.0
	shedTime   = 5 * time.Second
)

// BestQuality chooses who answers quickly and has little to do: of two instances taken at random the one whose latency,
// times its calls in flight, is less. It is the policy for instances that are not alike, or not always: one that is slow
// or fails is left alone within a call or two, and tried again after a time that grows with how slow it was, from some seconds to
// about a minute.
//
// The latency is a moving average of what this policy observed, by endpoint; half of it is forgotten in 3.5 s. Who was never
// called, or not for long, is neither best nor worst: such an instance counts as quick as the one it is compared with,
// or, where neither was called, by the latencies that both report with their heartbeats. Their reports also tell how much they do
// for others and whether they refuse requests; these weigh little enough that callers which have just begun do not all
// turn to the same instance.
//
// It has to be told of calls by Observe; without, it goes by the reports alone.
func BestQuality() Observer { return &bestQuality{begin: time.Now()} }

type bestQuality struct {
	begin time.Time
	peers table[peerKey, peer]
}

var _ Observer = (*bestQuality)(nil)

type peerKey struct{ service, instance, endpoint string }

// peer is what was observed of an instance. Times are since the beginning of the policy.
type peer struct {
	inFlight atomic.Int64
	latency  atomic.Uint64 // nanoseconds as bits of a float64, 0 before the first call
	last     atomic.Int64  // when the latency was updated
	shed     atomic.Uint64 // as last reported
	shedAt   atomic.Int64  // when that was seen to rise, 0 when it never was

	mu sync.Mutex // of who updates the latency
}

func (p *bestQuality) Pick(instances []*registry.Instance, call Call) *registry.Instance {
	n := len(instances)
	if n == 1 {
		return instances[0]
	}
	a, b := rand.IntN(n), rand.IntN(n-1)
	if b >= a {
		b++
	}
	now := p.now()
	x, y := p.look(instances[a], call.Endpoint, now), p.look(instances[b], call.Endpoint, now)
	cheap, dear := instances[a], instances[b]
	ratio := y.dearer(&x)
	if ratio < 1 {
		cheap, dear, ratio = dear, cheap, 1/ratio
	}
	if ratio < certain && rand.Float64()*2*(certain-1) < certain-ratio {
		return dear
	}
	return cheap
}

func (p *bestQuality) now() time.Duration { return time.Since(p.begin) }

// quality is how an instance is seen at a moment.
type quality struct {
	latency  float64 // as measured, nanoseconds; 0 when it was not
	faded    float64 // what is left of it
	inFlight float64 // of this policy
	load     registry.Load
	full     bool
}

func (p *bestQuality) look(i *registry.Instance, endpoint string, now time.Duration) quality {
	q := quality{load: i.Load()}
	q.full = q.load.Limit > 0 && q.load.InFlight >= q.load.Limit
	peer := p.peers.get(peerKey{i.Service, i.Instance, endpoint})
	if peer == nil {
		return q
	}
	q.inFlight = float64(max(0, peer.inFlight.Load()))
	q.full = q.full || peer.sheds(q.load.Shed, now)
	if idle := now - time.Duration(peer.last.Load()); idle < forgetAfter {
		q.latency = math.Float64frombits(peer.latency.Load())
		q.faded = q.latency * fade(idle)
	}
	return q
}

// dearer is how many times as dear q is as other.
func (q *quality) dearer(other *quality) float64 {
	ratio := (1 + q.inFlight) / (1 + other.inFlight)
	switch {
	case q.latency > 0 && other.latency > 0:
		ratio *= q.against(other) / other.against(q)
	case q.latency == 0 && other.latency == 0 && q.load.Latency > 0 && other.load.Latency > 0:
		ratio *= float64(q.load.Latency) / float64(other.load.Latency)
	}
	reported := float64(1+max(0, q.load.InFlight)) / float64(1+max(0, other.load.InFlight))
	ratio *= min(max(reported, 1/mostReported), mostReported)
	if q.full {
		ratio *= overloaded
	}
	if other.full {
		ratio /= overloaded
	}
	return ratio
}

// against is the latency for a comparison with other. It fades until it is so much better that the instance is tried again,
// and no further: otherwise all calls would go to whoever was not called for longest, as long as it does not answer.
func (q *quality) against(other *quality) float64 {
	return max(q.faded, min(q.latency, other.faded/certain))
}

// fade is what is left of a measurement after a time.
func fade(idle time.Duration) float64 { return math.Exp(-float64(max(0, idle)) / float64(memory)) }

// sheds tells whether the instance refused requests lately, given how many it did since its start.
func (p *peer) sheds(total uint64, now time.Duration) bool {
	if before := p.shed.Load(); total != before && p.shed.CompareAndSwap(before, total) && total > before {
		p.shedAt.Store(int64(max(now, 1)))
		return true
	}
	at := time.Duration(p.shedAt.Load())
	return at > 0 && now-at < shedTime
}

// Observe begins an attempt.
func (p *bestQuality) Observe(i *registry.Instance, call Call) (done func(took time.Duration, err error)) {
	key := peerKey{i.Service, i.Instance, call.Endpoint}
	o := p.peers.get(key)
	if o == nil {
		o = p.meet(key, i.Load().Shed)
	}
	o.inFlight.Add(1)
	return func(took time.Duration, err error) {
		o.inFlight.Add(-1)
		o.measured(took, err, p.now())
	}
}

// meet begins to observe an instance, and forgets those that were not called for long, as they may be no more.
func (p *bestQuality) meet(key peerKey, shed uint64) *peer {
	now := p.now()
	o := &peer{}
	o.shed.Store(shed)
	o.last.Store(int64(now))
	return p.peers.add(key, o, func(_ peerKey, old *peer) bool {
		return old.inFlight.Load() <= 0 && now-time.Duration(old.last.Load()) > forgetAfter
	})
}

func (p *peer) measured(took time.Duration, err error, now time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sample := float64(max(took, 1))
	latency := math.Float64frombits(p.latency.Load())
	idle := now - time.Duration(p.last.Load())
	known := latency > 0 && idle < forgetAfter
	switch {
	case err != nil && !known:
		latency = max(sample, float64(errorFirst))
	case err != nil:
		latency = max(sample, latency, min(errorFactor*latency, float64(errorMost)))
	case !known:
		latency = sample
	default:
		weight := 1 - fade(idle)
		if sample > latency {
			weight = max(weight, leastRise)
		}
		latency += (sample - latency) * weight
	}
	p.latency.Store(math.Float64bits(latency))
	p.last.Store(int64(now))
}
