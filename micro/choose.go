package micro

import (
	"math/rand/v2"
	"slices"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/balance"
	"github.com/skybus-io/skybus/micro/registry"
)

// plan decides where the next attempt goes.
//
// Without a policy NATS chooses among the members of the queue group, which costs nothing and knows at once of a closed
// connection. It knows nothing of regions, of frozen processes, of those that fail, nor of who refused a moment ago: then one
// of the others is addressed by name. So it is where there is a policy. A policy that has nobody to choose from, because the
// registry knows nobody, leaves the choice to NATS after all; not so a region, which only the registry knows of.
func (a *attempts) plan() *attempt {
	a.n++
	t := &a.one
	if t.n != 0 {
		t = &attempt{} // a.one may still run
	}
	t.n = a.n
	c, r := a.client, a.req
	ns := c.conn.Namespace()
	service := c.registry.Service(r.Service)
	switch {
	case r.Instance != "":
		var ep registry.Endpoint
		i := service.Instance(r.Instance)
		if i != nil {
			ep, _ = i.Endpoint(r.Endpoint)
		}
		if r.Region != "" && (i == nil || i.Region != r.Region) {
			t.err, t.reply.Attempts = a.nobody(), a.n
			return t
		}
		t.subject, t.instance = ns.InstanceSubject(r.Service, r.Instance, r.Endpoint), r.Instance
		a.prepare(t, ep)
		return t
	case service == nil && a.foreign == nil:
		a.useForeign(c.foreign.known(r.Service))
	}
	if a.foreign != nil {
		t.subject, t.foreign, t.err = a.foreign.subject, a.foreign, a.unfit
		a.prepare(t, registry.Endpoint{})
		return t
	}
	policy, weights := c.policy(r), c.settings.canary(r)
	if policy != nil || r.Region != "" || r.Hedge > 0 || len(a.gone)+len(a.tried) > 0 || service.Offline() || a.peer.suspects() {
		if i := a.pick(service, policy, weights); i != nil {
			a.to(t, i, service, policy)
			return t
		}
		if r.Region != "" {
			t.err, t.reply.Attempts = a.nobody(), a.n
			return t
		}
		weights = nil // as nobody of the registry is left, any version will do
	}
	ep, _ := service.Endpoint(r.Endpoint)
	version := r.Version
	if version == "" && len(weights) > 0 && !a.noCanary {
		version = a.canary(a.fit(service), weights)
		t.canary = version != ""
	}
	if version != "" {
		t.subject = ns.VersionSubject(r.Service, version, r.Endpoint)
	} else {
		t.subject = ns.ServiceSubject(r.Service, r.Endpoint)
	}
	a.prepare(t, ep)
	return t
}

// to directs the attempt to i.
func (a *attempts) to(t *attempt, i *registry.Instance, service *registry.Service, policy balance.Policy) {
	t.subject, t.instance = a.client.conn.Namespace().InstanceSubject(a.req.Service, i.Instance, a.req.Endpoint), i.Instance
	if a.req.Hedge > 0 {
		a.tried = append(a.tried, i.Instance) // the next one may come before this one is answered
	}
	if o, ok := policy.(balance.Observer); ok {
		t.observe = o.Observe(i, a.call())
	}
	ep, _ := i.Endpoint(a.req.Endpoint)
	all, _ := service.Endpoint(a.req.Endpoint)
	ep.Idempotent = all.Idempotent // the next attempt goes to another one
	a.prepare(t, ep)
}

// nobody is the error of an attempt that cannot even be sent.
func (a *attempts) nobody() error {
	return bus.Wrap(bus.Unavailable, "nobody to send to", bus.ErrNoResponders)
}

// policy is what chooses for r, nil when the queue group does.
func (c *Client) policy(r *Request) balance.Policy {
	if r.Policy != nil {
		return r.Policy
	}
	if p, ok := c.cfg.Policies[r.Service]; ok {
		return p
	}
	return c.cfg.Policy
}

// pick is the instance for the next attempt, nil when there is none.
func (a *attempts) pick(service *registry.Service, policy balance.Policy, weights map[string]int) *registry.Instance {
	fit := a.peer.healthy(a.fit(service))
	if rest := without(fit, a.tried); len(rest) > 0 {
		fit = rest
	}
	if version := a.canary(fit, weights); version != "" {
		fit = keep(fit, func(i *registry.Instance) bool { return i.Version == version })
	}
	for len(fit) > 0 {
		var i *registry.Instance
		if policy == nil {
			i = fit[rand.IntN(len(fit))]
		} else if i = policy.Pick(fit, a.call()); i == nil {
			return nil
		}
		if a.untold || a.peer.begin(i.Instance) {
			return i
		}
		fit = without(fit, []string{i.Instance}) // somebody else probes it
	}
	return nil
}

// others tells whether there is somebody left to address by name.
func (a *attempts) others() bool {
	return len(a.fit(a.client.registry.Service(a.req.Service))) > 0
}

// fit are the instances that may be called and have neither refused nor been found gone.
func (a *attempts) fit(service *registry.Service) []*registry.Instance {
	if service == nil {
		return nil
	}
	return keep(service.Online, func(i *registry.Instance) bool {
		if a.req.Version != "" && i.Version != a.req.Version || a.req.Region != "" && i.Region != a.req.Region {
			return false
		}
		_, ok := i.Endpoint(a.req.Endpoint)
		return ok && !slices.Contains(a.gone, i.Instance)
	})
}

// canary is the version that weights choose among instances, empty when they choose none.
func (a *attempts) canary(instances []*registry.Instance, weights map[string]int) string {
	if len(weights) == 0 || len(instances) == 0 || a.req.Version != "" {
		return ""
	}
	anyone := balance.Func(func(instances []*registry.Instance, _ balance.Call) *registry.Instance { return instances[0] })
	i := balance.Canary(func() map[string]int { return weights }, anyone).Pick(instances, a.call())
	if weights[i.Version] <= 0 {
		return "" // none of those that are named is there
	}
	return i.Version
}

// keep is the instances that f keeps: the slice itself where that is all of them.
func keep(instances []*registry.Instance, f func(*registry.Instance) bool) []*registry.Instance {
	at := slices.IndexFunc(instances, func(i *registry.Instance) bool { return !f(i) })
	if at < 0 {
		return instances
	}
	kept := slices.Clone(instances[:at])
	for _, i := range instances[at+1:] {
		if f(i) {
			kept = append(kept, i)
		}
	}
	return kept
}

func without(instances []*registry.Instance, ids []string) []*registry.Instance {
	if len(ids) == 0 {
		return instances
	}
	return keep(instances, func(i *registry.Instance) bool { return !slices.Contains(ids, i.Instance) })
}
