package micro

import (
	"context"
	"encoding/json"
	"reflect"
	"sync/atomic"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/registry"
)

// EndpointOption adjusts one endpoint.
type EndpointOption interface{ applyEndpoint(*endpoint) }

// CallOption adjusts one call.
type CallOption interface{ applyCall(*Request) }

// Option is both.
type Option interface {
	EndpointOption
	CallOption
}

type endpointOption func(*endpoint)

func (o endpointOption) applyEndpoint(e *endpoint) { o(e) }

// Concurrency is how many requests the endpoint handles at a time, instead of the service's own bound.
func Concurrency(n int) EndpointOption {
	return endpointOption(func(e *endpoint) { e.limit = int64(n) })
}

// OneWay makes the endpoint take messages nobody waits for, beside requests.
func OneWay() EndpointOption {
	return endpointOption(func(e *endpoint) { e.oneWay = true })
}

// Internal keeps the endpoint from outsiders: the gateway reaches it by no name, neither under /v1/call nor in its list of services. Who
// writes a route or an entry of the gateway may name it, and callers on the bus call it as any other: it is no protection against
// these, whom only permissions of NATS keep out.
func Internal() EndpointOption {
	return endpointOption(func(e *endpoint) { e.internal = true })
}

// Description says what the endpoint is for, to people who read its documentation: at most 1 KiB.
func Description(text string) EndpointOption {
	return endpointOption(func(e *endpoint) { e.description = text })
}

// Intercept wraps the endpoint's handler, inside the service's own interceptors; the first is the outermost.
func Intercept(interceptors ...Interceptor) EndpointOption {
	return endpointOption(func(e *endpoint) { e.interceptors = append(e.interceptors, interceptors...) })
}

// Idempotent says that handling a request twice does no harm, so that it may be sent again when no answer came in time.
// On an endpoint it holds for all callers, on a call for that one.
func Idempotent() Option { return idempotent{} }

type idempotent struct{}

func (idempotent) applyEndpoint(e *endpoint) { e.idempotent = true }
func (idempotent) applyCall(r *Request)      { r.Idempotent = true }

// handler handles a decoded request and returns what to encode. in holds what else the message brought.
type handler func(ctx context.Context, in *inbound, req any) (any, error)

// requestType is how an endpoint's requests are decoded. What decode returns is what a handler takes: a pointer to the
// request. Interceptors see the request itself.
type requestType struct {
	reflect.Type

	decode func(in *inbound) (any, error)
	show   func(req any) any
	take   func(shown any) (req any, ok bool)
}

type endpoint struct {
	name         string
	description  string
	limit        int64
	oneWay       bool
	idempotent   bool
	amends       bool
	internal     bool
	request      requestType
	takes, gives reflect.Type // of requests and responses, or of messages; nil where nobody knows
	handle       handler
	stream       func(ctx context.Context, st *ServerStream) error // instead of handle
	interceptors []Interceptor
	intercepted  UnaryHandler // handle within the interceptors
	serial       *serial
	callers      *callersFirst
	size         int // of its part of the record without schemas, in bytes

	requestSchema, responseSchema json.RawMessage
	schemaSize                    int // of its schemas in the record

	handlers *handlers
	named    []*subscription // by the instance's name, and broadcasts
	queues   []*subscription // in queue groups, while registered

	inFlight atomic.Int64
	stats    endpointStats
}

func (e *endpoint) record() registry.Endpoint {
	return registry.Endpoint{
		Name: e.name, Description: e.description, Idempotent: e.idempotent, OneWay: e.oneWay, Amends: e.amends, Streams: e.stream != nil, Internal: e.internal,
	}
}

// acquire takes one of the endpoint's places and tells whether there was one.
func (e *endpoint) acquire() bool {
	for {
		n := e.inFlight.Load()
		if n >= e.limit {
			return false
		}
		if e.inFlight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (e *endpoint) release() { e.inFlight.Add(-1) }

// prepare applies opts and checks the outcome.
func (e *endpoint) prepare(service string, concurrency int, opts []EndpointOption) error {
	e.limit = int64(concurrency)
	for _, o := range opts {
		o.applyEndpoint(e)
	}
	if err := bus.CheckToken("endpoint", e.name); err != nil {
		return bus.Errorf(bus.InvalidArgument, "service %q: %s", service, bus.AsError(err).Message)
	}
	if len(e.description) > registry.MaxDescription {
		return bus.Errorf(bus.InvalidArgument, "endpoint %q of service %q: its description has %d bytes: want at most %d", e.name, service, len(e.description), registry.MaxDescription)
	}
	if e.limit < 1 {
		return bus.Errorf(bus.InvalidArgument, "endpoint %q of service %q: concurrency %d: want at least 1", e.name, service, e.limit)
	}
	if e.stream != nil && (e.serial != nil || e.oneWay || len(e.interceptors) > 0) {
		return bus.Errorf(bus.InvalidArgument, "endpoint %q of service %q: a stream is neither serial nor one-way, and interceptors see none", e.name, service)
	}
	if e.serial != nil {
		if err := e.serial.check(e.request); err != nil {
			return bus.Errorf(bus.InvalidArgument, "endpoint %q of service %q: %w", e.name, service, err)
		}
	}
	if e.callers != nil && e.callers.registry == nil {
		return bus.Errorf(bus.InvalidArgument, "endpoint %q of service %q: CallersFirst without a registry", e.name, service)
	}
	e.intercepted = Chain(e.interceptors...)(innermost)
	record, err := json.Marshal(e.record())
	e.size = len(record) + 1
	e.requestSchema, e.responseSchema = schemaOf(e.takes, true), schemaOf(e.gives, false)
	for _, schema := range [...]json.RawMessage{e.requestSchema, e.responseSchema} {
		if schema != nil {
			e.schemaSize += len(`,"response":`) + len(schema)
		}
	}
	return err
}

// Handle adds an endpoint: h is called for each request, concurrently. Req and Resp are structs or pointers to structs,
// named by their msgpack or json tags; a []byte is the body as it came, undecoded. An error of h reaches the caller with
// its code if it is a [bus.Error], else with the code unknown and its text. The goroutine that calls h is used again: h has to undo what it
// does to it, such as [runtime.LockOSThread] and [runtime/pprof.SetGoroutineLabels], or later requests have that too.
//
// Endpoints may be added before [Service.Run] and while it runs: then requests can arrive when Handle returns, and the
// instance's record says so soon after. There are at most [MaxEndpoints] at a time. The error is invalid_argument for what
// cannot be, already_exists for a name that is taken, resource_exhausted above the bounds, permission_denied where the server refuses its subjects,
// failed_precondition once the service stops. [Service.Remove] ends an endpoint.
//
// The record has JSON schemas of Req and Resp, made from their fields and json tags, with the text of a tag jsonschema as the
// description of its field. Types that contain themselves or are no JSON have none, nor has a []byte, nor what is above 8 KiB.
func Handle[Req, Resp any](s *Service, name string, h func(ctx context.Context, req Req) (Resp, error), opts ...EndpointOption) error {
	ep := &endpoint{name: name, request: requestOf[Req](), takes: reflect.TypeFor[Req](), gives: reflect.TypeFor[Resp]()}
	ep.handle = func(ctx context.Context, _ *inbound, req any) (any, error) { return h(ctx, *req.(*Req)) }
	return s.add(opts, ep)
}

// HandleAmend adds an endpoint as [Handle] does, whose handler completes a response: as a step of a route it is given what
// the steps before it made of the response, elsewhere an empty one.
func HandleAmend[Req, Resp any](s *Service, name string, h func(ctx context.Context, req *Req, resp *Resp) error, opts ...EndpointOption) error {
	ep := &endpoint{name: name, amends: true, request: requestOf[*Req](), takes: reflect.TypeFor[Req](), gives: reflect.TypeFor[Resp]()}
	ep.handle = func(ctx context.Context, in *inbound, req any) (any, error) {
		var resp Resp
		if err := in.decodePrior(&resp); err != nil {
			return nil, err
		}
		if err := h(ctx, *req.(**Req), &resp); err != nil {
			return nil, err
		}
		return &resp, nil
	}
	return s.add(opts, ep)
}

// requestOf decodes requests of type T. A pointer is made to point to something, so that no handler sees nil.
func requestOf[T any]() requestType {
	t := reflect.TypeFor[T]()
	fresh := func() (*T, any) {
		v := new(T)
		return v, v
	}
	if t.Kind() == reflect.Pointer {
		fresh = func() (*T, any) {
			v := reflect.New(t.Elem()).Interface().(T)
			return &v, v
		}
	}
	return requestType{
		Type: t,
		decode: func(in *inbound) (any, error) {
			req, target := fresh()
			return req, in.decode(target)
		},
		show: func(req any) any { return *req.(*T) },
		take: func(shown any) (any, bool) {
			v, ok := shown.(T)
			return &v, ok || shown == nil && t.Kind() == reflect.Interface
		},
	}
}
