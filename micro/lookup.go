package micro

import (
	"context"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/registry"
)

// lookAgain is how often a lookup asks for services of other libraries, of which no registry tells.
const lookAgain = 250 * time.Millisecond

// Lookup is what is known of an endpoint without calling it: what the instances say of it that r restricts a call to, of these the online
// ones where there are any; or what a service of another library tells of itself (ADR-32), which is its name and whether it is
// internal. Of r only Service, Endpoint, Version, Instance and Patience count.
//
// It reads the registry's local copy, and waits only where no such instance is known, for as long as a call tries again where nobody serves it
// (Patience). The error is unavailable after that, not_found where there are instances and none has the endpoint, and
// invalid_argument for what cannot be a name.
func (c *Client) Lookup(ctx context.Context, r Request) (registry.Endpoint, error) {
	if err := checkRequest(&r); err != nil {
		return registry.Endpoint{}, err
	}
	patience := time.NewTimer(max(0, orDefault(r.Patience, c.cfg.Patience)))
	defer patience.Stop()
	for {
		changed := c.registry.Changed()
		s := c.registry.Service(r.Service)
		if e, known, err := endpointOf(s, &r); known {
			return e, err
		}
		if s == nil && r.Instance == "" {
			if e, known, err := c.foreign.find(ctx, r.Service).lookup(&r); known {
				return e, err
			}
		}
		select {
		case <-changed:
		case <-time.After(lookAgain):
		case <-patience.C:
			return registry.Endpoint{}, bus.Errorf(bus.Unavailable, "nobody serves %s.%s%s: no such instance is known", r.Service, r.Endpoint, restriction(&r))
		case <-ctx.Done():
			return registry.Endpoint{}, bus.AsError(context.Cause(ctx))
		}
	}
}

func restriction(r *Request) string {
	out := ""
	if r.Version != "" {
		out += " in version " + r.Version
	}
	if r.Instance != "" {
		out += " on instance " + r.Instance
	}
	return out
}

func noEndpoint(r *Request) error {
	return bus.Errorf(bus.NotFound, "service %q has no endpoint %q%s", r.Service, r.Endpoint, restriction(r))
}

// endpointOf is what the instances of s that r may reach say together. known is false where there are none.
func endpointOf(s *registry.Service, r *Request) (e registry.Endpoint, known bool, err error) {
	if s == nil {
		return e, false, nil
	}
	if r.Version == "" && r.Instance == "" {
		if e, ok := s.Endpoint(r.Endpoint); ok {
			return e, true, nil
		}
	}
	for _, instances := range [...][]*registry.Instance{s.Online, s.Rest} {
		found := false
		for _, i := range instances {
			if r.Version != "" && i.Version != r.Version || r.Instance != "" && i.Instance != r.Instance {
				continue
			}
			if len(i.Endpoints) == 0 {
				continue // it has told that it is there, and is about to tell of them
			}
			known = true
			own, ok := i.Endpoint(r.Endpoint)
			switch {
			case ok && found:
				e = own.Join(e)
			case ok:
				e, found = own, true
			}
		}
		if found {
			return e, true, nil
		}
		if known {
			return e, true, noEndpoint(r)
		}
	}
	return e, false, nil
}

// lookup is what the service tells of an endpoint. known is false for nil, and where r asks for another version.
func (s *foreignService) lookup(r *Request) (e registry.Endpoint, known bool, err error) {
	if s == nil || r.Version != "" && r.Version != s.version {
		return e, false, nil
	}
	ep := s.endpoints[r.Endpoint]
	if ep == nil {
		return e, true, noEndpoint(r)
	}
	return registry.Endpoint{Name: r.Endpoint, Internal: ep.internal}, true, nil
}
