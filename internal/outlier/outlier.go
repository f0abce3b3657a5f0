// Package outlier takes hosts that fail out of use for a while, and bounds how much is tried again.
//
// The names and defaults of [Config] are those of Envoy's outlier detection
// (https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/cluster/v3/outlier_detection.proto), of which it is the part
// that looks at consecutive failures, with always_eject_one_host. It differs in three things. There is no sweep: what
// happens, happens with the request that causes it. A host whose ejection is over is not at once back in full, but first
// has to answer one request, the probe. And how many may be out is asked of those there are when one is chosen, not of
// those there were when one was ejected, so hosts that come and go change nothing: see [Healthy].
package outlier

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of a [Config].
const (
	DefaultConsecutiveFailures = 5
	DefaultInterval            = 10 * time.Second
	DefaultBaseEjectionTime    = 30 * time.Second
	DefaultMaxEjectionTime     = 300 * time.Second
	DefaultMaxEjectionPercent  = 10
)

// Config says when a host is ejected and for how long. Zero and negative values mean the defaults.
type Config struct {
	// ConsecutiveFailures in a row eject a host. 0 means 5.
	ConsecutiveFailures int
	// BaseEjectionTime, times how often the host was ejected, is how long it stays out. 0 means 30 s.
	BaseEjectionTime time.Duration
	// MaxEjectionTime is the longest a host stays out. 0 means 300 s; never less than BaseEjectionTime.
	MaxEjectionTime time.Duration
	// MaxEjectionPercent of the hosts may be out at once; one always may, all never. 0 means 10.
	MaxEjectionPercent int
	// Interval in use without being ejected takes one off the times a host was ejected. 0 means 10 s.
	Interval time.Duration
}

func (c Config) withDefaults() Config {
	if c.ConsecutiveFailures <= 0 {
		c.ConsecutiveFailures = DefaultConsecutiveFailures
	}
	if c.BaseEjectionTime <= 0 {
		c.BaseEjectionTime = DefaultBaseEjectionTime
	}
	if c.MaxEjectionTime <= 0 {
		c.MaxEjectionTime = DefaultMaxEjectionTime
	}
	c.MaxEjectionTime = max(c.MaxEjectionTime, c.BaseEjectionTime)
	if c.MaxEjectionPercent <= 0 {
		c.MaxEjectionPercent = DefaultMaxEjectionPercent
	}
	if c.Interval <= 0 {
		c.Interval = DefaultInterval
	}
	return c
}

// Detector keeps account of hosts by key. It is safe for concurrent use, has no goroutines and needs no closing; what it
// knows of hosts that are no longer asked for it forgets. While no host fails it costs two atomic loads a request.
type Detector struct {
	cfg   Config
	probe time.Duration // after which a probe that was not reported makes way for another one
	known atomic.Int64  // len(hosts), to be asked without the lock

	mu     sync.Mutex
	hosts  map[string]*host // those with something against them
	pruned time.Time
}

// host is one with something against it.
type host struct {
	failures int       // in a row
	times    int       // it was ejected, less what good conduct took off
	ejected  bool      // until a probe succeeds
	since    time.Time // when the ejection began
	until    time.Time // when a probe may be made
	probe    time.Time // when the probe that is under way began; zero when none is
	returned time.Time // when it came back, or where good conduct was last counted
	touched  time.Time // last report
}

// New is a detector that knows nothing against anyone.
func New(cfg Config) *Detector {
	cfg = cfg.withDefaults()
	return NewPatient(cfg, cfg.BaseEjectionTime)
}

// NewPatient is New for requests that may take longer than an ejection: a probe that is not reported makes way for another one after
// probe, which is more than 0.
func NewPatient(cfg Config, probe time.Duration) *Detector {
	return &Detector{cfg: cfg.withDefaults(), probe: probe, hosts: map[string]*host{}}
}

// Report tells how a request to the host ended, and returns whether that ejected it. Only what says something about the host
// is a failure: no answer, an overload, an internal error; not the refusal of a bad request, nor that the caller gave up.
//
// While a host is out, reports of it change nothing, as they are of requests from before. The first one after that decides: a
// success and it is back, a failure and it is out again, for longer.
func (d *Detector) Report(key string, ok bool) (ejected bool) {
	if ok && d.known.Load() == 0 {
		return false
	}
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.hosts[key]
	switch {
	case h == nil && ok:
		return false
	case h == nil:
		d.pruneLocked(now)
		h = &host{}
		d.hosts[key] = h
		d.known.Store(int64(len(d.hosts)))
	}
	h.touched = now
	switch {
	case h.ejected && now.Before(h.until):
		return false
	case ok:
		d.succeededLocked(key, h, now)
		return false
	}
	h.failures++
	if !h.ejected && h.failures < d.cfg.ConsecutiveFailures {
		return false
	}
	d.ejectLocked(h, now)
	return true
}

func (d *Detector) succeededLocked(key string, h *host, now time.Time) {
	h.failures = 0
	if h.ejected {
		h.ejected, h.probe, h.returned = false, time.Time{}, now
	}
	d.forgiveLocked(h, now)
	if h.times == 0 {
		delete(d.hosts, key)
		d.known.Store(int64(len(d.hosts)))
	}
}

func (d *Detector) ejectLocked(h *host, now time.Time) {
	d.forgiveLocked(h, now)
	h.times++
	h.ejected, h.failures, h.probe = true, 0, time.Time{}
	h.since, h.until = now, now.Add(min(time.Duration(h.times)*d.cfg.BaseEjectionTime, d.cfg.MaxEjectionTime))
	if time.Duration(h.times)*d.cfg.BaseEjectionTime > d.cfg.MaxEjectionTime {
		h.times-- // more would only make the way back longer than it ever stays out
	}
}

// forgiveLocked takes the intervals that the host was in use off the times it was ejected.
func (d *Detector) forgiveLocked(h *host, now time.Time) {
	if h.ejected || h.times == 0 {
		return
	}
	n := min(int(now.Sub(h.returned)/d.cfg.Interval), h.times)
	h.times -= n
	h.returned = h.returned.Add(time.Duration(n) * d.cfg.Interval)
}

// pruneLocked forgets hosts that nobody reported of for so long that nothing would be left against them.
func (d *Detector) pruneLocked(now time.Time) {
	if now.Sub(d.pruned) < d.cfg.MaxEjectionTime {
		return
	}
	d.pruned = now
	for key, h := range d.hosts {
		if now.Sub(h.touched) > 2*d.cfg.MaxEjectionTime {
			delete(d.hosts, key)
		}
	}
	d.known.Store(int64(len(d.hosts)))
}

// Begin is called before a request to the host. It tells whether to go on: of those who chose a host for its probe at the
// same time only the first is told to, the others choose again. A probe that is never reported makes way for another
// one after BaseEjectionTime, or as [NewPatient] was told. Hosts that are out for good are not refused, since [Healthy] may have had to offer them.
func (d *Detector) Begin(key string) (proceed bool) {
	if d.known.Load() == 0 {
		return true
	}
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.hosts[key]
	if h == nil || !h.ejected || now.Before(h.until) {
		return true
	}
	if d.probingLocked(h, now) {
		return false
	}
	h.probe = now
	return true
}

func (d *Detector) probingLocked(h *host, now time.Time) bool {
	return !h.probe.IsZero() && now.Sub(h.probe) < d.probe
}

// outLocked tells whether the host is to get no request now.
func (d *Detector) outLocked(h *host, now time.Time) bool {
	return h != nil && h.ejected && (now.Before(h.until) || d.probingLocked(h, now))
}

// Clean tells that nothing is known against anyone. It costs one atomic load.
func (d *Detector) Clean() bool { return d.known.Load() == 0 }

// Ejected tells whether the host is out of use: ejected, or waiting for the answer to its probe. A host that waits for
// somebody to probe it is not. Whether it may indeed be left out depends on the others: see [Healthy].
func (d *Detector) Ejected(key string) bool {
	if d.known.Load() == 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.outLocked(d.hosts[key], time.Now())
}

// Until is when the ejection of a host that is out ends; the zero time for all others, and for one that waits for its probe.
func (d *Detector) Until(key string) time.Time {
	if d.known.Load() == 0 {
		return time.Time{}
	}
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if h := d.hosts[key]; h != nil && h.ejected && now.Before(h.until) {
		return h.until
	}
	return time.Time{}
}

// Healthy is all without the hosts that are out of use, in the same order. Where more of them are out than
// MaxEjectionPercent allows, those that were ejected first stay out and the others are offered nevertheless; of one host
// or more, one at least always is. It returns all itself, without an allocation, when none is left out.
func Healthy[T any](d *Detector, all []T, key func(T) string) []T {
	if d.known.Load() == 0 || len(all) < 2 {
		return all
	}
	out := leaveOut(d, all, key)
	if len(out) == 0 {
		return all
	}
	healthy := make([]T, 0, len(all)-len(out))
	for i, v := range all {
		if !slices.ContainsFunc(out, func(o outcast) bool { return o.at == i }) {
			healthy = append(healthy, v)
		}
	}
	return healthy
}

// outcast is a host that is out of use.
type outcast struct {
	key   string
	since time.Time
	at    int // its position among those there are
}

// leaveOut is those of all that are to be left out.
func leaveOut[T any](d *Detector, all []T, key func(T) string) []outcast {
	out := d.outcasts()
	if len(out) == 0 {
		return nil
	}
	var found []outcast
	for i, v := range all {
		k := key(v)
		for _, o := range out {
			if o.key == k {
				found = append(found, outcast{k, o.since, i})
			}
		}
	}
	limit := min(max(1, len(all)*d.cfg.MaxEjectionPercent/100), len(all)-1)
	if len(found) > limit {
		slices.SortStableFunc(found, func(a, b outcast) int { return a.since.Compare(b.since) })
		found = found[:limit]
	}
	return found
}

func (d *Detector) outcasts() []outcast {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pruneLocked(now)
	var out []outcast
	for key, h := range d.hosts {
		if d.outLocked(h, now) {
			out = append(out, outcast{key: key, since: h.since})
		}
	}
	return out
}

// State says what is against a host.
type State string

// The states of a host that has failed.
const (
	Failing State = "failing" // in use, with failures
	Out     State = "ejected" // out of use
	Probing State = "probing" // in use for one request, which decides
	Back    State = "back"    // in use, with ejections not yet forgiven
)

// Status is what is known against one host.
type Status struct {
	Key      string
	State    State
	Failures int       // in a row
	Times    int       // it was ejected, less what good conduct took off
	Until    time.Time // when the ejection ends; zero when there is none
}

// Snapshot is everything known against anyone, by key; hosts without failures are not in it.
func (d *Detector) Snapshot() []Status {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]Status, 0, len(d.hosts))
	for key, h := range d.hosts {
		d.forgiveLocked(h, now)
		s := Status{Key: key, State: Failing, Failures: h.failures, Times: h.times}
		switch {
		case h.ejected && now.Before(h.until):
			s.State, s.Until = Out, h.until
		case h.ejected:
			s.State = Probing
		case h.failures > 0:
		case h.times > 0:
			s.State = Back
		default:
			continue
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Key, b.Key) })
	return all
}
