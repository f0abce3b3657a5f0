package micro

import (
	"context"
	"slices"
)

// Remote is a service as a client sees it: its name, and how all calls to it are made. It is safe for concurrent use.
type Remote struct {
	client *Client
	name   string
	opts   []CallOption
}

// Service is a handle on the service of that name; opts hold for all calls by it, before the call's own: [ToVersion],
// [ToRegion], [WithPolicy]. It looks nothing up: the service need not be there yet.
func (c *Client) Service(name string, opts ...CallOption) *Remote {
	return &Remote{client: c, name: name, opts: slices.Clone(opts)}
}

// Name is the service's name.
func (r *Remote) Name() string { return r.name }

// Call is [Call] with the response decoded into what resp points to. A nil resp takes no response; a *[]byte takes it as it
// came.
func (r *Remote) Call(ctx context.Context, endpoint string, req, resp any, opts ...CallOption) error {
	return r.call(ctx, endpoint, req, resp, opts)
}

// Send is [Send], with resp as in [Remote.Call].
func (r *Remote) Send(ctx context.Context, endpoint string, req, resp any, opts ...CallOption) error {
	return r.call(ctx, endpoint, req, resp, append([]CallOption{asSend}, opts...))
}

// SendOnce is [SendOnce], with resp as in [Remote.Call].
func (r *Remote) SendOnce(ctx context.Context, endpoint string, req, resp any, opts ...CallOption) error {
	return r.call(ctx, endpoint, req, resp, append([]CallOption{asSendOnce}, opts...))
}

// Notify is [Notify].
func (r *Remote) Notify(ctx context.Context, endpoint string, msg any, opts ...CallOption) error {
	return Notify(ctx, r.client, r.name+"."+endpoint, msg, slices.Concat(r.opts, opts)...)
}

func (r *Remote) call(ctx context.Context, endpoint string, req, resp any, opts []CallOption) error {
	request := &Request{Service: r.name, Endpoint: endpoint}
	for _, list := range [...][]CallOption{r.opts, opts} {
		for _, o := range list {
			o.applyCall(request)
		}
	}
	return r.client.callInto(ctx, request, req, resp)
}
