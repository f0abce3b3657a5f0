package http

import (
	"net/http"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/http/auth"
	"github.com/skybus-io/skybus/initiators/http/compress"
	"github.com/skybus-io/skybus/initiators/http/cors"
	"github.com/skybus-io/skybus/initiators/http/limit"
)

// Access is who may use an entry, how much, and from which pages.
type Access struct {
	// Auth is what is asked of who sends a request. Nil means what the gateway asks by default ([Config].Policy). An entry that asks for a credential is
	// not served by a gateway that knows none.
	Auth *auth.Policy `json:"auth,omitempty"`
	// Limits are rates, and how many requests run at a time. Nil means none but the gateway's.
	Limits *limit.Limits `json:"limits,omitempty"`
	// CORS says which pages of other origins may use it. Nil means none.
	CORS *cors.Config `json:"cors,omitempty"`
	// Compress makes answers smaller for clients that take gzip. Nil means that they stay as they are.
	Compress *compress.Config `json:"compress,omitempty"`
}

func (a Access) checkAccess(f *faults) {
	if a.Auth != nil {
		f.take(a.Auth.Validate())
	}
	if a.Limits != nil {
		f.take(a.Limits.Validate())
	}
	if a.CORS != nil {
		f.take(a.CORS.Validate())
	}
	if a.Compress != nil {
		f.take(a.Compress.Validate())
	}
}

// access is an Access ready for use. The zero value lets everybody do everything.
type access struct {
	policy   *auth.Policy // nil: nobody is asked
	limits   *limit.Entry // nil: nothing is counted
	cors     *cors.Policy
	compress func(http.Handler) http.Handler
}

// access makes a ready for use by the entry of that name.
func (g *Gateway) access(name string, a Access) (out access, err error) {
	if out.policy, err = g.policy(a.Auth); err != nil {
		return out, err
	}
	if a.Limits != nil {
		out.limits = g.limiter.Entry(name, *a.Limits)
	}
	if a.CORS != nil {
		if out.cors, err = cors.New(*a.CORS); err != nil {
			return out, err
		}
	}
	if a.Compress != nil {
		out.compress, err = compress.New(*a.Compress)
	}
	return out, err
}

// policy is what is asked for, given what an entry says.
func (g *Gateway) policy(own *auth.Policy) (*auth.Policy, error) {
	p := own
	if p == nil {
		p = g.cfg.Policy
	}
	switch {
	case g.cfg.Guard != nil && p == nil:
		return &auth.Policy{}, nil
	case g.cfg.Guard == nil && p != nil && !p.Anonymous && !g.blind:
		return nil, bus.Errorf(bus.FailedPrecondition, "auth: this gateway knows no credentials: it was given no keys, tokens or certificates to take")
	case g.cfg.Guard == nil:
		return nil, nil
	}
	return p, nil
}

// arrive takes a request from what its address has at the gateway as a whole, before anything else is looked at.
func (x *exchange) arrive() error {
	if x.gateway.whole == nil {
		return nil
	}
	return x.limit(x.gateway.whole.IP(x.gateway.proxies.ClientIP(x.request)))
}

// turnAway answers a request that is refused before it has come to its entry. Pages that the entry lets in may read why; and what a browser asks before it makes
// such a request is answered all the same, as no page would hear of anything otherwise.
func (g *Gateway) turnAway(listener string, x *exchange, r *http.Request, err error) {
	if e := g.entryAhead(listener, r); e != nil && e.cors != nil {
		if cors.IsPreflight(r) {
			e.cors.Preflight(x, r)
			return
		}
		e.cors.SetHeader(x.Header(), r)
	}
	id := requestID(r)
	x.set(requestIDHeader, id)
	g.fail(x, r, Answer{RequestID: id}, err)
}

// entryAhead is the entry that a request, or the one that a browser asks about, would come to; nil where it is for something else, or could be for two things.
func (g *Gateway) entryAhead(listener string, r *http.Request) *served {
	if r.RequestURI == "*" || g.rules.Check(r) != nil || g.keeper != nil && strings.HasPrefix(r.URL.Path, requestsPath) {
		return nil
	}
	probe := *r
	probe.Host = strings.ToLower(r.Host)
	if cors.IsPreflight(r) {
		probe.Method = r.Header.Get("Access-Control-Request-Method")
	}
	t := g.table.Load()
	if listener == "" && g.ownAPI(t, &probe) {
		return nil
	}
	return t.entryAt(listener, &probe)
}

// admit lets a request in, or says why not: by the address first, since that costs least, then by who sends it. Leave gives back what was taken.
func (x *exchange) admit() (leave func(), err error) {
	g, e := x.gateway, x.entry
	if e.limits != nil {
		if err := x.limit(e.limits.IP(g.proxies.ClientIP(x.request))); err != nil {
			return nil, err
		}
	}
	if e.policy != nil {
		who, err := g.cfg.Guard.Authorize(x.Header(), x.request, *e.policy)
		if err != nil {
			return nil, err
		}
		x.who = who
	}
	if err := x.count(e.limits); err != nil {
		return nil, err
	}
	if e.limits != nil && !e.limits.Begin() {
		g.metrics.limited(limitPlaces)
		return nil, e.limits.ErrBusy()
	}
	if leave, err = g.places.enter(); err != nil || e.limits == nil {
		if err != nil && e.limits != nil {
			e.limits.End()
		}
		return leave, err
	}
	return func() {
		g.places.left()
		e.limits.End()
	}, nil
}

// count takes a request from what its sender has, then from what all have, at an entry, if there is one, and at the gateway.
func (x *exchange) count(entry *limit.Entry) error {
	whole := x.gateway.whole
	if entry == nil && whole == nil {
		return nil
	}
	key := x.principal()
	if err := x.limit(entry.Key(key)); err != nil {
		return err
	}
	if err := x.limit(whole.Key(key)); err != nil {
		return err
	}
	if err := x.limit(entry.All()); err != nil {
		return err
	}
	if err := x.limit(whole.All()); err != nil {
		return err
	}
	x.tightest.SetHeader(x.Header())
	return nil
}

// limit notes a decision, and is the error of a refusal.
func (x *exchange) limit(d limit.Decision) error {
	x.tightest = x.tightest.Tighter(d)
	if d.OK {
		return nil
	}
	x.gateway.metrics.limited(d.Kind.String())
	x.tightest.SetHeader(x.Header())
	return d.Err()
}

// crossOrigin refuses what a page of another origin made a browser send, unless the entry lets such pages in.
func (x *exchange) crossOrigin() error {
	r := x.request
	if x.entry.cors != nil {
		x.entry.cors.SetHeader(x.Header(), r)
		// Of pages of any origin only those that bring nothing which the browser adds by itself.
		if v := x.Header()["Access-Control-Allow-Origin"]; len(v) > 0 && (v[0] != "*" || !ambient(r)) {
			return nil
		}
	}
	if err := x.gateway.origin.Check(r); err != nil {
		return bus.Wrap(bus.PermissionDenied, "a page of another origin may not post here: cors of the entry, or the gateway's trusted origins, would have to name it", err)
	}
	return nil
}

// ambient tells whether a request has what a browser sends along for any page.
func ambient(r *http.Request) bool {
	for _, v := range r.Header["Authorization"] {
		if scheme, _, _ := strings.Cut(v, " "); !strings.EqualFold(scheme, "bearer") {
			return true
		}
	}
	return len(r.Header["Cookie"]) > 0 || r.TLS != nil && len(r.TLS.PeerCertificates) > 0
}

// forwarded is the header of the request to the target: what the entry forwards of the client's, and who it is.
func (x *exchange) forwarded() (nats.Header, error) {
	e, guard := x.entry, x.gateway.cfg.Guard
	var h nats.Header
	for _, name := range e.forward {
		if v := x.request.Header[name]; len(v) > 0 && (guard == nil || !guard.Hides(name)) {
			if h == nil {
				h = make(nats.Header, len(e.forward))
			}
			h[name] = v
		}
	}
	if x.who != nil {
		if h == nil {
			h = nats.Header{}
		}
		if err := guard.SetHeader(h, x.who); err != nil {
			return nil, err
		}
	}
	if len(h) == 0 {
		return nil, nil
	}
	return h, bus.CheckHeader(h)
}
