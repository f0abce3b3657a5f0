package http

import (
	"net/http"
	"time"
)

// admitMux holds a request for what is no entry (Config.Mux) against the gateway's rates and policy.
func (g *Gateway) admitMux(w http.ResponseWriter, r *http.Request) bool {
	policy := g.byRoute.policy
	if g.cfg.Guard == nil || policy == nil || policy.Anonymous {
		policy = nil
	}
	if policy == nil && g.whole == nil {
		return true
	}
	x := &exchange{ResponseWriter: w, server: w, gateway: g, request: r, begin: time.Now()}
	err := x.arrive()
	if err == nil && policy != nil {
		x.who, err = g.cfg.Guard.Authorize(w.Header(), r, *policy)
	}
	if err == nil {
		err = x.count(nil)
	}
	if err != nil {
		id := requestID(r)
		w.Header().Set(requestIDHeader, id)
		g.fail(w, r, Answer{RequestID: id}, err)
		return false
	}
	return true
}
