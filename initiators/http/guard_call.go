package http

import (
	"encoding/json"
	"net/http"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/initiators/http/auth"
)

// callGuard holds calls of endpoints by their names, and looks at what there is, against the gateway's policy.
type callGuard struct {
	guard  *auth.Guard
	policy auth.Policy
}

var _ Guard = callGuard{}

// Authorize returns what services are told of who it is.
func (g callGuard) Authorize(h http.Header, r *http.Request) (nats.Header, error) {
	who, err := g.guard.Authorize(h, r, g.policy)
	if err != nil {
		return nil, err
	}
	told := nats.Header{}
	return told, g.guard.SetHeader(told, who)
}

// Schemes are those of the credentials that are taken; none where none is needed.
func (g callGuard) Schemes() map[string]json.RawMessage {
	if g.policy.Anonymous {
		return map[string]json.RawMessage{}
	}
	return g.guard.Schemes()
}

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
