package route_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

type empty struct{}

// diary is what happened, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func (d *diary) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.lines...)
}

// noting adds an endpoint that notes its call and answers with nothing.
func (d *diary) noting(name string) func(*micro.Service) error {
	return endpoint(name, func(ctx context.Context, _ []byte) ([]byte, error) {
		d.note(micro.Info(ctx).Service + "." + name)
		return nil, nil
	})
}

func TestRunInOrder(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	var d diary
	h.serve(t, "first", "", endpoints(d.noting("a"), d.noting("b")))
	h.serve(t, "second", "", endpoints(d.noting("a"), d.noting("b")))
	h.put(t, "r", step("second.b"), step("first.a"), step("second.a"), step("first.b"), step("first.a"))
	res := h.run(t, "r", `{}`)
	want := []string{"second.b", "first.a", "second.a", "first.b", "first.a"}
	if diff := cmp.Diff(want, d.all()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	var hops []string
	for _, hop := range res.Hops {
		hops = append(hops, hop.Service+"."+hop.Endpoint)
		if hop.Took <= 0 || hop.Attempts != 1 || hop.Code != "" || hop.Error != "" || !strings.HasPrefix(hop.Instance, "skybus://default.dev."+hop.Service+"/") {
			t.Errorf("hop %+v", hop)
		}
	}
	if diff := cmp.Diff(want, hops); diff != "" {
		t.Errorf("hops (-want +got):\n%s", diff)
	}
	if len(res.Body) != 0 || res.ContentType != "application/json" || res.Revision == 0 {
		t.Errorf("result %+v", res)
	}
}

// All calls of a run have one request id: the caller's, or one that the run made.
func TestRunRequestID(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	var d diary
	h.serve(t, "ids", "", endpoint("get", func(ctx context.Context, _ empty) (empty, error) {
		d.note(micro.Info(ctx).RequestID)
		return empty{}, nil
	}))
	h.put(t, "r", step("ids.get"), step("ids.get"), step("ids.get"))
	for _, id := range []string{"", "abc-1"} {
		if _, err := h.runner.Run(micro.WithRequestID(t.Context(), id), "r", route.Request{}); err != nil {
			t.Fatal(err)
		}
	}
	ids := d.all()
	if len(ids) != 6 || ids[0] == "" || ids[1] != ids[0] || ids[2] != ids[0] || ids[3] != "abc-1" || ids[4] != ids[3] || ids[5] != ids[3] {
		t.Errorf("request ids %q, want three of a new one and three of abc-1", ids)
	}
}

// A run inside a handler goes on with the request of that handler.
func TestRunInsideHandler(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	infos := make(chan micro.RequestInfo, 1)
	h.serve(t, "inner", "", endpoint("get", func(ctx context.Context, _ empty) (empty, error) {
		infos <- micro.Info(ctx)
		return empty{}, nil
	}))
	h.put(t, "r", step("inner.get"))
	h.serve(t, "outer", "", endpoint("get", func(ctx context.Context, _ empty) (empty, error) {
		_, err := h.runner.Run(ctx, "r", route.Request{})
		return empty{}, err
	}))
	if _, err := micro.Call[empty](micro.WithRequestID(t.Context(), "one"), h.client, "outer.get", empty{}); err != nil {
		t.Fatal(err)
	}
	info := bustest.Receive(t, "the inner call", infos)
	if info.RequestID != "one" || !strings.Contains(info.Caller, ".outer/") || !strings.Contains(info.Origin, ".tester/") {
		t.Errorf("inner call has %+v", info)
	}
}

func TestRunRequiredStepFails(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	var d diary
	h.serve(t, "shop", "", endpoints(d.noting("ok"), d.noting("after"), endpoint("fail", func(context.Context, empty) (empty, error) {
		e := bus.Errorf(bus.FailedPrecondition, "the shop is closed").With("opens", "9:00").With("step", "none of ours")
		e.Status = 423
		return empty{}, e
	})))
	h.put(t, "r", step("shop.ok"), step("shop.fail"), step("shop.after"))
	res, err := h.runner.Run(t.Context(), "r", route.Request{})
	wantCode(t, err, bus.FailedPrecondition, `route "r", step 2 (shop.fail): the shop is closed`)
	e := bus.AsError(err)
	if e.HTTPStatus() != 423 {
		t.Errorf("status %d, want 423", e.HTTPStatus())
	}
	if diff := cmp.Diff(map[string]string{"opens": "9:00", "route": "r", "step": "2", "service": "shop", "endpoint": "fail"}, e.Details); diff != "" {
		t.Errorf("details (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"shop.ok"}, d.all()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	want := []route.Hop{
		{Service: "shop", Endpoint: "ok", Attempts: 1},
		{Service: "shop", Endpoint: "fail", Attempts: 1, Code: bus.FailedPrecondition},
	}
	if diff := cmp.Diff(want, res.Hops, cmpopts.IgnoreFields(route.Hop{}, "Took", "Instance", "Error")); diff != "" {
		t.Errorf("hops (-want +got):\n%s", diff)
	}
	if failed := res.Hops[1]; !strings.Contains(failed.Error, "the shop is closed") || failed.Instance == "" {
		t.Errorf("hop %+v: want the error and who gave it", failed)
	}
}

func TestRunOptionalStepFails(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	h.serve(t, "shop", "", endpoints(says("ok", `{"a":1}`), says("after", `{"b":2}`), endpoint("fail", func(context.Context, empty) (empty, error) {
		return empty{}, errors.New("no luck")
	})))
	h.put(t, "r", step("shop.ok"), step("shop.fail", optional), step("nowhere.at-all", optional), step("shop.after"))
	res := h.run(t, "r", "")
	if diff := cmp.Diff(map[string]any{"a": 1.0, "b": 2.0}, object(t, res.Body)); diff != "" {
		t.Errorf("response (-want +got):\n%s", diff)
	}
	var codes []bus.Code
	for _, hop := range res.Hops {
		codes = append(codes, hop.Code)
	}
	if diff := cmp.Diff([]bus.Code{"", bus.Unknown, bus.Unavailable, ""}, codes); diff != "" {
		t.Errorf("codes of the hops (-want +got):\n%s", diff)
	}
}

func TestRunUnknown(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	res, err := h.runner.Run(t.Context(), "nothing", route.Request{})
	wantCode(t, err, bus.NotFound, `there is no route "nothing"`)
	if len(res.Hops) != 0 {
		t.Errorf("hops %+v", res.Hops)
	}
	for _, name := range []string{"", "a.b", "*", ">", "a b", "\x00", strings.Repeat("x", 5000)} {
		_, err := h.runner.Run(t.Context(), name, route.Request{})
		wantCode(t, err, bus.InvalidArgument, "route")
		if _, ok := h.runner.Route(name); ok {
			t.Errorf("there is a route %.20q", name)
		}
	}
	h.serve(t, "here", "", says("get", "{}"))
	h.put(t, "no-service", step("here.get"), step("nowhere.get"))
	h.put(t, "no-endpoint", step("here.other"))
	h.put(t, "no-version", step("here.get", version("9.0.0")))
	_, err = h.runner.Run(t.Context(), "no-service", route.Request{})
	wantCode(t, err, bus.Unavailable, `route "no-service", step 2 (nowhere.get): nobody serves nowhere.get`)
	if d := bus.AsError(err).Details; d["service"] != "nowhere" || d["route"] != "no-service" {
		t.Errorf("details %v", d)
	}
	_, err = h.runner.Run(t.Context(), "no-endpoint", route.Request{})
	wantCode(t, err, bus.Unimplemented, `"here" has no endpoint "other"`)
	_, err = h.runner.Run(t.Context(), "no-version", route.Request{})
	wantCode(t, err, bus.Unavailable, "9.0.0")
	_, err = h.runner.Run(t.Context(), "no-service", route.Request{ContentType: "text/plain"})
	wantCode(t, err, bus.InvalidArgument, "text/plain")
	if e := bus.AsError(err); e.HTTPStatus() != 415 {
		t.Errorf("status %d, want 415", e.HTTPStatus())
	}
}

func TestRunVersion(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	for _, v := range []string{"1.0.0", "2.0.0-rc.1+x"} {
		h.serve(t, "app", v, says("get", `{"version":"`+v+`"}`))
	}
	h.put(t, "old", step("app.get", version("1.0.0")))
	h.put(t, "new", step("app.get", version("2.0.0-rc.1+x")))
	for range 10 {
		for name, want := range map[string]string{"old": "1.0.0", "new": "2.0.0-rc.1+x"} {
			if got := object(t, h.run(t, name, "").Body)["version"]; got != want {
				t.Fatalf("%s answered by version %v, want %s", name, got, want)
			}
		}
	}
}

// hanging adds an endpoint that notes each call and does not answer the first few.
func hanging(name string, calls *atomic.Int64, times int64) func(*micro.Service) error {
	return endpoint(name, func(ctx context.Context, _ empty) (map[string]int, error) {
		if calls.Add(1) <= times {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return map[string]int{"attempt": micro.Info(ctx).Attempt}, nil
	})
}

func TestRunStepTimeout(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	var slow, after atomic.Int64
	h.serve(t, "app", "", endpoints(hanging("slow", &slow, 1000), hanging("after", &after, 0)))
	h.put(t, "must", step("app.slow", within(100*time.Millisecond)), step("app.after"))
	h.put(t, "may", step("app.slow", within(100*time.Millisecond), optional), step("app.after"))
	begin := time.Now()
	_, err := h.runner.Run(t.Context(), "must", route.Request{})
	wantCode(t, err, bus.DeadlineExceeded, "step 1 (app.slow)")
	if after.Load() != 0 {
		t.Error("the next step was done")
	}
	res := h.run(t, "may", "")
	if took := time.Since(begin); took < 190*time.Millisecond || took > 5*time.Second {
		t.Errorf("two time-outs of 100 ms took %v", took)
	}
	if res.Hops[0].Code != bus.DeadlineExceeded || res.Hops[1].Code != "" || after.Load() != 1 {
		t.Errorf("hops %+v, next step done %d times", res.Hops, after.Load())
	}
}

// When the time of the whole run is up, no further step is done, required or not.
func TestRunDeadline(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	var after atomic.Int64
	silent(t, h.conn, "void.slow")
	h.serve(t, "app", "", hanging("after", &after, 0))
	h.put(t, "r", step("void.slow", optional), step("app.after"), step("app.after", async))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	res, err := h.runner.Run(ctx, "r", route.Request{})
	wantCode(t, err, bus.DeadlineExceeded, "step 1 (void.slow)")
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if len(res.Hops) != 1 || after.Load() != 0 {
		t.Errorf("%d hops, next step done %d times", len(res.Hops), after.Load())
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = h.runner.Run(ctx, "r", route.Request{})
	wantCode(t, err, bus.Canceled)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is not context.Canceled", err)
	}
}

// A step that may be done twice is tried again when no answer came; any other is called once.
func TestRunRetry(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	var again, once atomic.Int64
	h.serve(t, "app", "", endpoints(hanging("again", &again, 1), hanging("once", &once, 1)))
	h.put(t, "retry", step("app.again", retry))
	h.put(t, "once", step("app.once", within(time.Second)))
	res := h.run(t, "retry", "")
	if got := object(t, res.Body)["attempt"]; again.Load() != 2 || got != 2.0 || res.Hops[0].Attempts != 2 {
		t.Errorf("with retry: called %d times, attempt %v answered, hop %+v", again.Load(), got, res.Hops[0])
	}
	_, err := h.runner.Run(t.Context(), "once", route.Request{})
	wantCode(t, err, bus.DeadlineExceeded)
	if once.Load() != 1 {
		t.Errorf("without retry: called %d times", once.Load())
	}
}

func TestRunNamespaces(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h, other := build(t, srv), build(t, srv, inNamespace("default.test"))
	h.serve(t, "app", "", says("get", `{"env":"dev"}`))
	other.serve(t, "app", "", says("get", `{"env":"test"}`))
	h.put(t, "r", step("app.get"))
	_, err := other.runner.Run(t.Context(), "r", route.Request{})
	wantCode(t, err, bus.NotFound)
	other.put(t, "r", step("app.get"))
	for _, tt := range []struct {
		h   *house
		env string
	}{{h, "dev"}, {other, "test"}} {
		if got := object(t, tt.h.run(t, "r", "").Body)["env"]; got != tt.env {
			t.Errorf("answered by %v, want %s", got, tt.env)
		}
	}
	if diff := cmp.Diff([]string{"r"}, other.runner.Names()); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

// A closed runner goes on by what it knew.
func TestRunAfterClose(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	h.serve(t, "app", "", says("get", `{"a":1}`))
	h.put(t, "r", step("app.get"))
	for range 2 {
		if err := h.runner.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.store.Delete(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	h.run(t, "r", "")
}

func TestNewRunnerNeedsJetStreamInTime(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h := build(t, srv)
	srv.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := route.NewRunner(ctx, h.client, route.Config{})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the deadline", err)
	}
	srv.Start(t)
}
