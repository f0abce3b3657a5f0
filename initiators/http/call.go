package http

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/http/auth"
	"github.com/skybus-io/skybus/initiators/http/limit"
	"github.com/skybus-io/skybus/micro"
)

const (
	callPath = "/v1/call/"

	versionHeader  = "Skybus-Version"
	instanceHeader = "Skybus-Instance"
	typeBytes      = "application/octet-stream"
)

// CallConfig is about what a gateway reaches without an entry or a route: POST /v1/call/<service>/<endpoint>, all endpoints of all
// services but those marked [micro.Internal].
type CallConfig struct {
	// Off: there is neither /v1/call nor /v1/services.
	Off bool
	// Auth is what is asked of who calls, and of who reads the list of services and the description of the API. Nil means Config.Policy.
	Auth *auth.Policy
	// Limits are those of all of these requests, beside Config.Rates. Nil means none.
	Limits *limit.Limits
}

// Validate tells whether c can be used. The error has the code [bus.InvalidArgument] and names the field: auth.scopes[0], limits.key.requests.
func (c CallConfig) Validate() error {
	if c.Auth != nil {
		if err := c.Auth.Validate(); err != nil {
			return err
		}
	}
	if c.Limits != nil {
		return c.Limits.Validate()
	}
	return nil
}

// callTarget is the endpoint that the path names.
func (x *exchange) callTarget() (initiators.Target, error) {
	req, err := callRequest(x.request)
	if err != nil {
		return nil, err
	}
	x.answer.Route = req.Service + "." + req.Endpoint
	return callTarget{x.gateway.runner.Client(), req}, nil
}

// callTarget is an endpoint that outsiders may call, of one version or instance.
type callTarget struct {
	client *micro.Client
	to     micro.Request
}

// Send calls the endpoint.
func (t callTarget) Send(ctx context.Context, in initiators.Request) (initiators.Reply, error) {
	req := t.to
	req.ContentType, req.Body, req.Header = in.ContentType, in.Body, in.Header
	e, err := t.client.Lookup(ctx, req)
	switch {
	case err == nil && e.Internal, bus.CodeOf(err) == bus.NotFound:
		// Nobody outside hears which of both it is.
		return initiators.Reply{}, bus.Errorf(bus.NotFound, "there is no endpoint %s.%s to call from here", req.Service, req.Endpoint)
	case err != nil:
		return initiators.Reply{}, err
	case e.Streams:
		return initiators.Reply{}, bus.Errorf(bus.Unimplemented, "%s.%s is a stream: it needs an entry with events", req.Service, req.Endpoint)
	}
	var hops []micro.Hop
	if in.Trace {
		req.Trace = &hops
	}
	reply, err := t.client.Do(micro.WithRequestID(ctx, in.ID), req)
	out := initiators.Reply{ContentType: reply.ContentType, Body: reply.Body, Header: reply.Header, Trace: hops}
	if out.ContentType == "" && !json.Valid(reply.Body) { // services of other libraries need not tell
		out.ContentType = typeBytes
	}
	return out, err
}

// callRequest is what the path, the query and the headers of a call say of where it goes.
func callRequest(r *http.Request) (micro.Request, error) {
	var req micro.Request
	service, endpoint, ok := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), callPath), "/")
	if !ok {
		return req, bus.Errorf(bus.InvalidArgument, "path: want %s<service>/<endpoint>", callPath)
	}
	for _, err := range []error{bus.CheckToken("service", service), bus.CheckToken("endpoint", endpoint)} {
		if err != nil {
			return req, err
		}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return req, bus.Errorf(bus.InvalidArgument, "the query is malformed: %w", err)
	}
	for name := range query {
		if name != "version" && name != "instance" {
			return req, bus.Errorf(bus.InvalidArgument, "query: %.40q: want version or instance, and all else in the body", name)
		}
	}
	req.Service, req.Endpoint = service, endpoint
	if req.Version, err = chosen("version", bus.CheckVersion, query["version"], r.Header[versionHeader]); err != nil {
		return req, err
	}
	token := func(v string) error { return bus.CheckToken("instance", v) }
	req.Instance, err = chosen("instance", token, query["instance"], r.Header[instanceHeader])
	return req, err
}

// chosen is what was asked for in one place or in both, if check takes it.
func chosen(what string, check func(string) error, query, header []string) (string, error) {
	all := append(append(make([]string, 0, 2), query...), header...)
	if len(all) == 0 {
		return "", nil
	}
	for _, v := range all {
		if v != all[0] {
			return "", bus.Errorf(bus.InvalidArgument, "%s: more than one is asked for", what)
		}
	}
	return all[0], check(all[0])
}
