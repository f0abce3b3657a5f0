package micro

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/outlier"
	"github.com/skybus-io/skybus/micro/registry"
)

// OutlierConfig says when an instance that fails is left out, and for how long. The names and defaults are those of Envoy's
// outlier detection. What counts as a failure of an instance is an answer with the code unavailable, deadline_exceeded or
// internal, and no answer within the time of the attempt; not that nobody listens where the instance was: it is gone and
// the registry will tell, nor that the caller gave up. An instance whose time is over has to answer one request, its probe,
// before it gets its share again.
//
// As long as nothing is known against an instance of a service, the queue group chooses; otherwise, until that is
// forgiven, the client addresses one of the others by name.
type OutlierConfig struct {
	// Off: nobody is left out.
	Off bool
	// ConsecutiveFailures in a row leave an instance out. 0 means 5.
	ConsecutiveFailures int
	// BaseEjectionTime, times how often it happened, is how long. 0 means 30 s.
	BaseEjectionTime time.Duration
	// MaxEjectionTime is the longest. 0 means 300 s; never less than BaseEjectionTime.
	MaxEjectionTime time.Duration
	// MaxEjectionPercent of the instances of a service may be left out at once; one always may, all never. 0 means 10.
	MaxEjectionPercent int
	// Interval in use without a new ejection takes one off the times it happened. 0 means 10 s.
	Interval time.Duration
}

// RetryBudgetConfig bounds by the calls to a service how many of its attempts are repetitions, so that a service in trouble is
// not buried. Repetitions are attempts after a time-out or a refusal, and hedges; an attempt after nobody was there costs
// nobody anything and is not counted. Without leave to repeat, the call fails with the error it has.
type RetryBudgetConfig struct {
	// Percent of the calls of the window may be repeated. 0 means 20, negative means none.
	Percent int
	// Window is how long a call counts. 0 means 10 s.
	Window time.Duration
	// MinPerSecond repetitions are allowed whatever the calls. 0 means 10, negative means none.
	MinPerSecond int
}

// mostPeers is how many services a client keeps account of; for more it keeps one account for all of them.
const mostPeers = 1024

// peer is what a client keeps account of about one service.
type peer struct {
	outliers *outlier.Detector // nil when nobody is left out
	budget   *outlier.Budget
}

// peers are the accounts by service, of those that the registry knows. Reading takes no lock.
type peers struct {
	cfg    ClientConfig
	known  atomic.Pointer[map[string]*peer]
	common *peer // of the others

	mu sync.Mutex // of writers
}

func (p *peers) init(cfg ClientConfig) {
	p.cfg = cfg
	p.common = p.fresh()
	p.common.outliers = nil // their instances have no names
	p.known.Store(&map[string]*peer{})
}

func (p *peers) fresh() *peer {
	fresh := &peer{budget: outlier.NewBudget(outlier.BudgetConfig(p.cfg.RetryBudget))}
	if o := p.cfg.Outliers; !o.Off {
		fresh.outliers = outlier.New(outlier.Config{
			ConsecutiveFailures: o.ConsecutiveFailures,
			BaseEjectionTime:    o.BaseEjectionTime,
			MaxEjectionTime:     o.MaxEjectionTime,
			MaxEjectionPercent:  o.MaxEjectionPercent,
			Interval:            o.Interval,
		})
	}
	return fresh
}

// peer is the account of a service.
func (c *Client) peer(service string) *peer {
	if p := (*c.peers.known.Load())[service]; p != nil {
		return p
	}
	if c.registry.Service(service) == nil {
		return c.peers.common
	}
	return c.peers.add(service, c.registry.Services())
}

func (p *peers) add(service string, registered map[string]*registry.Service) *peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := *p.known.Load()
	if peer := before[service]; peer != nil {
		return peer
	}
	next := maps.Clone(before)
	maps.DeleteFunc(next, func(name string, _ *peer) bool { return registered[name] == nil })
	if len(next) >= mostPeers {
		return p.common
	}
	next[service] = p.fresh()
	p.known.Store(&next)
	return next[service]
}

// suspects tells whether anything is known against an instance.
func (p *peer) suspects() bool { return p.outliers != nil && !p.outliers.Clean() }

func (p *peer) healthy(instances []*registry.Instance) []*registry.Instance {
	if p.outliers == nil {
		return instances
	}
	return outlier.Healthy(p.outliers, instances, func(i *registry.Instance) string { return i.Instance })
}

// begin tells whether an attempt on the instance may be made.
func (p *peer) begin(instance string) bool { return p.outliers == nil || p.outliers.Begin(instance) }

// report tells how an attempt on the instance ended.
func (c *Client) report(p *peer, service, instance string, err error) {
	if p.outliers == nil || err != nil && c.registry.Service(service).Instance(instance) == nil {
		return // anybody may claim to be one
	}
	if p.outliers.Report(instance, err == nil) {
		c.log.Warn("instance fails and is left out for a while", "service", service, "instance", instance, "code", string(bus.CodeOf(err)))
	}
}
