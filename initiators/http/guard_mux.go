package http

import "net/http"

// admitMux holds a request for what is no entry (Config.Mux) against the gateway's policy.
func (g *Gateway) admitMux(w http.ResponseWriter, r *http.Request) bool {
	policy := g.byRoute.policy
	if g.cfg.Guard == nil || policy == nil || policy.Anonymous {
		return true
	}
	if _, err := g.cfg.Guard.Authorize(w.Header(), r, *policy); err != nil {
		g.fail(w, r, Answer{RequestID: requestID(r)}, err)
		return false
	}
	return true
}
