package route

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro"
)

// Config adjusts a [Runner] or a [Worker].
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
	return &Runner{client: client, routes: routes, ns: conn.Namespace(), async: publisher{conn, client.Address()}}, nil
}

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
}

// Result is what came of a run.
type Result struct {
	ContentType string
	Body        []byte // the merged response; empty when no step gave one
	Revision    uint64 // of the route
	Hops        []Hop  // what was done, also when the run failed
}

// Hop is what one step did.
type Hop struct {
	Service  string        `json:"service"`
	Endpoint string        `json:"endpoint"`
	Async    bool          `json:"async,omitempty"`
	Instance string        `json:"instance,omitempty"` // the address of who answered
	Attempts int           `json:"attempts,omitempty"`
	Took     time.Duration `json:"took"`
	Code     bus.Code      `json:"code,omitempty"` // empty means success
	Error    string        `json:"error,omitempty"`
}

// Run runs the route called name. All its calls carry the request id of ctx, or else a new one.
//
// The error is a [bus.Error]: not_found when there is no such route, data_loss when what is stored as one cannot be read,
// else that of the step that failed, with the details route, step (from 1), service and endpoint. The result tells of the
// hops also then.
func (r *Runner) Run(ctx context.Context, name string, req Request) (Result, error) {
	if err := bus.CheckToken("route", name); err != nil {
		return Result{}, err
	}
	route, err := r.route(name)
	if err != nil {
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
	for i, step := range route.Route.Steps {
		hop, err := r.step(ctx, step, req, acc)
		if err != nil {
			hop.Code, hop.Error = bus.CodeOf(err), err.Error()
		}
		res.Hops = append(res.Hops, hop)
		if err != nil && (step.IsRequired() || ctx.Err() != nil) {
			return res, stepError(name, i, step, err)
		}
	}
	res.Body, err = acc.bytes()
	return res, err
}

func (r *Runner) step(ctx context.Context, step Step, req Request, acc *accumulator) (Hop, error) {
	hop := Hop{Service: step.Service, Endpoint: step.Endpoint, Async: step.Async}
	if step.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(step.Timeout))
		defer cancel()
	}
	start := time.Now()
	if step.Async {
		err := r.async.publish(ctx, step, req)
		hop.Took = time.Since(start)
		return hop, err
	}
	prior, err := acc.bytes()
	if err != nil {
		return hop, err
	}
	reply, err := r.client.Do(ctx, micro.Request{
		Service: step.Service, Endpoint: step.Endpoint, Version: step.Version,
		ContentType: req.ContentType, Body: req.Body, Prior: prior, Idempotent: step.Retry,
	})
	hop.Instance, hop.Attempts, hop.Took = reply.From, reply.Attempts, time.Since(start)
	if err != nil {
		return hop, err
	}
	return hop, acc.add(reply)
}

func stepError(route string, i int, step Step, err error) error {
	e := bus.AsError(err)
	out := bus.Wrap(e.Code, fmt.Sprintf("route %q, step %d (%s): %s", route, i+1, step.Target(), e.Message), err)
	out.Status = e.Status
	for k, v := range e.Details {
		out = out.With(k, v)
	}
	return out.With("route", route).With("step", strconv.Itoa(i+1)).With("service", step.Service).With("endpoint", step.Endpoint)
}
