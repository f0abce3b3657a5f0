package micro

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/skybus-io/skybus/bus"
)

// The shapes a receiver's methods may have.
const receiverShapes = "(context.Context, *Request) (*Response, error) or (context.Context, *Request, *Response) error"

// Register adds an endpoint for each exported method of receiver. A method has one of two shapes: it returns its response,
//
//	func (ctx context.Context, req *Request) (*Response, error)
//
// or it completes one that the steps of a route share, as [HandleAmend] does,
//
//	func (ctx context.Context, req *Request, resp *Response) error
//
// Requests and responses may also be values in the first shape. The endpoint has the method's name with a small first
// letter: Get is "get". A method of another shape is an error that names it, and no endpoint is added; methods that are
// not meant for callers are named in [Except]. A receiver whose methods need a pointer is registered by its pointer.
func (s *Service) Register(receiver any, opts ...ReceiverOption) error {
	v := reflect.ValueOf(receiver)
	switch {
	case !v.IsValid(), v.Kind() == reflect.Pointer && v.IsNil():
		return bus.Errorf(bus.InvalidArgument, "service %q: register: the receiver is nil (%T)", s.cfg.Name, receiver)
	case reflect.PointerTo(v.Type()).NumMethod() > v.NumMethod():
		return bus.Errorf(bus.InvalidArgument, "service %q: register: methods of %T are left out unless a pointer to it is registered", s.cfg.Name, receiver)
	}
	var o receiverOptions
	for _, opt := range opts {
		opt(&o)
	}
	var endpoints []*endpoint
	for i := range v.NumMethod() {
		name := v.Type().Method(i).Name
		if slices.Contains(o.except, name) {
			continue
		}
		ep, err := methodEndpoint(v.Method(i))
		if err != nil {
			return bus.Errorf(bus.InvalidArgument, "service %q: register: method %s.%s is %w; want %s, or name it in micro.Except",
				s.cfg.Name, v.Type(), name, err, receiverShapes)
		}
		ep.name = lowerFirst(name)
		endpoints = append(endpoints, ep)
	}
	if len(endpoints) == 0 {
		return bus.Errorf(bus.InvalidArgument, "service %q: register: %s has no exported methods; want at least one %s", s.cfg.Name, v.Type(), receiverShapes)
	}
	return s.add(o.endpoint, endpoints...)
}

// ReceiverOption adjusts [Service.Register].
type ReceiverOption func(*receiverOptions)

type receiverOptions struct {
	except   []string
	endpoint []EndpointOption
}

// Except names methods that are no endpoints.
func Except(methods ...string) ReceiverOption {
	return func(o *receiverOptions) { o.except = append(o.except, methods...) }
}

// Endpoints gives options to all endpoints of the receiver.
func Endpoints(opts ...EndpointOption) ReceiverOption {
	return func(o *receiverOptions) { o.endpoint = append(o.endpoint, opts...) }
}

func lowerFirst(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return strings.ToLower(string(unicode.ToLower(r))) + s[n:]
}

// methodEndpoint makes an endpoint of a bound method. The error completes the sentence "the method is ...".
func methodEndpoint(method reflect.Value) (*endpoint, error) {
	t := method.Type()
	ctxType, errType := reflect.TypeFor[context.Context](), reflect.TypeFor[error]()
	wrong := fmt.Errorf("func%s", strings.TrimPrefix(t.String(), "func"))
	if t.IsVariadic() || t.NumIn() < 2 || t.In(0) != ctxType || t.NumOut() == 0 || t.Out(t.NumOut()-1) != errType {
		return nil, wrong
	}
	switch {
	case t.NumIn() == 2 && t.NumOut() == 2:
		return &endpoint{request: reflectedRequest(t.In(1)), takes: t.In(1), gives: t.Out(0), handle: returning(method)}, nil
	case t.NumIn() == 3 && t.NumOut() == 1 && t.In(1).Kind() == reflect.Pointer && t.In(2).Kind() == reflect.Pointer:
		return &endpoint{amends: true, request: reflectedRequest(t.In(1)), takes: t.In(1), gives: t.In(2), handle: amending(method)}, nil
	}
	return nil, wrong
}

func returning(method reflect.Value) handler {
	return func(ctx context.Context, _ *inbound, req any) (any, error) {
		out := method.Call([]reflect.Value{reflect.ValueOf(ctx), req.(reflect.Value)})
		if err, _ := reflect.TypeAssert[error](out[1]); err != nil {
			return nil, err
		}
		return out[0].Interface(), nil
	}
}

func amending(method reflect.Value) handler {
	respType := method.Type().In(2).Elem()
	return func(ctx context.Context, in *inbound, req any) (any, error) {
		resp := reflect.New(respType)
		if err := in.decodePrior(resp.Interface()); err != nil {
			return nil, err
		}
		out := method.Call([]reflect.Value{reflect.ValueOf(ctx), req.(reflect.Value), resp})
		if err, _ := reflect.TypeAssert[error](out[0]); err != nil {
			return nil, err
		}
		return resp.Interface(), nil
	}
}

// reflectedRequest decodes requests of type t into a [reflect.Value], which is what [reflect.Value.Call] takes.
func reflectedRequest(t reflect.Type) requestType {
	return requestType{
		Type: t,
		decode: func(in *inbound) (any, error) {
			if t.Kind() == reflect.Pointer {
				req := reflect.New(t.Elem())
				return req, in.decode(req.Interface())
			}
			req := reflect.New(t)
			return req.Elem(), in.decode(req.Interface())
		},
		show: func(req any) any { return req.(reflect.Value).Interface() },
		take: func(shown any) (any, bool) {
			if shown == nil {
				return reflect.Zero(t), t.Kind() == reflect.Interface
			}
			v := reflect.ValueOf(shown)
			return v, v.Type().AssignableTo(t)
		},
	}
}
