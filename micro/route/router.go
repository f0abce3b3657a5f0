package route

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/micro"
)

const routerRetry = time.Second // after an endpoint could not be added

// RouterConfig adjusts a [Router]. The zero value works.
type RouterConfig struct {
	// Instance is the id of the router's instance, Version and Region what it tells of itself; as in [micro.Config].
	Instance string
	Version  string
	Region   string
	// Concurrency is how many requests each route works on at a time. 0 means 256.
	Concurrency int
	// Drain is how long a stopping router waits for what it runs. 0 means 10 s.
	Drain time.Duration
	Hooks micro.Hooks
	// LogLevel is as in [micro.Config].
	LogLevel *slog.LevelVar
	// Logger hears of routes that cannot be served. Nil means the connection's.
	Logger *slog.Logger
}

// Router serves the routes of a namespace as the service [RouterService], an endpoint for each, so that programs without a
// [Runner], in any language, run them: a request to route.<name> is run, and the reply is the merged response. It follows the
// routes while it runs. Any number of routers share the requests; at most [micro.MaxEndpoints] routes are served.
//
// Errors are those of [Runner.Run]. What optional steps failed with is in the reply's header [HeaderStepErrors].
//
// A route all of whose steps may be done twice, because they say Retry or are asynchronous, is an idempotent endpoint: its
// callers try again when a router dies. When an edit changes that, the endpoint is left for a moment and joined again.
type Router struct {
	runner  *Runner
	service *micro.Service
	log     *slog.Logger
	served  map[string]bool // by name; whether as idempotent
	leaving sync.WaitGroup  // endpoints on their way out
}

// NewRouter makes a router that does nothing before [Router.Run]. The runner stays the caller's.
func NewRouter(runner *Runner, cfg RouterConfig) (*Router, error) {
	conn := runner.client.Conn()
	if cfg.Logger == nil {
		cfg.Logger = conn.Logger()
	}
	service, err := micro.NewService(conn, micro.Config{
		Name: RouterService, Instance: cfg.Instance, Version: cfg.Version, Region: cfg.Region, Description: "runs routes",
		Concurrency: cfg.Concurrency, Drain: cfg.Drain, Hooks: cfg.Hooks,
		LogLevel: cfg.LogLevel, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	return &Router{runner: runner, service: service, log: cfg.Logger.With("component", "route"), served: map[string]bool{}}, nil
}

// Run serves until ctx ends and then stops as a service does: nothing it was given is lost. It can be called once. The error is
// that of [micro.Service.Run].
func (r *Router) Run(ctx context.Context) error {
	changed := r.runner.routes.Changed()
	complete := r.serve(ctx)
	following, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { r.follow(following, changed, complete) })
	err := r.service.Run(ctx)
	stop()
	running.Wait()
	r.leaving.Wait()
	return err
}

func (r *Router) follow(ctx context.Context, changed <-chan struct{}, complete bool) {
	for {
		var again <-chan time.Time
		if !complete {
			again = time.After(routerRetry)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-again:
		}
		changed = r.runner.routes.Changed()
		complete = r.serve(ctx)
	}
}

// serve makes the endpoints those of the routes there are, and tells whether that worked.
func (r *Router) serve(ctx context.Context) (complete bool) {
	routes := map[string]bool{}
	for _, name := range r.runner.Names() {
		routes[name] = r.runner.repeatable(name, nil)
	}
	var errs []error
	for name, as := range r.served {
		if now, ok := routes[name]; ok && now == as {
			continue
		}
		r.remove(ctx, name)
	}
	for name, idempotent := range routes {
		if _, ok := r.served[name]; ok {
			continue
		}
		if err := r.add(ctx, name, idempotent); err != nil {
			errs = append(errs, err)
			continue
		}
		r.served[name] = idempotent
	}
	if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
		r.log.WarnContext(ctx, "not all routes are served", "error", err)
		return false
	}
	return true
}

// remove takes no more requests for a route. It does not wait for those under way: the next change cannot.
func (r *Router) remove(ctx context.Context, name string) {
	delete(r.served, name)
	r.leaving.Go(func() {
		err := r.service.Remove(name)
		if code := bus.CodeOf(err); err != nil && code != bus.NotFound && code != bus.FailedPrecondition {
			r.log.WarnContext(ctx, "route is not served any more", "route", name, "error", err)
		}
	})
}

// add takes requests for a route, whose last endpoint may be on its way out.
func (r *Router) add(ctx context.Context, name string, idempotent bool) error {
	var opts []micro.EndpointOption
	if idempotent {
		opts = append(opts, micro.Idempotent())
	}
	for patience := time.Now().Add(routerRetry); ; {
		err := micro.Handle(r.service, name, r.handler(name), opts...)
		if bus.CodeOf(err) != bus.AlreadyExists || time.Now().After(patience) || !backoff.Sleep(ctx, time.Millisecond) {
			return err
		}
	}
}

// handler runs the route called name.
func (r *Router) handler(name string) func(context.Context, []byte) ([]byte, error) {
	return func(ctx context.Context, body []byte) ([]byte, error) {
		res, err := r.runner.Run(ctx, name, Request{ContentType: micro.Info(ctx).ContentType, Body: body, Header: micro.RequestHeader(ctx)})
		if failed := FormatStepErrors(StepErrors(res.Hops)); failed != "" {
			if herr := micro.SetReplyHeader(ctx, HeaderStepErrors, failed); herr != nil {
				r.log.DebugContext(ctx, "errors of steps are not told", "route", name, "error", herr)
			}
		}
		return res.Body, err
	}
}

// repeatable tells whether every step of a route may be done twice. path are the routes it is within.
func (r *Runner) repeatable(name string, path []string) bool {
	route, err := r.route(name)
	if err != nil || checkPath(path, name) != nil {
		return false
	}
	for _, s := range route.Route.Steps {
		if s.Retry || s.Async {
			continue
		}
		if s.Route == "" || !r.repeatable(s.Route, append(slices.Clip(path), name)) {
			return false
		}
	}
	return true
}
