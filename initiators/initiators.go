// Package initiators is where outside traffic becomes requests on the bus. An initiator knows a protocol (initiators/http
// knows HTTP, initiators/tcp frames, initiators/file records) and a [Target]; it knows nothing of the services behind it. [Sources] makes
// targets of what configuration says ([Spec]); a program may bring its own.
//
// # Delivery
//
// An initiator sends each piece of traffic once and passes on the answer or the error. What the target promises holds: calls and a
// route's synchronous steps are at most once per attempt, its asynchronous ones, streams and timers are stored when Send returns, and
// what is published reaches who listens then. Initiators whose traffic stays where it is, as files do, send a piece again
// until it was taken, with the same Request.Key.
package initiators

import (
	"context"
	"maps"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// HeaderKey carries Request.Key to endpoints, the steps of routes, and with what is published.
const HeaderKey = "Idempotency-Key"

// Request is a piece of outside traffic.
type Request struct {
	// ID is the request id all that follows carries. Empty means a new one.
	ID string
	// Key is the same when the same piece is sent again, and that of no other piece: 1 to 255 visible characters of ASCII. Targets pass it on: as the header
	// [HeaderKey], and streams and timers know repeats by it. Empty means that nobody can.
	Key         string
	ContentType string // of Body; empty means JSON
	Body        []byte
	// Header is what the target is given beside the body, within the limits of [bus.CheckHeader]. It is not changed.
	Header nats.Header
	// Trace asks a target that is an endpoint what each instance did for the request: see Reply.Trace.
	Trace bool
	// Values are what placeholders of a [Mapping] stand for, by names such as path.id. It is called by one goroutine at a time, while Send runs. Nil means none.
	Values func(name string) (value string, ok bool)
	// Members are what [BodyMerge] merges beside the body: low counts less than it, high more. The maps are the target's then. Nil means none.
	Members func() (low, high map[string]any)
}

// Reply is what came back.
type Reply struct {
	ContentType string
	Body        []byte
	Header      nats.Header
	// Hops are the calls that were made for it, also those of a request that failed.
	Hops []route.Hop
	// Trace is what each instance did, where Request.Trace asked for it, also for a request that failed.
	Trace []micro.Hop
}

// Target is what traffic is sent to. Send must be safe for concurrent use; its errors are [bus.Error]s.
type Target interface {
	Send(ctx context.Context, req Request) (Reply, error)
}

var (
	_ Target = routeTarget{}
	_ Target = endpointTarget{}
	_ Target = publishTarget{}
	_ Target = timerTarget{}
	_ Target = mappedTarget{}
)

// header is what goes beside the body.
func (r Request) header() nats.Header {
	if r.Key == "" {
		return r.Header
	}
	h := nats.Header{}
	maps.Copy(h, r.Header)
	h[HeaderKey] = []string{r.Key}
	return h
}

// Route is the target that runs the route of that name in this process, as it is at the time of each request.
func Route(runner *route.Runner, name string) Target { return routeTarget{runner, name} }

type routeTarget struct {
	runner *route.Runner
	name   string
}

// Send runs the route.
func (t routeTarget) Send(ctx context.Context, req Request) (Reply, error) {
	res, err := t.runner.Run(micro.WithRequestID(ctx, req.ID), t.name, route.Request{ContentType: req.ContentType, Body: req.Body, Header: req.header()})
	return Reply{ContentType: res.ContentType, Body: res.Body, Hops: res.Hops}, err
}

// Endpoint is the target that calls one endpoint, "service.endpoint".
func Endpoint(client *micro.Client, target string) (Target, error) {
	service, endpoint, err := micro.ParseTarget(target)
	if err != nil {
		return nil, err
	}
	return endpointTarget{client, service, endpoint}, nil
}

type endpointTarget struct {
	client            *micro.Client
	service, endpoint string
}

// Send calls the endpoint.
func (t endpointTarget) Send(ctx context.Context, req Request) (Reply, error) {
	r := micro.Request{Service: t.service, Endpoint: t.endpoint, ContentType: req.ContentType, Body: req.Body, Header: req.header()}
	var hops []micro.Hop
	if req.Trace {
		r.Trace = &hops
	}
	rep, err := t.client.Do(micro.WithRequestID(ctx, req.ID), r)
	return Reply{ContentType: rep.ContentType, Body: rep.Body, Header: rep.Header, Trace: hops}, err
}
