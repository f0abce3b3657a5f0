package micro

import (
	"context"
	"maps"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/registry"
)

// Notify sends msg to one registered instance of target, "service.endpoint", and waits for nobody: [ToInstance], [ToVersion],
// [ToRegion] and a policy choose which, else the queue group does. The endpoint must take one-way messages ([OneWay]).
//
// A message is handled at most once. ctx is for the sending alone: the message outlives a request that it is sent for, and its
// handler has the time that its service gives it ([Config.Timeout]). The error is nil when the connection took it, and nobody
// tells what became of it after: not whether anybody was there, had the endpoint, took one-way messages, had room for it or
// failed. While the connection is down messages are kept, up to nats.go's ReconnectBufSize (8 MiB), and sent when it is back.
// The errors are invalid_argument for a bad target or a msg that does not encode, resource_exhausted (413) for one that is
// too large, and unavailable when the connection is closed or its buffer full, or no instance of the version or region is known.
// Options on attempts and times mean nothing here.
func Notify(ctx context.Context, c *Client, target string, msg any, opts ...CallOption) error {
	r, err := c.oneWay(target, msg, opts)
	if err != nil {
		return err
	}
	return c.notify(ctx, r)
}

// NotifyAll is [Notify] to all instances, registered or not.
func NotifyAll(ctx context.Context, c *Client, target string, msg any, opts ...CallOption) error {
	r, err := c.oneWay(target, msg, opts)
	if err != nil {
		return err
	}
	if err := r.toAll(); err != nil {
		return err
	}
	return c.publish(ctx, r, c.conn.Namespace().AllSubject(r.Service, r.Endpoint))
}

// oneWay is a checked request with msg.
func (c *Client) oneWay(target string, msg any, opts []CallOption) (*Request, error) {
	service, endpoint, err := ParseTarget(target)
	if err != nil {
		return nil, err
	}
	r := &Request{Service: service, Endpoint: endpoint}
	for _, o := range opts {
		o.applyCall(r)
	}
	if err := checkRequest(r); err != nil {
		return nil, err
	}
	return r, c.encode(r, msg)
}

// toAll refuses what restricts a request to some of the instances: the subject of all of them reaches all.
func (r Request) toAll() error {
	if r.Instance != "" || r.Version != "" || r.Region != "" {
		return bus.Errorf(bus.InvalidArgument, "%s.%s to all: cannot be restricted to an instance, a version or a region", r.Service, r.Endpoint)
	}
	return nil
}

func (c *Client) notify(ctx context.Context, r *Request) error {
	ns := c.conn.Namespace()
	if r.Instance != "" && r.Region == "" {
		return c.publish(ctx, r, ns.InstanceSubject(r.Service, r.Instance, r.Endpoint))
	}
	a := &attempts{client: c, req: r, peer: c.peer(r.Service), n: 1, untold: true}
	policy, weights := c.policy(r), c.settings.canary(r)
	if policy != nil || r.Version != "" || r.Region != "" || len(weights) > 0 {
		service := c.registry.Service(r.Service)
		var i *registry.Instance
		if r.Instance == "" {
			i = a.pick(service, policy, weights)
		} else if i = service.Instance(r.Instance); i != nil && i.Region != r.Region {
			i = nil
		}
		if i != nil {
			return c.publish(ctx, r, ns.InstanceSubject(r.Service, i.Instance, r.Endpoint))
		}
		if r.Version != "" || r.Region != "" {
			return a.explain(a.nobody())
		}
	}
	return c.publish(ctx, r, ns.OneWaySubject(r.Service, r.Endpoint))
}

// publish sends r as a one-way message.
func (c *Client) publish(ctx context.Context, r *Request, subject string) error {
	if err := ctx.Err(); err != nil {
		return bus.Wrap(bus.CodeOf(err), "message to "+subject+" was not sent", err)
	}
	env := c.envelope(ctx, r)
	env.OneWay = true
	msg := &nats.Msg{Subject: subject, Header: env.Header(), Data: r.Body}
	maps.Copy(msg.Header, r.Header)
	return c.conn.Publish(msg)
}
