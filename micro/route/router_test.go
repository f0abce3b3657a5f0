package route_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// routes runs a router of its own connection until the test ends, or until stop is called, and returns when it is seen.
func (h *house) routes(t testing.TB, s *bustest.Node, instance string) (stop func() error) {
	t.Helper()
	conn := connect(t, s)
	r, err := route.NewRouter(newRunner(t, newClient(t, conn, micro.ClientConfig{})), route.RouterConfig{Instance: instance})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { err = r.Run(ctx) })
	stop = func() error {
		cancel()
		running.Wait()
		return err
	}
	t.Cleanup(func() { _ = stop() }) // tests that care look themselves
	bustest.Eventually(t, "the registry to show the router", func() bool {
		s := h.client.Registry().Service(route.RouterService)
		return s != nil && s.Instance(instance) != nil
	})
	return stop
}

// endpoint is what the registry says of a route, and whether it is served.
func (h *house) endpoint(name string) (idempotent, ok bool) {
	s := h.client.Registry().Service(route.RouterService)
	if s == nil {
		return false, false
	}
	e, ok := s.Endpoint(name)
	return e.Idempotent, ok
}

// ask asks a router.
func (h *house) ask(t testing.TB, name string) (micro.Reply, error) {
	t.Helper()
	return h.client.Do(t.Context(), micro.Request{Service: route.RouterService, Endpoint: name, Body: []byte("{}")})
}

func TestRouter(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h := build(t, srv)
	type answer struct {
		N int64 `json:"n"`
	}
	infos := make(chan micro.RequestInfo, 10)
	h.serve(t, "app", "", endpoint("double", func(ctx context.Context, req answer) (answer, error) {
		infos <- micro.Info(ctx)
		return answer{2 * req.N}, nil
	}))
	h.put(t, "double", step("app.double"))
	h.routes(t, srv, "r1")

	for _, codec := range []bus.Codec{bus.JSON{}, bus.MessagePack{}} {
		body, err := codec.Marshal(answer{1<<60 + 1})
		if err != nil {
			t.Fatal(err)
		}
		reply, err := h.client.Do(micro.WithRequestID(t.Context(), "id-1"), micro.Request{
			Service: route.RouterService, Endpoint: "double", ContentType: codec.ContentType(), Body: body,
		})
		var got answer
		if err == nil {
			err = h.client.Decode(reply, &got)
		}
		if err != nil || got.N != 1<<61+2 || reply.ContentType != codec.ContentType() || len(reply.Header) != 0 {
			t.Errorf("%s: %+v, %+v, %v", codec.ContentType(), got, reply, err)
		}
		info := bustest.Receive(t, "the step", infos)
		if info.RequestID != "id-1" || info.Origin != h.client.Address() || info.Caller != "skybus://default.dev.route/r1" {
			t.Errorf("the step has %+v", info)
		}
	}

	_, err := micro.Call[answer](t.Context(), h.client, "route.unknown", answer{1})
	wantCode(t, err, bus.Unimplemented)
	plain, err := h.conn.NATS().RequestWithContext(t.Context(), "default.dev.svc.route.double", []byte(`{"n":4}`)) // any client
	if err != nil || string(plain.Data) != `{"n":8}` {
		t.Errorf("plain request: %s, %v", plain.Data, err)
	}
}

func TestRouterTellsErrors(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h := build(t, srv)
	h.serve(t, "app", "", endpoints(
		says("good", `{"n":2}`),
		endpoint("bad", func(context.Context, []byte) ([]byte, error) {
			return nil, bus.Errorf(bus.Aborted, "not now").With("field", "x")
		}),
		endpoint("none", func(context.Context, []byte) ([]byte, error) { return nil, nil })))
	h.put(t, "may", step("app.good"), step("app.bad", optional))
	h.put(t, "bad", step("app.good"), step("app.bad"))
	h.put(t, "none", step("app.none"))
	h.routes(t, srv, "r1")

	reply, err := h.ask(t, "may")
	if err != nil || object(t, reply.Body)["n"] != 2.0 {
		t.Fatalf("may: %s, %v", reply.Body, err)
	}
	failed, err := route.ParseStepErrors(reply.Header.Get(route.HeaderStepErrors))
	if err != nil || len(failed) != 1 || failed[0].Step != "2" || failed[0].Target != "app.bad" || failed[0].Code != bus.Aborted {
		t.Errorf("errors of steps: %+v, %v", failed, err)
	}

	_, err = h.ask(t, "bad")
	wantCode(t, err, bus.Aborted, `route "bad", step 2 (app.bad): not now`)
	d := bus.AsError(err).Details
	if d["route"] != "bad" || d["step"] != "2" || d["service"] != "app" || d["endpoint"] != "bad" || d["field"] != "x" {
		t.Errorf("details %v", d)
	}
	if reply, err := h.ask(t, "none"); err != nil || len(reply.Body) != 0 || len(reply.Header) != 0 {
		t.Errorf("an empty response: %+v, %v", reply, err)
	}
}

// A router follows the routes: one that is stored is served, one that is removed is not, and nobody else notices.
func TestRouterFollows(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h := build(t, srv)
	h.serve(t, "app", "", endpoints(says("a", `{"a":1}`), says("b", `{"b":1}`)))
	h.put(t, "steady", step("app.a", retry))
	h.routes(t, srv, "r1")
	h.routes(t, srv, "r2")
	var failed atomic.Int64
	load, stop := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for load.Err() == nil {
				if _, err := h.ask(t, "steady"); err != nil {
					failed.Add(1)
					t.Error(err)
				}
			}
		})
	}
	for i := range 10 {
		name := fmt.Sprint("new", i)
		h.put(t, name, step("app.b"))
		bustest.Eventually(t, name+" to be served", func() bool { _, ok := h.endpoint(name); return ok })
		for range 10 {
			if _, err := h.ask(t, name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := h.store.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		bustest.Eventually(t, name+" to be served no more", func() bool { _, ok := h.endpoint(name); return !ok })
		bustest.Eventually(t, "nobody to listen for "+name, func() bool {
			_, err := h.conn.NATS().Request(h.conn.Namespace().ServiceSubject(route.RouterService, name), []byte("{}"), time.Second)
			return errors.Is(err, nats.ErrNoResponders)
		})
	}
	stop()
	callers.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d other requests failed meanwhile", n)
	}
}

// A route is idempotent as long as all that it leads to is.
func TestRouterTellsIdempotent(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h := build(t, srv)
	h.serve(t, "app", "", says("a", `{"a":1}`))
	h.put(t, "inner", step("app.a", retry))
	h.put(t, "outer", sub("inner"), step("app.a", async))
	h.put(t, "retried", sub("inner", retry))
	h.routes(t, srv, "r1")
	is := func(name string, want bool) {
		t.Helper()
		bustest.Eventually(t, fmt.Sprintf("%s to be idempotent: %v", name, want), func() bool {
			got, ok := h.endpoint(name)
			return ok && got == want
		})
	}
	is("inner", true)
	is("outer", true)
	h.put(t, "inner", step("app.a"))
	is("inner", false)
	is("outer", false)
	is("retried", true)
	for _, name := range []string{"inner", "outer", "retried"} {
		if _, err := h.ask(t, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.put(t, "inner", step("app.a", retry))
	is("outer", true)
}

// Stopped, a router finishes what it was given, and another one has the rest.
func TestRouterStops(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h := build(t, srv)
	h.serve(t, "app", "", endpoint("slow", func(context.Context, []byte) ([]byte, error) {
		time.Sleep(20 * time.Millisecond)
		return []byte(`{}`), nil
	}))
	h.put(t, "r", step("app.slow"))
	stops := []func() error{h.routes(t, srv, "r1"), h.routes(t, srv, "r2")}
	var mu sync.Mutex
	var from []string
	load, stop := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			for load.Err() == nil {
				reply, err := h.ask(t, "r")
				if err != nil {
					t.Errorf("%v", err)
				}
				mu.Lock()
				from = append(from, reply.From)
				mu.Unlock()
			}
		})
	}
	answers := func(instance string) bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Contains(from[max(0, len(from)-20):], "skybus://default.dev.route/"+instance)
	}
	bustest.Eventually(t, "both to answer", func() bool { return answers("r1") && answers("r2") })
	if err := stops[0](); err != nil {
		t.Errorf("Run returned %v", err)
	}
	bustest.Eventually(t, "the other to answer", func() bool { return !answers("r1") && answers("r2") })
	stop()
	callers.Wait()
}
