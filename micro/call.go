package micro

import (
	"context"
	"reflect"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// Call calls target, "service.endpoint", with req and decodes the answer into a Resp. It encodes with the connection's
// codec; a []byte goes and comes as it is. The deadline of ctx, or the client's own, travels with the request. When ctx is
// cancelled the handler's ctx is too.
//
// The error is a [bus.Error] with what the service said, or with: invalid_argument for a bad target or a req that does not
// encode; unimplemented when the service has no such endpoint; unavailable when nobody serves it, or all of them are
// overloaded; deadline_exceeded, after which the request may have been handled; resource_exhausted (413) when req is too
// large; internal when the answer does not decode.
func Call[Resp any](ctx context.Context, c *Client, target string, req any, opts ...CallOption) (Resp, error) {
	var resp Resp
	service, endpoint, err := ParseTarget(target)
	if err != nil {
		return resp, err
	}
	r := &Request{Service: service, Endpoint: endpoint}
	for _, o := range opts {
		o.applyCall(r)
	}
	if c.unary == nil {
		reply, err := c.callValue(ctx, r, req)
		if err != nil {
			return resp, err
		}
		err = c.Decode(reply, &resp)
		return resp, err
	}
	out, _, err := c.intercepted(ctx, r, req, func(reply Reply) (any, error) {
		var v Resp
		err := c.Decode(reply, &v)
		return v, err
	})
	if err != nil || out == nil {
		return resp, err
	}
	resp, ok := out.(Resp)
	if !ok {
		return resp, wrongResponse(out, resp)
	}
	return resp, nil
}

// callInto is [Call] with the response in what resp points to; nil when nobody wants it.
func (c *Client) callInto(ctx context.Context, r *Request, req, resp any) error {
	target := reflect.ValueOf(resp)
	if resp != nil && (target.Kind() != reflect.Pointer || target.IsNil()) {
		return bus.Errorf(bus.InvalidArgument, "response of type %T: want a pointer to decode into", resp)
	}
	if c.unary == nil {
		reply, err := c.callValue(ctx, r, req)
		if err != nil || resp == nil {
			return err
		}
		return c.Decode(reply, resp)
	}
	out, _, err := c.intercepted(ctx, r, req, func(reply Reply) (any, error) {
		if resp == nil {
			return reply.Body, nil
		}
		v := reflect.New(target.Type().Elem())
		err := c.Decode(reply, v.Interface())
		return v.Elem().Interface(), err
	})
	if err != nil || out == nil || resp == nil {
		return err
	}
	v := reflect.ValueOf(out)
	if !v.Type().AssignableTo(target.Type().Elem()) {
		return wrongResponse(out, resp)
	}
	target.Elem().Set(v)
	return nil
}

func wrongResponse(got, want any) error {
	return bus.Errorf(bus.Internal, "an interceptor returned a response of type %T, the caller takes %T", got, want)
}

// callValue makes a call with req, encoded.
func (c *Client) callValue(ctx context.Context, r *Request, req any) (Reply, error) {
	if err := c.encode(r, req); err != nil {
		return Reply{}, err
	}
	return c.perform(ctx, r)
}

func (c *Client) encode(r *Request, req any) error {
	codec := c.conn.Codec()
	r.ContentType = codec.ContentType()
	if body, raw := req.([]byte); raw {
		r.Body, r.bytes = body, true
		return nil
	}
	body, err := codec.Marshal(req)
	if err != nil {
		return bus.Errorf(bus.InvalidArgument, "request of type %T does not encode as %s: %w", req, codec.ContentType(), err)
	}
	r.Body, r.value, r.typed = body, req, true
	return nil
}

// Do makes the call and returns the answer undecoded. Errors are those of [Call]; where the service answered with an
// error the Reply still says who did.
func (c *Client) Do(ctx context.Context, r Request) (Reply, error) {
	if c.unary == nil {
		return c.perform(ctx, &r)
	}
	out, reply, err := c.intercepted(ctx, &r, r.Body, nil)
	if err != nil {
		return reply, err
	}
	body, ok := out.([]byte)
	if !ok && out != nil {
		return reply, wrongResponse(out, body)
	}
	if reply.ContentType == "" && reply.Attempts == 0 {
		reply.ContentType = r.ContentType // answered by an interceptor, in the request's codec
	}
	reply.Body = body
	return reply, nil
}

// intercepted is a call on its way through the interceptors.
type intercepted struct {
	request *Request
	decode  func(Reply) (any, error) // nil where bytes go as they are

	mu    sync.Mutex
	reply Reply // of the last run of the innermost handler
}

type interceptedKey struct{}

// intercepted makes a call through the interceptors and returns what they return, beside the answer of the service if
// there was one.
func (c *Client) intercepted(ctx context.Context, r *Request, req any, decode func(Reply) (any, error)) (any, Reply, error) {
	if err := checkRequest(r); err != nil { // before any of them hears of it
		return nil, Reply{}, err
	}
	i := &intercepted{request: r, decode: decode}
	call := &Unary{Service: r.Service, Endpoint: r.Endpoint, Request: req, Header: make(nats.Header, len(r.Header))}
	for name, values := range r.Header {
		call.Header[name] = slices.Clip(values) // what is added goes elsewhere
	}
	out, err := c.unary(context.WithValue(ctx, interceptedKey{}, i), call)
	i.mu.Lock()
	defer i.mu.Unlock()
	return out, i.reply, err
}

// innermost is the handler within all interceptors: it makes the call.
func (c *Client) innermost(ctx context.Context, call *Unary) (any, error) {
	i, ok := ctx.Value(interceptedKey{}).(*intercepted)
	if !ok {
		return nil, bus.Errorf(bus.Internal, "call %s.%s: an interceptor passed on another ctx than the one it was given", call.Service, call.Endpoint)
	}
	r := new(*i.request) // a copy, as an interceptor may call more than once
	r.Header = call.Header
	var reply Reply
	var err error
	if i.decode != nil {
		reply, err = c.callValue(ctx, r, call.Request)
	} else {
		body, ok := call.Request.([]byte)
		if !ok {
			return nil, bus.Errorf(bus.Internal, "an interceptor made a request of type %T of one of bytes", call.Request)
		}
		r.Body = body
		reply, err = c.perform(ctx, r)
	}
	i.mu.Lock()
	i.reply = reply
	i.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if i.decode == nil {
		return reply.Body, nil
	}
	return i.decode(reply)
}

// Decode reads the body of a reply into v. A *[]byte gets it as it is; an empty body is the zero value.
func (c *Client) Decode(reply Reply, v any) error {
	if b, ok := v.(*[]byte); ok {
		*b = reply.Body
		return nil
	}
	if len(reply.Body) == 0 {
		return nil
	}
	codec, err := c.conn.CodecFor(reply.ContentType)
	if err == nil {
		err = codec.Unmarshal(reply.Body, v)
	}
	if err != nil {
		return bus.Errorf(bus.Internal, "answer of %s does not decode into %T: %w", orDefault(reply.From, "the service"), v, err)
	}
	return nil
}
