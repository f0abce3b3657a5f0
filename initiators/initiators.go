// Package initiators is where outside traffic becomes requests on the bus. An initiator knows a protocol (initiators/http
// knows HTTP) and a [Target]; it knows nothing of the services behind it.
//
// # Delivery
//
// An initiator sends each piece of traffic once and passes on the answer or the error. What the target promises holds: a
// route's synchronous steps are at most once per attempt, its asynchronous ones at least once.
package initiators

import (
	"context"

	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// Request is a piece of outside traffic.
type Request struct {
	// ID is the request id all that follows carries. Empty means a new one.
	ID          string
	ContentType string // empty means JSON
	Body        []byte
}

// Reply is what came back.
type Reply struct {
	ContentType string
	Body        []byte
	// Hops are the calls that were made for it, also those of a request that failed.
	Hops []route.Hop
}

// Target is what traffic is sent to. Send must be safe for concurrent use; its errors are [bus.Error]s.
type Target interface {
	Send(ctx context.Context, req Request) (Reply, error)
}

var (
	_ Target = routeTarget{}
	_ Target = endpointTarget{}
)

// Route is the target that runs the route of that name in this process, as it is at the time of each request.
func Route(runner *route.Runner, name string) Target { return routeTarget{runner, name} }

type routeTarget struct {
	runner *route.Runner
	name   string
}

// Send runs the route.
func (t routeTarget) Send(ctx context.Context, req Request) (Reply, error) {
	res, err := t.runner.Run(micro.WithRequestID(ctx, req.ID), t.name, route.Request{ContentType: req.ContentType, Body: req.Body})
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
	rep, err := t.client.Do(micro.WithRequestID(ctx, req.ID), micro.Request{
		Service: t.service, Endpoint: t.endpoint, ContentType: req.ContentType, Body: req.Body,
	})
	return Reply{ContentType: rep.ContentType, Body: rep.Body}, err
}
