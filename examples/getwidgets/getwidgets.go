// Package getwidgets is the demo application: a route of three services that hands out widgets.
//
//	log.write         async   notes who asked for what; stored first, done even if everything crashes meanwhile
//	authorize.check           says yes, unless it is asked for something forbidden
//	getwidgets.get            the widget
//
// It uses only what any program can import. `skybus up --demo` runs it in one process; the programs service and initiator
// beside this file run it as many.
package getwidgets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/config"
	"github.com/skybus-io/skybus/micro/route"
)

// RouteName is the route of the demo.
const RouteName = "getwidgets"

// Version of the demo's services.
const Version = "1.0.0"

// Names are the demo's services.
func Names() []string { return []string{"log", "authorize", "getwidgets"} }

// Route is how the demo's services work together, to begin with.
func Route() route.Route {
	return route.Route{
		Description: "The demo: note the request, ask whether it is allowed, answer it.",
		Steps: []route.Step{
			{Service: "log", Endpoint: "write", Async: true},
			{Service: "authorize", Endpoint: "check", Retry: true},
			{Service: "getwidgets", Endpoint: "get", Retry: true},
		},
	}
}

// Install stores the route unless there is one of its name: an edited route stays as it was edited.
func Install(ctx context.Context, conn *bus.Conn) error {
	store, err := route.OpenStore(ctx, conn, route.StoreConfig{Logger: conn.Logger()})
	if err != nil {
		return err
	}
	_, err = store.Ensure(ctx, RouteName, Route())
	return err
}

// Request is what the route is asked.
type Request struct {
	Input string `json:"input"`
}

// Response is what its steps make of it, each adding its part.
type Response struct {
	Output string   `json:"output,omitempty"`
	Trail  []string `json:"trail,omitempty"` // what the steps did
}

func (r *Response) note(ctx context.Context, format string, args ...any) {
	info := micro.Info(ctx)
	r.Trail = append(r.Trail, fmt.Sprintf("%s.%s on %s: ", info.Service, info.Endpoint, info.Instance)+fmt.Sprintf(format, args...))
}

// Config says what to run.
type Config struct {
	// Instance is the id of the instance. Empty means a random one.
	Instance string
	// Record is where the log service writes a line for each request: its id and its input. Nil means to Logger only.
	Record io.Writer
	Logger *slog.Logger // nil means the connection's
	// LogLevel is the level of Logger, which `skybus instances log` changes. Nil means that it cannot.
	LogLevel *slog.LevelVar
	// Drain is how long a stopping service waits for its handlers. 0 means 10 s.
	Drain time.Duration
	// Hooks are passed to the service.
	Hooks micro.Hooks
	// Values is the live configuration, of which a service obeys region and host when it starts, and service.register always.
	// Nil means none.
	Values *config.Values
}

// NewService makes one instance of the demo's service called name.
func NewService(conn *bus.Conn, name string, cfg Config) (*micro.Service, error) {
	if cfg.Logger == nil {
		cfg.Logger = conn.Logger()
	}
	service := micro.Config{
		Name:     name,
		Version:  Version,
		Instance: cfg.Instance,
		Logger:   cfg.Logger,
		LogLevel: cfg.LogLevel,
		Drain:    cfg.Drain,
		Hooks:    cfg.Hooks,
	}
	settle(&service, cfg.Values)
	svc, err := micro.NewService(conn, service)
	if err != nil {
		return nil, err
	}
	switch name {
	case "log":
		svcLog := &Log{log: cfg.Logger, record: cfg.Record}
		return svc, svc.Register(svcLog, micro.Endpoints(micro.Idempotent()))
	case "authorize":
		return svc, svc.Register(Authorize{}, micro.Endpoints(micro.Idempotent()))
	case "getwidgets":
		return svc, svc.Register(Widgets{}, micro.Endpoints(micro.Idempotent()))
	}
	return nil, fmt.Errorf("getwidgets: service %q: want one of %s", name, strings.Join(Names(), ", "))
}

// Log is the service "log".
type Log struct {
	log *slog.Logger

	mu     sync.Mutex
	record io.Writer
}

// Write notes a request.
func (l *Log) Write(ctx context.Context, req *Request) (*Response, error) {
	info := micro.Info(ctx)
	l.log.DebugContext(ctx, "widgets were asked for", "request_id", info.RequestID, "attempt", info.Attempt, "instance", info.Instance)
	if l.record == nil {
		return &Response{}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := fmt.Fprintf(l.record, "%s %q\n", info.RequestID, req.Input); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return &Response{}, nil
}

// Authorize is the service "authorize".
type Authorize struct{}

// Check refuses what is called forbidden, and lets all else pass.
func (Authorize) Check(ctx context.Context, req *Request, resp *Response) error {
	if strings.Contains(strings.ToLower(req.Input), "forbidden") {
		return bus.Errorf(bus.PermissionDenied, "%q is not for you", req.Input)
	}
	resp.note(ctx, "allowed")
	return nil
}

// Widgets is the service "getwidgets".
type Widgets struct{}

// Get answers.
func (Widgets) Get(ctx context.Context, req *Request, resp *Response) error {
	if len(req.Input) > 1000 {
		return bus.Errorf(bus.InvalidArgument, "input has %d bytes: want at most 1000", len(req.Input))
	}
	resp.Output = "Hello World"
	resp.note(ctx, "found a widget for %q", req.Input)
	return nil
}

// Run installs the route and runs so many instances of each service until ctx ends. started is called when all of them
// take requests.
func Run(ctx context.Context, conn *bus.Conn, instances int, cfg Config, started func()) error {
	if instances < 1 || instances > 1 && cfg.Instance != "" {
		return fmt.Errorf("getwidgets: %d instances called %q: want at least 1, and ids of their own for more", instances, cfg.Instance)
	}
	if err := Install(ctx, conn); err != nil {
		return err
	}
	var missing atomic.Int64
	missing.Store(int64(instances * len(Names())))
	hook := cfg.Hooks.Started
	cfg.Hooks.Started = func() {
		if hook != nil {
			hook()
		}
		if missing.Add(-1) == 0 {
			started()
		}
	}
	var services []*micro.Service
	for _, name := range Names() {
		for range instances {
			svc, err := NewService(conn, name, cfg)
			if err != nil {
				return err
			}
			services = append(services, svc)
		}
	}
	return RunAll(ctx, cfg, services)
}

// RunAll runs services until ctx ends or one of them fails, which stops the others. Of cfg it needs Values and Logger.
func RunAll(ctx context.Context, cfg Config, services []*micro.Service) error {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var running sync.WaitGroup
	errs := make([]error, len(services))
	for i, svc := range services {
		running.Go(func() {
			if errs[i] = runFollowing(ctx, svc, cfg.Values, cfg.Logger); errs[i] != nil {
				stop()
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}
