package mirror

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/internal/outlier"
)

// Stats is what a process has done since it opened the mirror. What it did not do itself, such as to send while another process does, is not in it.
type Stats struct {
	Stored    uint64 `json:"stored"`    // writes of clients
	Refused   uint64 `json:"refused"`   // of which nothing was stored
	Queued    uint64 `json:"queued"`    // answered with 202, as no backend's answer was there in time, or none was asked for
	Parked    uint64 `json:"parked"`    // writes, by backend: each counts once for each backend it was parked for
	Takeovers uint64 `json:"takeovers"` // how often the process began to send
	Sending   bool   `json:"sending"`   // it sends now

	Backends []BackendStats `json:"backends"` // in priority order
}

// BackendStats is what a process has seen of a backend.
type BackendStats struct {
	Name      string    `json:"name"`
	Condition Condition `json:"condition"` // as all processes know it: what waits, and how long

	Get    MethodStats `json:"get"`    // reads: GET, HEAD and OPTIONS
	Set    MethodStats `json:"set"`    // writes but DELETE
	Delete MethodStats `json:"delete"` // writes by DELETE

	Retries  uint64 `json:"retries"`  // attempts at a write that another one followed
	Diverged uint64 `json:"diverged"` // writes that were parked
	Downs    uint64 `json:"downs"`    // how often it stopped taking writes
	Ejected  uint64 `json:"ejected"`  // how often it was taken out of reads, as too many failed in a row
	Out      bool   `json:"out"`      // it is now

	Reads  Latency `json:"reads"`  // until an answer began
	Writes Latency `json:"writes"` // until an answer was there
}

// MethodStats counts requests to a backend. Each attempt counts.
type MethodStats struct {
	Success uint64 `json:"success"` // answers below 500
	Failure uint64 `json:"failure"` // others, and none
	// Queued are those that wait, or are on their way. Of writes that the sender has not read yet only the number is known: they are among those to set.
	Queued uint64 `json:"queued"`
}

// Latency is a histogram of how long answers took.
type Latency struct {
	Count   uint64        `json:"count"`
	Sum     time.Duration `json:"sum_ns"`
	Buckets []uint64      `json:"buckets"` // of answers within each of LatencyBounds, not of those within a smaller one; the last is for all others
}

// LatencyBounds are the upper bounds of [Latency].Buckets but the last.
func LatencyBounds() []time.Duration {
	const ms = time.Millisecond
	return []time.Duration{ms / 2, ms, 2 * ms, 5 * ms, 10 * ms, 20 * ms, 50 * ms, 100 * ms, 200 * ms, 500 * ms, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second}
}

// counts are those of a process.
type counts struct {
	stored, refused, queued, parked, takeovers atomic.Uint64
	sending                                    atomic.Bool
}

// nodeCounts are those of a backend in a process.
type nodeCounts struct {
	get, set, del                     methodCounts
	retries, diverged, downs, ejected atomic.Uint64
	reads, writes                     latencyCounts
}

type methodCounts struct {
	ok, failed atomic.Uint64
	underWay   atomic.Int64
}

func (c *methodCounts) add(ok bool) {
	if ok {
		c.ok.Add(1)
		return
	}
	c.failed.Add(1)
}

func (c *methodCounts) stats() MethodStats {
	return MethodStats{Success: c.ok.Load(), Failure: c.failed.Load(), Queued: uint64(max(c.underWay.Load(), 0))} //nolint:gosec // not negative
}

type latencyCounts struct {
	sum     atomic.Int64
	buckets [15]atomic.Uint64
}

func (c *latencyCounts) add(d time.Duration) {
	c.sum.Add(int64(d))
	i := 0
	for _, bound := range [...]time.Duration{500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000} {
		if d <= bound*time.Microsecond {
			break
		}
		i++
	}
	c.buckets[i].Add(1)
}

func (c *latencyCounts) stats() Latency {
	l := Latency{Sum: time.Duration(c.sum.Load()), Buckets: make([]uint64, len(c.buckets))}
	for i := range c.buckets {
		l.Buckets[i] = c.buckets[i].Load()
		l.Count += l.Buckets[i]
	}
	return l
}

// write counts an attempt at a write.
func (c *nodeCounts) write(method string, begin time.Time, ans *answer, err error) {
	ok := err == nil && !isFailure(ans.status)
	if method == http.MethodDelete {
		c.del.add(ok)
	} else {
		c.set.add(ok)
	}
	if err == nil {
		c.writes.add(time.Since(begin))
	}
}

// read counts an attempt at a read. status is 0 where there was no answer.
func (c *nodeCounts) read(took time.Duration, status int) {
	c.get.add(status != 0 && !isFailure(status))
	if status != 0 {
		c.reads.add(took)
	}
}

// Stats is what this process has done.
func (m *Mirror) Stats() Stats {
	s := Stats{
		Stored: m.counts.stored.Load(), Refused: m.counts.refused.Load(), Queued: m.counts.queued.Load(), Parked: m.counts.parked.Load(),
		Takeovers: m.counts.takeovers.Load(), Sending: m.counts.sending.Load(), Backends: []BackendStats{},
	}
	out := map[string]bool{}
	for _, o := range m.ejection.Snapshot() {
		out[o.Key] = o.State == outlier.Out
	}
	for _, c := range m.Conditions() {
		n := m.node(c.Name)
		if n == nil { // it was removed just now
			continue
		}
		b := BackendStats{
			Name: c.Name, Condition: c, Get: n.counts.get.stats(), Set: n.counts.set.stats(), Delete: n.counts.del.stats(),
			Retries: n.counts.retries.Load(), Diverged: n.counts.diverged.Load(), Downs: n.counts.downs.Load(), Ejected: n.counts.ejected.Load(), Out: out[c.Name],
			Reads: n.counts.reads.stats(), Writes: n.counts.writes.stats(),
		}
		if a := n.health.applier.Load(); a != nil {
			b.Delete.Queued = a.waiting(http.MethodDelete)
		}
		b.Set.Queued = c.Waiting - min(c.Waiting, b.Delete.Queued)
		s.Backends = append(s.Backends, b)
	}
	return s
}

// waiting is how many of the writes in memory have a method.
func (a *applier) waiting(method string) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := uint64(0)
	for i := range a.lanes {
		for _, w := range a.lanes[i].queue {
			if w.method == method {
				n++
			}
		}
	}
	return n
}
