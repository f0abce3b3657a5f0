package http

import (
	"net/http"

	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/micro"
)

// stream answers with events.
func (x *exchange) stream(req initiators.Request) error {
	src := x.entry.events
	req.Values = x.value
	if x.gateway.blind { // nobody is sent any
		if src.Call == "" {
			return nil
		}
		_, err := x.choose(&req).Send(x.request.Context(), req)
		return err
	}
	if src.Call != "" {
		mapped := captured{request: &req}
		if _, err := x.choose(&req).Send(withCapture(x.request.Context(), &mapped), req); err != nil {
			return err
		}
		req = *mapped.request
	}
	r := x.request
	if x.trace != "" {
		r = r.WithContext(micro.Continue(r.Context(), micro.RequestInfo{RequestID: x.answer.RequestID, Traceparent: x.trace}))
	}
	return x.gateway.hub.serve(x, r, eventRequest{entry: x.entry.name, src: src, req: req, allowed: x.allowed})
}

// allowed tells whether who sent the request may still do so.
func (x *exchange) allowed() error {
	guard, policy := x.gateway.cfg.Guard, x.entry.policy
	if guard == nil || policy == nil {
		return nil
	}
	_, err := guard.Authorize(http.Header{}, x.request, *policy)
	return err
}
