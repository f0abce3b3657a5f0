package mirror

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/internal/httpx"
	"github.com/skybus-io/skybus/internal/outlier"
)

const (
	pulseEvery    = 500 * time.Millisecond
	latencyWeight = 0.2              // of a new answer in the average
	latencyFades  = 10 * time.Second // after which an average that nothing was added to counts half
)

// front is what a process needs to serve clients.
type front struct {
	writes   room // writes that are worked on
	bodies   room // bytes of bodies that are not stored, or sent, yet
	turn     atomic.Uint64
	rules    httpx.Rules
	ejection *outlier.Detector
	buffers  sync.Pool
	check    *checks

	clock   atomic.Int64  // Unix nanoseconds at which the servers were last heard, and what was said of lag is meant for
	crowded atomic.Bool   // more than half of the room for bodies is used
	last    atomic.Uint64 // the last write that is stored, by the last look
}

func (m *Mirror) openFront() error {
	m.writes.limit, m.bodies.limit = int64(m.cfg.MaxWrites), m.cfg.MaxWriteBytes
	m.ejection = outlier.New(outlier.Config(m.cfg.Ejection))
	m.rules = httpx.Rules{
		Methods:      append([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, m.cfg.WriteMethods...),
		EncodedSlash: m.cfg.EncodedSlash, MaxFields: m.cfg.MaxFields,
	}
	m.clock.Store(time.Now().UnixNano())
	var err error
	m.check, err = newChecks(m.cfg.Health.withDefaults())
	return err
}

// Ejection takes backends that fail out of reads for a while. The names and defaults are those of Envoy's outlier detection. Zero values mean the defaults.
type Ejection struct {
	// ConsecutiveFailures in a row eject a backend: no answer, or 5xx. 0 means 5.
	ConsecutiveFailures int
	// BaseEjectionTime, times how often the backend was ejected, is how long it stays out. 0 means 30 s.
	BaseEjectionTime time.Duration
	// MaxEjectionTime is the longest that it stays out. 0 means 300 s.
	MaxEjectionTime time.Duration
	// MaxEjectionPercent of the backends may be out at once; one always may, all never. 0 means 10.
	MaxEjectionPercent int
	// Interval in use without being ejected takes one off the times a backend was ejected. 0 means 10 s.
	Interval time.Duration
}

// nodeReads is what decides about reads from a backend.
type nodeReads struct {
	heard   atomic.Int64  // Unix nanoseconds at which its progress was heard
	since   atomic.Int64  // Unix nanoseconds since when a write waits that the sender does not speak of, 0 for none
	missing atomic.Uint64 // that write
	latency atomic.Uint64 // bits of a float64: nanoseconds until an answer began, on average
	sampled atomic.Int64  // Unix nanoseconds at which that was last measured

	client atomic.Pointer[reader]

	of     int64     // generation of what follows; the pulse's
	polled uint64    // how far it was at the last pulse; the same
	asked  bool      // what it lacks, at least once; the same
	none   [2]uint64 // between these there was no write; the same
}

// took adds to the average of how long answers take to begin.
func (r *nodeReads) took(d time.Duration) {
	old := math.Float64frombits(r.latency.Load())
	if old == 0 {
		old = float64(d)
	}
	r.latency.Store(math.Float64bits(old + latencyWeight*(float64(d)-old))) // of two at once, one counts
	r.sampled.Store(time.Now().UnixNano())
}

// expected is how long an answer is expected to take. What was slow once is tried again after a while.
func (r *nodeReads) expected(now time.Time) float64 {
	age := time.Duration(now.UnixNano() - r.sampled.Load())
	return math.Float64frombits(r.latency.Load()) * math.Exp2(-age.Seconds()/latencyFades.Seconds())
}

// choose adds the backends that may serve a read to all, the best first.
func (m *Mirror) choose(all []*node, want minimum) []*node {
	nodes := *m.nodes.Load()
	for _, n := range nodes {
		if m.mayRead(n, want) && n.State() != StateDown && !outrun(n, nodes) {
			all = append(all, n)
		}
	}
	if len(all) == 0 { // one that took no writes lately, or none yet, is better than none
		for _, n := range nodes {
			if m.mayRead(n, want) {
				all = append(all, n)
			}
		}
	}
	all = outlier.Healthy(m.ejection, all, func(n *node) string { return n.Name })
	switch {
	case len(all) < 2:
	case m.cfg.Reads == RoundRobin:
		rotate(all, int(m.turn.Add(1)%uint64(len(all)))) //nolint:gosec // below len
	case m.cfg.Reads == LeastLatency:
		now, best := time.Now(), 0
		for i, n := range all {
			if n.reads.expected(now) < all[best].reads.expected(now) {
				best = i
			}
		}
		rotate(all, best)
	}
	return all
}

// rotate puts the nth first, and those before it last.
func rotate(all []*node, n int) {
	for range n {
		first := all[0]
		copy(all, all[1:])
		all[len(all)-1] = first
	}
}

// mayRead tells whether a backend may serve a read.
func (m *Mirror) mayRead(n *node, want minimum) bool {
	return n.Active && !n.Maintenance && !n.health.down.Load() && n.met(want) && n.State() != StateGap && (m.cfg.MaxLag < 0 || n.lagged(m.clock.Load()) <= m.cfg.MaxLag)
}

// spokenOf tells whether a sender has said how far the backend is, since its writes begin where they do.
func (n *nodeState) spokenOf() bool {
	p := n.progress.Load()
	return p == nil || p.Term != ""
}

// outrun tells whether others have what a backend may have to be sent, of which no sender has said yet how far it is.
func outrun(n *node, nodes []*node) bool {
	return !n.spokenOf() && slices.ContainsFunc(nodes, func(o *node) bool { return o.Active && o.spokenOf() && o.floor.Load() > n.floor.Load() })
}

// lagged is how long the oldest write that the backend lacks has waited, as far as this process knows.
func (n *nodeState) lagged(clock int64) time.Duration {
	lag := time.Duration(n.lag.Load()) * time.Millisecond
	if p := n.progress.Load(); p != nil && (p.Waiting > 0 || len(p.Marks) > 0) {
		lag += time.Duration(max(clock-n.reads.heard.Load(), 0))
	}
	if since := n.reads.since.Load(); since != 0 && n.floor.Load() < n.reads.missing.Load() {
		lag = max(lag, time.Duration(clock-since))
	}
	return lag
}

// pulse looks, every half second, for writes that backends lack and the sender does not speak of: there may be no sender. While the servers do not
// answer, nobody can store a write through them, and nobody's lag grows.
func (m *Mirror) pulse(ctx context.Context) {
	for {
		m.beat(ctx)
		if !backoff.Sleep(ctx, pulseEvery) {
			return
		}
	}
}

func (m *Mirror) beat(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	begin := time.Now()
	info, err := m.stream.Info(ctx)
	if err != nil {
		return
	}
	m.last.Store(info.State.LastSeq)
	ahead := info.TimeStamp.Sub(begin)
	for _, n := range *m.nodes.Load() {
		m.notice(ctx, n, info.State.LastSeq, ahead)
	}
	m.clock.Store(time.Now().UnixNano())
	m.changed.notify()
}

// notice looks whether a backend lacks a write. One that has gone on since the last time is left to the sender's word.
func (m *Mirror) notice(ctx context.Context, n *node, last uint64, ahead time.Duration) {
	r, floor := &n.reads, n.floor.Load()
	if r.of != n.Generation { // it may be of another stream
		r.since.Store(0)
		r.missing.Store(0)
		r.of, r.polled, r.asked, r.none = n.Generation, 0, false, [2]uint64{}
	}
	moved := r.asked && floor != r.polled
	r.polled = floor
	if floor >= r.missing.Load() {
		r.since.Store(0)
	}
	if !n.Active || moved || floor >= last || r.since.Load() != 0 || r.none == [2]uint64{floor, last} {
		return
	}
	msg, err := m.nextWrite(ctx, floor+1)
	switch {
	case err == nil:
		r.missing.Store(msg.Seq)
		r.since.Store(msg.Time.Add(-ahead).UnixNano())
		r.asked = true
	case errors.Is(err, errNone):
		r.none, r.asked = [2]uint64{floor, last}, true
	}
}
