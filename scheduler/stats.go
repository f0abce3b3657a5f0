package scheduler

import (
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/internal/outlier"
)

// Stats is what a process has done since it opened the scheduler.
type Stats struct {
	Shards  int    `json:"shards"`  // that this process fires
	Pending int    `json:"pending"` // timers of those that are known
	Loaded  bool   `json:"loaded"`  // all of them are
	Fired   uint64 `json:"fired"`
	Missed  uint64 `json:"missed"`  // left to the server, which fires them a little late
	Swept   uint64 `json:"swept"`   // which the server did not fire either
	Skipped uint64 `json:"skipped"` // occurrences that did not happen
	// Skew is how far the server's clock is ahead of this process's.
	Skew time.Duration `json:"skew"`

	Delivered uint64 `json:"delivered"`
	Failed    uint64 `json:"failed"`   // attempts
	Retried   uint64 `json:"retried"`  // of them those after which another one was to follow
	Dead      uint64 `json:"dead"`     // deliveries given up
	Deferred  uint64 `json:"deferred"` // how often one was put off without an attempt
	InFlight  int64  `json:"in_flight"`
	// Ejected are the destinations that failed again and again, and are left alone for a while.
	Ejected []string `json:"ejected,omitempty"`
}

// counters are what Stats is made from.
type counters struct {
	delivered, failed, retried, dead, deferred atomic.Uint64
	fired, shed, swept, skipped                atomic.Uint64
	inFlight                                   atomic.Int64
}

// Stats is what this process has done.
func (s *Scheduler) Stats() Stats {
	st := Stats{
		Delivered: s.counters.delivered.Load(),
		Failed:    s.counters.failed.Load(),
		Retried:   s.counters.retried.Load(),
		Dead:      s.counters.dead.Load(),
		Deferred:  s.counters.deferred.Load(),
		InFlight:  s.counters.inFlight.Load(),
		Fired:     s.counters.fired.Load(),
		Missed:    s.counters.shed.Load(),
		Swept:     s.counters.swept.Load(),
		Skipped:   s.counters.skipped.Load(),
	}
	st.Loaded = true
	for _, sh := range s.shards {
		if o := sh.owner.Load(); o != nil {
			o.stats(&st)
		}
		if skew, _ := sh.clock.skew(); skew.Abs() > st.Skew.Abs() {
			st.Skew = skew
		}
	}
	for _, d := range s.outliers.Snapshot() {
		if d.State == outlier.Out {
			st.Ejected = append(st.Ejected, d.Key)
		}
	}
	return st
}

// newOutliers counts the failures of each destination by itself. One that was started again is soon well, and its timers are late for as long as it is left
// alone; so that is short at first, and grows.
func newOutliers() *outlier.Detector {
	return outlier.NewPatient(outlier.Config{MaxEjectionPercent: 100, BaseEjectionTime: ejectedFirst, MaxEjectionTime: ejectedLast}, probeLast)
}

// stats adds what an owner knows.
func (o *owner) stats(st *Stats) {
	o.mu.Lock()
	defer o.mu.Unlock()
	st.Shards++
	st.Pending += o.far.len() + len(o.near.timers) + o.overdue.len()
	st.Loaded = st.Loaded && o.loaded
}
