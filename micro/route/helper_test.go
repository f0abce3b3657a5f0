package route_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// patience is how long a test waits for something that comes at once on a machine with nothing else to do.
const patience = 30 * time.Second

// house is what a program that runs routes has.
type house struct {
	conn   *bus.Conn
	client *micro.Client
	store  *route.Store
	runner *route.Runner
}

// build makes a house on s that is taken apart when the test ends.
func build(t testing.TB, s *bustest.Node, change ...func(*bus.Config)) *house {
	t.Helper()
	return buildWith(t, s, micro.ClientConfig{AttemptTimeout: 500 * time.Millisecond, Patience: 500 * time.Millisecond}, change...)
}

// buildWith is build with another client.
func buildWith(t testing.TB, s *bustest.Node, cfg micro.ClientConfig, change ...func(*bus.Config)) *house {
	t.Helper()
	cfg.Name = "tester"
	h := &house{conn: connect(t, s, change...)}
	h.client = newClient(t, h.conn, cfg)
	var err error
	if h.store, err = route.OpenStore(t.Context(), h.conn, route.StoreConfig{}); err != nil {
		t.Fatal(err)
	}
	h.runner = newRunner(t, h.client)
	return h
}

func connect(t testing.TB, s *bustest.Node, change ...func(*bus.Config)) *bus.Conn {
	t.Helper()
	cfg := bus.Config{InProcess: s}
	for _, f := range change {
		f(&cfg)
	}
	conn, err := bus.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return conn
}

func inNamespace(ns string) func(*bus.Config) { return func(c *bus.Config) { c.Namespace = ns } }

func newClient(t testing.TB, conn *bus.Conn, cfg micro.ClientConfig) *micro.Client {
	t.Helper()
	c, err := micro.NewClient(t.Context(), conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // has no error to tell
	return c
}

func newRunner(t testing.TB, client *micro.Client) *route.Runner {
	t.Helper()
	r, err := route.NewRunner(t.Context(), client, route.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() }) // has no error to tell
	return r
}

// put stores a route of these steps and waits until the runner has it.
func (h *house) put(t testing.TB, name string, steps ...route.Step) {
	t.Helper()
	rev, err := h.store.Put(t.Context(), name, route.Route{Steps: steps}, 0)
	if err != nil {
		t.Fatal(err)
	}
	h.follows(t, name, rev)
}

// follows waits until the runner knows a revision.
func (h *house) follows(t testing.TB, name string, revision uint64) {
	t.Helper()
	bustest.Eventually(t, "the runner to know the route "+name, func() bool {
		s, ok := h.runner.Route(name)
		return ok && s.Revision >= revision
	})
}

// run runs a route with a JSON body, which must go well.
func (h *house) run(t testing.TB, name, body string) route.Result {
	t.Helper()
	res, err := h.runner.Run(t.Context(), name, route.Request{Body: []byte(body)})
	if err != nil {
		t.Fatalf("run %s: %v", name, err)
	}
	return res
}

// object reads a JSON object.
func object(t testing.TB, body []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatalf("body %q: %v", body, err)
	}
	return m
}

// step is "service.endpoint", changed by options.
func step(target string, options ...func(*route.Step)) route.Step {
	service, endpoint, _ := strings.Cut(target, ".")
	s := route.Step{Service: service, Endpoint: endpoint}
	for _, o := range options {
		o(&s)
	}
	return s
}

func async(s *route.Step)    { s.Async = true }
func retry(s *route.Step)    { s.Retry = true }
func optional(s *route.Step) { s.Required = new(false) }

func version(v string) func(*route.Step) { return func(s *route.Step) { s.Version = v } }

func within(d time.Duration) func(*route.Step) {
	return func(s *route.Step) { s.Timeout = route.Duration(d) }
}

// serve runs a service until the test ends, or until stop is called, and returns when the house knows it.
func (h *house) serve(t testing.TB, name, version string, add func(*micro.Service) error) (stop func()) {
	t.Helper()
	before := h.online(name)
	stop = serve(t, h.conn, micro.Config{Name: name, Version: version}, add)
	bustest.Eventually(t, "the registry to show "+name, func() bool { return h.online(name) > before })
	return stop
}

func (h *house) online(service string) int {
	s := h.client.Registry().Service(service)
	if s == nil {
		return 0
	}
	return len(s.Online)
}

// serve runs a service until the test ends, or until stop is called, and returns when it can be called.
func serve(t testing.TB, conn *bus.Conn, cfg micro.Config, add func(*micro.Service) error) (stop func()) {
	t.Helper()
	cfg.Drain = 200 * time.Millisecond // some handlers of tests never end
	started := make(chan struct{})
	cfg.Hooks.Started = func() { close(started) }
	s, err := micro.NewService(conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := add(s); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) }) // what a test breaks under it shows elsewhere
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	bustest.Receive(t, "the service "+cfg.Name, started)
	return stop
}

// endpoint adds one endpoint.
func endpoint[Req, Resp any](name string, f func(context.Context, Req) (Resp, error), opts ...micro.EndpointOption) func(*micro.Service) error {
	return func(s *micro.Service) error { return micro.Handle(s, name, f, opts...) }
}

// endpoints adds several.
func endpoints(adds ...func(*micro.Service) error) func(*micro.Service) error {
	return func(s *micro.Service) error {
		for _, add := range adds {
			if err := add(s); err != nil {
				return err
			}
		}
		return nil
	}
}

// says adds an endpoint that always answers with the same body.
func says(name, body string) func(*micro.Service) error {
	return endpoint(name, func(context.Context, []byte) ([]byte, error) { return []byte(body), nil })
}

// foreign answers on the subject of an endpoint as a program of another making would.
func foreign(t testing.TB, conn *bus.Conn, target, contentType, body string) {
	t.Helper()
	service, endpoint, _ := strings.Cut(target, ".")
	sub, err := conn.NATS().Subscribe(conn.Namespace().ServiceSubject(service, endpoint), func(m *nats.Msg) {
		reply := &nats.Msg{Subject: m.Reply, Header: nats.Header{}, Data: []byte(body)}
		if contentType != "" {
			reply.Header[bus.HeaderContentType] = []string{contentType}
		}
		_ = conn.NATS().PublishMsg(reply) // the test sees that nothing comes
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() }) // fails only when the connection is closed
	if err := conn.NATS().FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
}

// silent takes requests for an endpoint and does not answer them.
func silent(t testing.TB, conn *bus.Conn, target string) {
	t.Helper()
	service, endpoint, _ := strings.Cut(target, ".")
	sub, err := conn.NATS().SubscribeSync(conn.Namespace().ServiceSubject(service, endpoint))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() }) // fails only when the connection is closed
	if err := conn.NATS().FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
}

// wantCode checks the code of an error, and that its text has the parts.
func wantCode(t testing.TB, err error, code bus.Code, parts ...string) {
	t.Helper()
	if bus.CodeOf(err) != code {
		t.Errorf("error %v: code %q, want %q", err, bus.CodeOf(err), code)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

// fields are the fields that a validation error names.
func fields(err error) []string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []string
		for _, e := range joined.Unwrap() {
			all = append(all, fields(e)...)
		}
		return all
	}
	if e, ok := errors.AsType[*route.FieldError](err); ok {
		return []string{e.Field}
	}
	return nil
}
