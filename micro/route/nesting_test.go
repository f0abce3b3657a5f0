package route_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// sub is a step that is a route.
func sub(name string, options ...func(*route.Step)) route.Step {
	s := route.Step{Route: name}
	for _, o := range options {
		o(&s)
	}
	return s
}

// targets are the targets of hops, those of routes within in brackets behind them.
func targets(hops []route.Hop) string {
	var parts []string
	for _, h := range hops {
		text := h.Target()
		if len(h.Hops) > 0 {
			text += "[" + targets(h.Hops) + "]"
		}
		if h.Code != "" {
			text += "!" + string(h.Code)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " ")
}

func TestNestedRoute(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	type state struct {
		Trail []string `json:"trail"`
	}
	amend := func(name string) func(*micro.Service) error {
		return func(s *micro.Service) error {
			return micro.HandleAmend(s, name, func(_ context.Context, req *struct{ Input string }, resp *state) error {
				resp.Trail = append(resp.Trail, name+" "+req.Input)
				return nil
			})
		}
	}
	h.serve(t, "app", "", endpoints(amend("a"), amend("b"), amend("c"), says("x", `{"x":1}`),
		endpoint("bad", func(context.Context, []byte) ([]byte, error) { return nil, bus.Errorf(bus.Aborted, "not now") })))
	h.put(t, "inner", step("app.b"), step("app.x"))
	h.put(t, "middle", sub("inner"), step("app.c"))
	h.put(t, "outer", step("app.a"), sub("middle"), step("app.a"))
	h.put(t, "fails", step("app.b"), step("app.bad"))
	h.put(t, "forgives", step("app.a"), sub("fails", optional), step("app.c"))
	h.put(t, "breaks", step("app.a"), sub("fails"), step("app.c"))
	for _, tt := range []struct{ route, body, hops string }{
		{"outer", `{"trail":["a in","b in","c in","a in"],"x":1}`, "app.a route middle[route inner[app.b app.x] app.c] app.a"},
		{"forgives", `{"trail":["a in","c in"]}`, "app.a route fails[app.b app.bad!aborted]!aborted app.c"},
	} {
		res := h.run(t, tt.route, `{"Input":"in"}`)
		if diff := cmp.Diff(object(t, []byte(tt.body)), object(t, res.Body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.route, diff)
		}
		if got := targets(res.Hops); got != tt.hops {
			t.Errorf("%s: hops %s, want %s", tt.route, got, tt.hops)
		}
	}
	res, err := h.runner.Run(t.Context(), "breaks", route.Request{Body: []byte(`{}`)})
	wantCode(t, err, bus.Aborted, `route "breaks", step 2 (route fails)`, `route "fails", step 2 (app.bad): not now`)
	want := map[string]string{"route": "fails", "step": "2", "service": "app", "endpoint": "bad"}
	if diff := cmp.Diff(want, bus.AsError(err).Details); diff != "" {
		t.Errorf("details (-want +got):\n%s", diff)
	}
	if got, want := targets(res.Hops), "app.a route fails[app.b app.bad!aborted]!aborted"; got != want {
		t.Errorf("hops %s, want %s", got, want)
	}
}

// The time-out of a step that is a route bounds all of it, and its retry holds for the steps in it.
func TestNestedRouteTimeoutAndRetry(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	calls := make(chan int, 100)
	h.serve(t, "app", "", endpoint("slow", func(ctx context.Context, _ []byte) ([]byte, error) {
		calls <- micro.Info(ctx).Attempt
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	h.put(t, "inner", step("app.slow"))
	for _, retried := range []bool{false, true} {
		s := sub("inner", within(1500*time.Millisecond))
		s.Retry = retried
		h.put(t, fmt.Sprint("outer-", retried), s)
		begin := time.Now()
		_, err := h.runner.Run(t.Context(), fmt.Sprint("outer-", retried), route.Request{})
		wantCode(t, err, bus.DeadlineExceeded, "route inner", "app.slow")
		if took := time.Since(begin); took > 8*time.Second {
			t.Errorf("took %v, want 1.5 s", took)
		}
		if n := len(calls); (n > 1) != retried {
			t.Errorf("retry %v: %d attempts", retried, n)
		}
		for len(calls) > 0 {
			<-calls
		}
	}
}

func TestStoreRefusesCircles(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	put := func(name string, steps ...route.Step) error {
		_, err := h.store.Put(t.Context(), name, route.Route{Steps: steps}, 0)
		return err
	}
	wantCode(t, put("self", sub("self")), bus.FailedPrecondition, "self -> self")
	h.put(t, "c", step("s.e"))
	h.put(t, "b", step("s.e"), sub("c"))
	h.put(t, "a", sub("b"), sub("c"), sub("b"))
	wantCode(t, put("c", sub("a", async)), bus.FailedPrecondition, `route "c"`, "c -> a -> b -> c")
	_, err := h.store.Create(t.Context(), "c", route.Route{Steps: []route.Step{sub("c")}})
	wantCode(t, err, bus.FailedPrecondition, "c -> c")
	if err := h.store.Check(t.Context(), "c", route.Route{Steps: []route.Step{sub("b")}}, route.Force()); bus.CodeOf(err) != bus.FailedPrecondition {
		t.Errorf("a circle is forced: %v", err)
	}

	wantCode(t, put("d", step("s.e"), sub("nothing")), bus.FailedPrecondition, `steps[1].route: there is no route "nothing"`)
	if _, err := h.store.Put(t.Context(), "d", route.Route{Steps: []route.Step{sub("nothing")}}, 0, route.Force()); err != nil {
		t.Errorf("forced: %v", err)
	}
	h.follows(t, "d", 1)
	_, err = h.runner.Run(t.Context(), "d", route.Request{})
	wantCode(t, err, bus.NotFound, `there is no route "nothing"`)
}

func TestStoreRefusesDeepNesting(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	h.serve(t, "s", "", says("e", "{}"))
	h.put(t, "r1", step("s.e"))
	for i := 2; i <= route.MaxDepth; i++ {
		h.put(t, fmt.Sprint("r", i), sub(fmt.Sprint("r", i-1)))
	}
	h.run(t, fmt.Sprint("r", route.MaxDepth), "{}")
	_, err := h.store.Put(t.Context(), "top", route.Route{Steps: []route.Step{sub(fmt.Sprint("r", route.MaxDepth))}}, 0)
	wantCode(t, err, bus.FailedPrecondition, "17 deep")
	h.put(t, "below", step("s.e"))
	_, err = h.store.Put(t.Context(), "r1", route.Route{Steps: []route.Step{sub("below")}}, 0) // from beneath
	wantCode(t, err, bus.FailedPrecondition, "17 deep")
}

func TestStoreKeepsUsedRoutes(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	h.put(t, "used", step("s.e"))
	h.put(t, "z", sub("used", async))
	h.put(t, "a", step("s.e"), sub("used"))
	err := h.store.Delete(t.Context(), "used")
	wantCode(t, err, bus.FailedPrecondition, `route "used" is a step of a, z`)
	if got := bus.AsError(err).Details["used_by"]; got != "a,z" {
		t.Errorf("used_by %q", got)
	}
	if err := h.store.Delete(t.Context(), "a"); err != nil {
		t.Errorf("one that nobody uses: %v", err)
	}
	if err := h.store.Delete(t.Context(), "used", route.Force()); err != nil {
		t.Errorf("forced: %v", err)
	}
}

// circle stores routes that lead back to each other past all checks, as two editors at the same time could.
func circle(t *testing.T, h *house, option ...func(*route.Step)) {
	t.Helper()
	h.put(t, "b", step("app.e"))
	h.put(t, "a", step("app.e"), sub("b", option...))
	s := sub("a", option...)
	raw(t, h.conn, "b", fmt.Sprintf(`{"steps":[{"service":"app","endpoint":"e"},{"route":"a","async":%v}]}`, s.Async))
	bustest.Eventually(t, "the runner to know the circle", func() bool {
		r, ok := h.runner.Route("b")
		return ok && len(r.Route.Steps) == 2
	})
}

func TestRunRefusesCircles(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	var done handled
	h.serve(t, "app", "", endpoint("e", func(ctx context.Context, _ []byte) ([]byte, error) {
		done.add(micro.Info(ctx).RequestID)
		return nil, nil
	}))
	circle(t, h)
	_, err := h.runner.Run(micro.WithRequestID(t.Context(), "one"), "a", route.Request{})
	wantCode(t, err, bus.FailedPrecondition, "a -> b -> a")
	if n := done.times["one"]; n != 2 {
		t.Errorf("%d steps were done, want 2", n)
	}
}

// A circle through the queue ends there as well: the steps carry the routes they came through.
func TestAsyncCircleEnds(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	var done handled
	h.serve(t, "app", "", endpoint("e", func(ctx context.Context, _ []byte) ([]byte, error) {
		done.add(micro.Info(ctx).RequestID)
		return nil, nil
	}, micro.Idempotent()))
	circle(t, h, async)
	work(t, h.client)
	if _, err := h.runner.Run(micro.WithRequestID(t.Context(), "one"), "a", route.Request{Body: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	l := h.letter(t, 1)
	if text := l.header.Get(route.HeaderDeadError); !strings.Contains(text, "a -> b -> a") {
		t.Errorf("given up for %q", text)
	}
	h.idle(t)
	if n := done.times["one"]; n != 2 {
		t.Errorf("%d steps were done, want 2", n)
	}
}

func TestAsyncRoute(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{true, false} {
		t.Run(fmt.Sprint("runner of its own ", own), func(t *testing.T) {
			t.Parallel()
			h := build(t, bustest.Server(t))
			calls := make(chan string, 10)
			take := func(ctx context.Context, body []byte) ([]byte, error) {
				info := micro.Info(ctx)
				calls <- fmt.Sprintf("%s %s %s %s", info.Endpoint, info.RequestID, info.Origin, body)
				return nil, nil
			}
			h.serve(t, "app", "", endpoints(endpoint("one", take), endpoint("two", take)))
			h.put(t, "inner", step("app.one"), step("app.two"))
			h.put(t, "outer", sub("inner", async))
			cfg := route.WorkerConfig{}
			if !own {
				cfg.Runner = h.runner
			}
			workWith(t, h.client, cfg)
			res, err := h.runner.Run(micro.WithRequestID(t.Context(), "id-1"), "outer", route.Request{Body: []byte(`{"n":1}`)})
			if err != nil || targets(res.Hops) != "route inner" || !res.Hops[0].Async {
				t.Fatalf("%v, hops %+v", err, res.Hops)
			}
			got := []string{bustest.Receive(t, "the first step", calls), bustest.Receive(t, "the second step", calls)}
			for i, endpoint := range []string{"one", "two"} {
				if want := endpoint + " id-1 " + h.client.Address() + ` {"n":1}`; got[i] != want {
					t.Errorf("call %q, want %q", got[i], want)
				}
			}
			h.idle(t)
		})
	}
}

// A route that was removed, or that the worker does not know yet, is tried again.
func TestAsyncRouteThatIsNotThere(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	var done handled
	h.serve(t, "app", "", endpoint("e", func(ctx context.Context, _ []byte) ([]byte, error) {
		done.add(micro.Info(ctx).RequestID)
		return nil, nil
	}))
	if _, err := h.store.Put(t.Context(), "outer", route.Route{Steps: []route.Step{sub("inner", async)}}, 0, route.Force()); err != nil {
		t.Fatal(err)
	}
	h.follows(t, "outer", 1)
	ids := h.publish(t, "outer", "id", 3)
	work(t, h.client)
	bustest.Eventually(t, "the steps to be tried", func() bool { return redelivered(t, h.conn) > 0 })
	h.put(t, "inner", step("app.e"))
	h.idle(t)
	if got := done.ids(); !slices.Equal(got, ids) {
		t.Errorf("done %q, want %q", got, ids)
	}
}

// redelivered is how many steps were given out more than once.
func redelivered(t testing.TB, conn *bus.Conn) int {
	t.Helper()
	c, err := conn.JetStream().Consumer(t.Context(), route.AsyncStream, "default=dev")
	if err != nil {
		return 0 // not there yet
	}
	return c.CachedInfo().NumRedelivered
}
