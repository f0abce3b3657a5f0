package scheduler

import (
	"sync/atomic"

	"github.com/skybus-io/skybus/internal/outlier"
)

// Stats is what a process has done since it opened the scheduler.
type Stats struct {
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
	}
	for _, d := range s.outliers.Snapshot() {
		if d.State == outlier.Out {
			st.Ejected = append(st.Ejected, d.Key)
		}
	}
	return st
}

// newOutliers counts the failures of each destination by itself.
func newOutliers() *outlier.Detector { return outlier.New(outlier.Config{MaxEjectionPercent: 100}) }
