package micro

import (
	"context"
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

// Idempotent says that handling a request twice does no harm, so that it may be sent again when no answer came in time.
// On an endpoint it holds for all callers, on a call for that one.
func Idempotent() Option { return idempotent{} }

type idempotent struct{}

func (idempotent) applyEndpoint(e *endpoint) { e.idempotent = true }
func (idempotent) applyCall(r *Request)      { r.Idempotent = true }

// handler decodes a request, handles it and returns what to encode.
type handler func(ctx context.Context, in *inbound) (any, error)

type endpoint struct {
	name       string
	limit      int64
	oneWay     bool
	idempotent bool
	amends     bool
	handle     handler

	inFlight atomic.Int64
	stats    endpointStats
}

func (e *endpoint) record() registry.Endpoint {
	return registry.Endpoint{Name: e.name, Idempotent: e.idempotent, OneWay: e.oneWay, Amends: e.amends}
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

// Handle adds an endpoint: h is called for each request, concurrently. Req and Resp are structs or pointers to structs,
// named by their msgpack or json tags; a []byte is the body as it came, undecoded. An error of h reaches the caller with
// its code if it is a [bus.Error], else with the code unknown and its text. Endpoints are added before [Service.Run].
func Handle[Req, Resp any](s *Service, name string, h func(ctx context.Context, req Req) (Resp, error), opts ...EndpointOption) error {
	fresh := newValue[Req]()
	return s.add(opts, &endpoint{name: name, handle: func(ctx context.Context, in *inbound) (any, error) {
		req, target := fresh()
		if err := in.decode(target); err != nil {
			return nil, err
		}
		return h(ctx, *req)
	}})
}

// HandleAmend adds an endpoint whose handler completes a response: as a step of a route it is given what the steps before
// it made of the response, elsewhere an empty one.
func HandleAmend[Req, Resp any](s *Service, name string, h func(ctx context.Context, req *Req, resp *Resp) error, opts ...EndpointOption) error {
	return s.add(opts, &endpoint{name: name, amends: true, handle: func(ctx context.Context, in *inbound) (any, error) {
		var req Req
		var resp Resp
		if err := in.decode(&req); err != nil {
			return nil, err
		}
		if err := in.decodePrior(&resp); err != nil {
			return nil, err
		}
		if err := h(ctx, &req, &resp); err != nil {
			return nil, err
		}
		return &resp, nil
	}})
}

// newValue makes values of T to decode into. A pointer is made to point to something, so that no handler sees nil.
func newValue[T any]() func() (*T, any) {
	if t := reflect.TypeFor[T](); t.Kind() == reflect.Pointer {
		return func() (*T, any) {
			v := reflect.New(t.Elem()).Interface().(T)
			return &v, v
		}
	}
	return func() (*T, any) {
		v := new(T)
		return v, v
	}
}

// add adds all of eps, or none and says why.
func (s *Service) add(opts []EndpointOption, eps ...*endpoint) error {
	for _, e := range eps {
		e.limit = int64(s.cfg.Concurrency)
		for _, o := range opts {
			o.applyEndpoint(e)
		}
		if err := bus.CheckToken("endpoint", e.name); err != nil {
			return bus.Errorf(bus.InvalidArgument, "service %q: %s", s.cfg.Name, bus.AsError(err).Message)
		}
		if e.limit < 1 {
			return bus.Errorf(bus.InvalidArgument, "endpoint %q of service %q: concurrency %d: want at least 1", e.name, s.cfg.Name, e.limit)
		}
		if s.running.Load() {
			return bus.Errorf(bus.FailedPrecondition, "endpoint %q of service %q: the service runs already", e.name, s.cfg.Name)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range eps {
		if _, ok := s.endpoints[e.name]; ok {
			return bus.Errorf(bus.AlreadyExists, "endpoint %q of service %q was added before", e.name, s.cfg.Name)
		}
	}
	for _, e := range eps {
		s.endpoints[e.name] = e
	}
	return nil
}
