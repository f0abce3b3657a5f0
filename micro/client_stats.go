package micro

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// CalleeStats are what a client keeps account of about one service, or, where Service is empty, about all that the registry
// does not know.
type CalleeStats struct {
	Service string `json:"service,omitempty"`
	// Requests and Retries are the calls, and the repetitions that the budget granted, of the last [RetryBudgetConfig.Window];
	// RetriesLeft is how many more it would grant now.
	Requests    int64 `json:"requests"`
	Retries     int64 `json:"retries"`
	RetriesLeft int64 `json:"retries_left"`
	// Suspects are the instances that failed and are not forgiven, by id.
	Suspects []Suspect `json:"suspects,omitempty"`
}

// Suspect is an instance with something against it: see [OutlierConfig].
type Suspect struct {
	Instance string `json:"instance"`
	// State is failing (in use), ejected, probing (its ejection is over, one request decides) or back (in use again).
	State string `json:"state"`
	// Failures in a row, and how often it was ejected.
	Failures  int `json:"failures"`
	Ejections int `json:"ejections"`
	// Until is when the ejection ends; zero when there is none.
	Until time.Time `json:"until,omitzero"`
}

// Stats are the figures of the services that the client has called, by name. It is for display: it takes locks that calls need.
func (c *Client) Stats() []CalleeStats {
	known := *c.peers.known.Load()
	all := make([]CalleeStats, 0, len(known)+1)
	if other := c.peers.common.stats(""); other.Requests+other.Retries > 0 {
		all = append(all, other)
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		all = append(all, known[name].stats(name))
	}
	return all
}

func (p *peer) stats(service string) CalleeStats {
	b := p.budget.Status()
	s := CalleeStats{Service: service, Requests: b.Requests, Retries: b.Retries, RetriesLeft: b.Left}
	if p.outliers == nil {
		return s
	}
	for _, o := range p.outliers.Snapshot() {
		s.Suspects = append(s.Suspects, Suspect{o.Key, string(o.State), o.Failures, o.Times, o.Until})
	}
	slices.SortFunc(s.Suspects, func(a, b Suspect) int { return cmp.Compare(a.Instance, b.Instance) })
	return s
}
