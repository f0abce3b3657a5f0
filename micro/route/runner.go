package route

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro"
)

// Config adjusts a [Runner].
type Config struct {
	Logger *slog.Logger // nil means the connection's
}

// Runner runs routes in this process. It follows the routes of its client's namespace and is safe for concurrent use.
type Runner struct {
	client *micro.Client
	routes *kv.Copy[value]
	ns     bus.Namespace
	async  publisher
}

// NewRunner loads the routes; ctx bounds that. The client stays the caller's.
func NewRunner(ctx context.Context, client *micro.Client, cfg Config) (*Runner, error) {
	conn := client.Conn()
	log := cfg.Logger
	if log == nil {
		log = conn.Logger()
	}
	store, err := OpenStore(ctx, conn, StoreConfig{Logger: log})
	if err != nil {
		return nil, err
	}
	if err := openAsync(ctx, conn); err != nil {
		return nil, err
	}
	routes, err := store.table.Copy(ctx, conn.Namespace().Key("chain", "*"))
	if err != nil {
		return nil, fmt.Errorf("route: %w", err)
	}
	return &Runner{client: client, routes: routes, ns: conn.Namespace(), async: newPublisher(conn, client.Address())}, nil
}

// Client is the client that r calls by.
func (r *Runner) Client() *micro.Client { return r.client }

// Close stops following the routes. Runs go on by what was known last.
func (r *Runner) Close() error { return r.routes.Close() }

// Route is the route of that name as it is now, and whether there is one that can be read.
func (r *Runner) Route(name string) (Stored, bool) {
	s, err := r.route(name)
	return s, err == nil
}

func (r *Runner) route(name string) (Stored, error) {
	e, ok := r.routes.Get(r.ns.Key("chain", name))
	switch {
	case !ok:
		return Stored{}, bus.Errorf(bus.NotFound, "there is no route %q", name).With("route", name)
	case e.Err != nil:
		return Stored{}, unreadable(name, e.Err)
	}
	return stored(e), nil
}

// Names are the names of all routes, in no order; also of those that cannot be read.
func (r *Runner) Names() []string {
	prefix := r.ns.Key("chain", "")
	var names []string
	for key := range r.routes.All() {
		names = append(names, key[len(prefix):])
	}
	return names
}

// Request is what a route is run with.
type Request struct {
	ContentType string // empty means JSON
	Body        []byte
	// Header is given to every step beside the body, within the limits of [bus.CheckHeader].
	Header nats.Header
}

// Result is what came of a run.
type Result struct {
	ContentType string
	Body        []byte // the merged response; empty when no step gave one
	Revision    uint64 // of the route
	Hops        []Hop  // what was done, also when the run failed
}

// Run runs the route called name. All its calls carry the request id of ctx, or else a new one.
//
// The error is a [bus.Error]: not_found when there is no such route, data_loss when what is stored as one cannot be read,
// failed_precondition when routes lead back to one that runs already, or are nested deeper than [MaxDepth]; else that of the
// step that failed, with the details route, step (from 1) and service and endpoint. Of routes within routes these tell of the
// innermost. The result tells of the hops also then.
func (r *Runner) Run(ctx context.Context, name string, req Request) (Result, error) {
	if err := bus.CheckToken("route", name); err != nil {
		return Result{}, err
	}
	ctx, err := enter(ctx, name)
	if err != nil {
		return Result{}, err
	}
	route, err := r.route(name)
	if err != nil {
		return Result{}, err
	}
	if err := bus.CheckHeader(req.Header); err != nil {
		return Result{}, err
	}
	acc, err := newAccumulator(r.client.Conn(), req.ContentType)
	if err != nil {
		return Result{}, err
	}
	if micro.Info(ctx).RequestID == "" {
		ctx = micro.WithRequestID(ctx, nuid.Next())
	}
	res := Result{ContentType: acc.codec.ContentType(), Revision: route.Revision}
	if res.Hops, err = r.steps(ctx, route, req, acc); err != nil {
		return res, err
	}
	res.Body, err = acc.bytes()
	return res, err
}

// steps runs the steps of a route and adds what they answer to acc.
func (r *Runner) steps(ctx context.Context, route Stored, req Request, acc *accumulator) ([]Hop, error) {
	hops := make([]Hop, 0, len(route.Route.Steps))
	for i, step := range route.Route.Steps {
		hop, err := r.step(ctx, step, req, acc)
		if err != nil {
			hop.Code, hop.Error = bus.CodeOf(err), err.Error()
		}
		hops = append(hops, hop)
		if err != nil && (step.IsRequired() || ctx.Err() != nil) {
			return hops, stepError(route.Name, i, step, err)
		}
	}
	return hops, nil
}

func (r *Runner) step(ctx context.Context, step Step, req Request, acc *accumulator) (hop Hop, err error) {
	hop = Hop{Service: step.Service, Endpoint: step.Endpoint, Route: step.Route, Async: step.Async}
	if step.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(step.Timeout))
		defer cancel()
	}
	start := time.Now()
	defer func() { hop.Took = time.Since(start) }()
	switch {
	case step.Async:
		return hop, r.async.publish(ctx, step, req)
	case step.Route != "":
		hop.Hops, err = r.nested(ctx, step, req, acc)
		return hop, err
	}
	prior, err := acc.bytes()
	if err != nil {
		return hop, err
	}
	reply, err := r.client.Do(ctx, micro.Request{
		Service: step.Service, Endpoint: step.Endpoint, Version: step.Version,
		ContentType: req.ContentType, Body: req.Body, Header: req.Header, Prior: prior, Idempotent: step.Retry || nestingOf(ctx).retry,
	})
	hop.Instance, hop.Attempts = reply.From, reply.Attempts
	if err != nil {
		return hop, err
	}
	return hop, acc.add(reply)
}

// nested runs a step that is another route. Where it fails, acc stays as it was.
func (r *Runner) nested(ctx context.Context, step Step, req Request, acc *accumulator) ([]Hop, error) {
	ctx, err := enter(ctx, step.Route)
	if err != nil {
		return nil, err
	}
	route, err := r.route(step.Route)
	if err != nil {
		return nil, err
	}
	if step.Retry {
		ctx = withRetry(ctx)
	}
	fork := acc.fork()
	hops, err := r.steps(ctx, route, req, fork)
	if err == nil {
		*acc = *fork
	}
	return hops, err
}

// stepError says where err happened. What a route within says of the step in it stays as it is.
func stepError(route string, i int, step Step, err error) error {
	e := bus.AsError(err)
	out := bus.Wrap(e.Code, fmt.Sprintf("route %q, step %d (%s): %s", route, i+1, step.Target(), e.Message), err)
	out.Status = e.Status
	for k, v := range e.Details {
		out = out.With(k, v)
	}
	if step.Route != "" && e.Details["step"] != "" {
		return out
	}
	out = out.With("route", route).With("step", strconv.Itoa(i+1))
	if step.Route != "" {
		return out.With("service", RouterService).With("endpoint", step.Route)
	}
	return out.With("service", step.Service).With("endpoint", step.Endpoint)
}
