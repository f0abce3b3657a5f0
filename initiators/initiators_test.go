package initiators_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// build runs the service app, with the endpoints echo and fail, and the routes good (echo) and bad (echo, fail).
func build(t testing.TB, infos chan<- micro.RequestInfo) (*micro.Client, *route.Runner) {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	started := make(chan struct{})
	s, err := micro.NewService(conn, micro.Config{Name: "app", Hooks: micro.Hooks{Started: func() { close(started) }}})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		micro.Handle(s, "echo", func(ctx context.Context, body []byte) ([]byte, error) {
			infos <- micro.Info(ctx)
			return body, nil
		}),
		micro.Handle(s, "fail", func(context.Context, []byte) ([]byte, error) {
			return nil, bus.Errorf(bus.Aborted, "not now").With("field", "a")
		}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) }) // the tests see what goes wrong
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	<-started
	client, err := micro.NewClient(t.Context(), conn, micro.ClientConfig{Patience: 50 * time.Millisecond, MaxBody: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() }) // has no error to tell
	store, err := route.OpenStore(t.Context(), conn, route.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	echo, fail := route.Step{Service: "app", Endpoint: "echo"}, route.Step{Service: "app", Endpoint: "fail"}
	for name, steps := range map[string][]route.Step{"good": {echo}, "bad": {echo, fail}} {
		if _, err := store.Create(t.Context(), name, route.Route{Steps: steps}); err != nil {
			t.Fatal(err)
		}
	}
	runner, err := route.NewRunner(t.Context(), client, route.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = runner.Close() }) // has no error to tell
	return client, runner
}

func endpoint(t testing.TB, c *micro.Client, target string) initiators.Target {
	t.Helper()
	e, err := initiators.Endpoint(c, target)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestTargets(t *testing.T) {
	t.Parallel()
	infos := make(chan micro.RequestInfo, 10)
	client, runner := build(t, infos)
	msgpack, err := bus.MessagePack{}.Marshal(map[string]any{"a": 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]initiators.Target{"route": initiators.Route(runner, "good"), "endpoint": endpoint(t, client, "app.echo")} {
		t.Run(name, func(t *testing.T) {
			for _, req := range []initiators.Request{
				{ID: "id-1", Body: []byte(`{"a":1}`)},
				{ID: "id-2", ContentType: "application/msgpack", Body: msgpack},
			} {
				rep, err := target.Send(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				want := req.ContentType
				if want == "" {
					want = "application/json"
				}
				if string(rep.Body) != string(req.Body) || rep.ContentType != want {
					t.Errorf("%q as %q, want %q as %q", rep.Body, rep.ContentType, req.Body, want)
				}
				if info := <-infos; info.RequestID != req.ID || info.Attempt != 1 {
					t.Errorf("the service was told %+v, want the id %s", info, req.ID)
				}
				if hops := len(rep.Hops); (hops == 1) != (name == "route") {
					t.Errorf("%d hops", hops)
				}
			}
			// Without an id there is a new one each time.
			seen := map[string]bool{}
			for _, id := range []string{"", "", "with space", strings.Repeat("x", 5000)} {
				if _, err := target.Send(t.Context(), initiators.Request{ID: id, Body: []byte(`{}`)}); err != nil {
					t.Fatal(err)
				}
				info := <-infos
				if info.RequestID == "" || info.RequestID == id || seen[info.RequestID] {
					t.Errorf("id %.20q became %q", id, info.RequestID)
				}
				seen[info.RequestID] = true
			}
		})
	}
}

func TestTargetsFail(t *testing.T) {
	t.Parallel()
	infos := make(chan micro.RequestInfo, 10)
	client, runner := build(t, infos)
	rep, err := initiators.Route(runner, "bad").Send(t.Context(), initiators.Request{Body: []byte(`{}`)})
	if bus.CodeOf(err) != bus.Aborted || len(rep.Hops) != 2 || rep.Hops[0].Code != "" || rep.Hops[1].Code != bus.Aborted {
		t.Errorf("route: %v, hops %+v", err, rep.Hops)
	}
	_, err = endpoint(t, client, "app.fail").Send(t.Context(), initiators.Request{})
	if e := bus.AsError(err); e == nil || e.Code != bus.Aborted || e.Message != "not now" || e.Details["field"] != "a" {
		t.Errorf("endpoint: %v", err)
	}
	for name, tt := range map[string]struct {
		target initiators.Target
		gone   bool // the ctx
		req    initiators.Request
		code   bus.Code
	}{
		"no route":       {initiators.Route(runner, "nothing"), false, initiators.Request{}, bus.NotFound},
		"bad route":      {initiators.Route(runner, "a.>"), false, initiators.Request{}, bus.InvalidArgument},
		"route type":     {initiators.Route(runner, "good"), false, initiators.Request{ContentType: "text/x"}, bus.InvalidArgument},
		"route gone":     {initiators.Route(runner, "good"), true, initiators.Request{}, bus.Canceled},
		"no service":     {endpoint(t, client, "nowhere.get"), false, initiators.Request{}, bus.Unavailable},
		"endpoint type":  {endpoint(t, client, "app.echo"), false, initiators.Request{ContentType: "text/x"}, bus.InvalidArgument},
		"endpoint gone":  {endpoint(t, client, "app.echo"), true, initiators.Request{}, bus.Canceled},
		"endpoint large": {endpoint(t, client, "app.echo"), false, initiators.Request{Body: make([]byte, 2<<20)}, bus.ResourceExhausted},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		if tt.gone {
			cancel()
		}
		_, err := tt.target.Send(ctx, tt.req)
		cancel()
		if bus.CodeOf(err) != tt.code {
			t.Errorf("%s: %v, want %s", name, err, tt.code)
		}
	}
}

func TestEndpointRefuses(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"", "app", "app.", ".echo", "a.b.c", "a.*", "a.>", "a. b", "a.\x00", strings.Repeat("x", 5000) + ".e"} {
		if _, err := initiators.Endpoint(nil, target); bus.CodeOf(err) != bus.InvalidArgument || len(err.Error()) > 300 {
			t.Errorf("%.20q: error %v", target, err)
		}
	}
}

// What a target takes and is not there is told at the door, not at the first request.
func TestTargetsOfNothing(t *testing.T) {
	t.Parallel()
	for field, spec := range map[string]initiators.Spec{
		"call": {Call: "app.echo"}, "route": {Route: "good"}, "publish": {Publish: "default.dev.pub.a"}, "stream": {Stream: "default.dev.pub.a"},
		"timer": {Timer: &initiators.TimerSpec{After: "1s", Target: "route://x"}},
	} {
		_, err := initiators.Sources{}.Target(spec)
		if e := bus.AsError(err); err == nil || e.Code != bus.InvalidArgument || e.Details["field"] != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}
