package http

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/http/cors"
	"github.com/skybus-io/skybus/internal/httpx"
)

// unmatched is what a listener does with requests that no entry matches.
type unmatched struct {
	gateway  *Gateway
	listener string
}

// ServeHTTP runs the route that the path names, or shows a page. At further listeners there are neither.
func (u unmatched) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g := u.gateway
	x, ok := w.(*exchange)
	if !ok {
		http.NotFound(w, r)
		return
	}
	t := g.table.Load()
	if cors.IsPreflight(r) && u.preflight(t, x, r) {
		return
	}
	first := u.listener == ""
	if first && (r.Method == http.MethodPost || r.Method == http.MethodGet || r.Method == http.MethodHead) && g.hasRoute(r) {
		if r.Method == http.MethodPost {
			x.serve(g.byRoute, r)
			return
		}
		g.refuseMethod(x, r, append(t.methodsAt(u.listener, r), http.MethodPost))
		return
	}
	if allowed := t.methodsAt(u.listener, r); len(allowed) > 0 {
		g.refuseMethod(x, r, allowed)
		return
	}
	g.metrics.refused.Add(1)
	switch {
	case !first || r.Method == http.MethodPost && g.cfg.NoRoutes || r.Method != http.MethodPost && !g.hasPage(r):
		a := Answer{RequestID: requestID(r)}
		x.set(requestIDHeader, a.RequestID)
		g.fail(x, r, a, bus.Errorf(bus.NotFound, "there is nothing at %.100q", r.URL.Path))
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		g.cfg.Pages.ServeHTTP(x, r)
	case r.Method == http.MethodPost:
		x.serve(g.byRoute, r) // which says what is wrong with the name
	default:
		g.refuseMethod(x, r, u.allowed(r))
	}
}

// preflight answers what a browser asks before it makes a request that an entry lets pages of other origins make.
func (u unmatched) preflight(t *table, w http.ResponseWriter, r *http.Request) bool {
	probe := *r
	probe.Method = r.Header.Get("Access-Control-Request-Method")
	e := t.entryAt(u.listener, &probe)
	if e == nil || e.cors == nil {
		return false
	}
	e.cors.Preflight(w, r)
	return true
}

// allowed are the methods of anything that might be where a request goes.
func (u unmatched) allowed(r *http.Request) []string {
	allowed := u.gateway.table.Load().methodsAt(u.listener, r)
	if u.listener != "" {
		return allowed
	}
	return slices.DeleteFunc(methods(), func(m string) bool {
		return !slices.Contains(allowed, m) && m != http.MethodGet && m != http.MethodHead && (m != http.MethodPost || u.gateway.cfg.NoRoutes)
	})
}

// hasPage tells whether there may be a page where a request goes: what pages that are no mux do about a path they alone know.
func (g *Gateway) hasPage(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return true // it is refused for that
	}
	mux, ok := g.cfg.Pages.(*http.ServeMux)
	if !ok {
		return true
	}
	_, pattern := mux.Handler(r)
	return pattern != ""
}

// hasRoute tells whether the path names a route that there is.
func (g *Gateway) hasRoute(r *http.Request) bool {
	name, err := routeName(r)
	if err != nil || g.runner == nil || g.cfg.NoRoutes {
		return false
	}
	_, ok := g.runner.Route(name)
	return ok
}

func (g *Gateway) refuseMethod(w http.ResponseWriter, r *http.Request, allow []string) {
	w.Header().Set("Allow", strings.Join(allow, ", "))
	e := bus.Errorf(bus.Unimplemented, "method %.20q: want %s", r.Method, strings.Join(allow, ", "))
	e.Status = http.StatusMethodNotAllowed
	a := Answer{RequestID: cmp.Or(w.Header().Get(requestIDHeader), requestID(r))}
	w.Header().Set(requestIDHeader, a.RequestID)
	g.fail(w, r, a, e)
}

// refuse answers a request that could mean two things, before anybody has looked at it.
func (u unmatched) refuse(x *exchange, r *http.Request, p *httpx.Problem) {
	g := u.gateway
	if p.Status == http.StatusMethodNotAllowed {
		g.refuseMethod(x, r, u.allowed(r))
		return
	}
	a := Answer{RequestID: requestID(r)}
	x.Header().Set(requestIDHeader, a.RequestID)
	g.fail(x, r, a, problemError(p))
}
