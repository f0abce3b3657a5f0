package micro_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// seen is what a handler knew of its request.
type seen struct {
	info     micro.RequestInfo
	deadline time.Time
}

func look(ctx context.Context) seen {
	deadline, _ := ctx.Deadline()
	return seen{micro.Info(ctx), deadline}
}

// A chain of two services: who began it, who calls, one id and one deadline for all.
func TestRequestInfo(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	atBack, atFront := make(chan seen, 2), make(chan seen, 1)
	back := serve(t, connect(t, s), micro.Config{Name: "back"}, endpoint("work", func(ctx context.Context, req hello) (greeting, error) {
		atBack <- look(ctx)
		return greet(ctx, req)
	}))
	conn := connect(t, s)
	inner := newClient(t, conn, micro.ClientConfig{Name: "ignored"}) // inside a handler the instance is the caller
	front := serve(t, conn, micro.Config{Name: "front"}, endpoint("ask", func(ctx context.Context, req hello) (greeting, error) {
		atFront <- look(ctx)
		if _, err := micro.Call[greeting](ctx, inner, "back.work", req); err != nil {
			return greeting{}, err
		}
		return micro.Call[greeting](ctx, inner, "back.work", req)
	}))
	c := newClient(t, connect(t, s), micro.ClientConfig{Name: "web"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := micro.Call[greeting](ctx, c, "front.ask", hello{}); err != nil {
		t.Fatal(err)
	}

	f, b, b2 := <-atFront, <-atBack, <-atBack
	web, err := bus.ParseAddress(f.info.Origin)
	if err != nil || web.Service != "web" || web.Instance == "" || web.Namespace != conn.Namespace() {
		t.Errorf("origin %q: %v", f.info.Origin, err)
	}
	origin, id := f.info.Origin, f.info.RequestID
	if id == "" {
		t.Error("no request id")
	}
	const msgpack = "application/msgpack"
	want := micro.RequestInfo{
		RequestID: id, Attempt: 1, Origin: origin, Caller: origin,
		Service: "front", Endpoint: "ask", Instance: front.id, ContentType: msgpack,
	}
	if diff := cmp.Diff(want, f.info); diff != "" {
		t.Errorf("front (-want +got)\n%s", diff)
	}
	want = micro.RequestInfo{
		RequestID: id, Attempt: 1, Origin: origin, Caller: front.Address().String(),
		Service: "back", Endpoint: "work", Instance: back.id, ContentType: msgpack,
	}
	for _, got := range []seen{b, b2} {
		if diff := cmp.Diff(want, got.info); diff != "" {
			t.Errorf("back (-want +got)\n%s", diff)
		}
	}
	// The deadline counts from the arrival, so it may be later by what the way took, less than a millisecond rounded off.
	const way = 100 * time.Millisecond
	deadline, _ := ctx.Deadline()
	for who, got := range map[string]time.Time{"front": f.deadline, "back": b.deadline} {
		if d := got.Sub(deadline); got.IsZero() || d > way || d < -10*time.Second {
			t.Errorf("the deadline at %s is %v after the caller's", who, d)
		}
	}
}

func TestRequestInfoOfPlainRequests(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	at := make(chan seen, 1)
	svc := serve(t, connect(t, s), micro.Config{Name: "x", Timeout: time.Hour}, endpoint("y", func(ctx context.Context, _ struct{}) (struct{}, error) {
		at <- look(ctx)
		return struct{}{}, nil
	}))
	nc := s.Connect(t)
	ask := func(h nats.Header) seen {
		request(t, nc, "default.dev.svc.x.y", h, "")
		return bustest.Receive(t, "the handler", at)
	}
	bare := ask(nil)
	want := micro.RequestInfo{RequestID: bare.info.RequestID, Attempt: 1, Service: "x", Endpoint: "y", Instance: svc.id}
	if diff := cmp.Diff(want, bare.info); diff != "" || bare.info.RequestID == "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if left := time.Until(bare.deadline); left > time.Hour || left < 59*time.Minute {
		t.Errorf("%v are left, want the service's own hour", left)
	}
	full := ask(nats.Header{
		"Skybus-Request-Id": {"r-1"}, "Skybus-Attempt": {"3"}, "Skybus-From": {"skybus://a.b.c/d skybus://a.b.e"},
		"traceparent": {"00-1-2-00"}, "Skybus-Timeout": {"5000"},
	})
	want = micro.RequestInfo{
		RequestID: "r-1", Attempt: 3, Origin: "skybus://a.b.c/d", Caller: "skybus://a.b.e",
		Service: "x", Endpoint: "y", Instance: svc.id, Traceparent: "00-1-2-00",
	}
	if diff := cmp.Diff(want, full.info); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if left := time.Until(full.deadline); left > 5*time.Second || left < time.Second {
		t.Errorf("%v are left, want five seconds", left)
	}
	for _, bad := range []string{"a b", "ü", strings.Repeat("x", 129)} {
		if id := ask(nats.Header{"Skybus-Request-Id": {bad}}).info.RequestID; id == bad || id == "" {
			t.Errorf("request id %q became %q", bad, id)
		}
	}
}

func TestWithRequestID(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	at := make(chan seen, 1)
	serve(t, connect(t, s), micro.Config{Name: "x"}, endpoint("y", func(ctx context.Context, _ struct{}) (struct{}, error) {
		at <- look(ctx)
		return struct{}{}, nil
	}))
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	call := func(ctx context.Context) micro.RequestInfo {
		if _, err := micro.Call[struct{}](ctx, c, "x.y", nil); err != nil {
			t.Error(err)
		}
		return bustest.Receive(t, "the handler", at).info
	}
	id := strings.Repeat("x", 128)
	info := call(micro.WithRequestID(t.Context(), id))
	if info.RequestID != id || info.Caller != "" || info.Origin != "" {
		t.Errorf("%+v", info)
	}
	for _, bad := range []string{"", "a\nb", id + "x"} {
		if got := call(micro.WithRequestID(t.Context(), bad)).RequestID; got == bad || got == "" {
			t.Errorf("request id %q became %q", bad, got)
		}
	}
	if first, second := call(t.Context()).RequestID, call(t.Context()).RequestID; first == second {
		t.Errorf("two requests with the id %s", first)
	}
	if got := micro.Info(t.Context()); got != (micro.RequestInfo{}) {
		t.Errorf("outside of a handler: %+v", got)
	}
}

func TestContinue(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	at := make(chan seen, 1)
	serve(t, connect(t, s), micro.Config{Name: "x"}, endpoint("y", func(ctx context.Context, _ struct{}) (struct{}, error) {
		at <- look(ctx)
		return struct{}{}, nil
	}))
	c := newClient(t, connect(t, s), micro.ClientConfig{Name: "worker"})
	begun := micro.RequestInfo{RequestID: "r-1", Origin: "skybus://a.b.c/d", Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	if _, err := micro.Call[struct{}](micro.Continue(t.Context(), begun), c, "x.y", nil); err != nil {
		t.Fatal(err)
	}
	got := bustest.Receive(t, "the handler", at).info
	if got.RequestID != begun.RequestID || got.Origin != begun.Origin || got.Traceparent != begun.Traceparent || got.Caller != c.Address() {
		t.Errorf("%+v, want what %+v began, called by %s", got, begun, c.Address())
	}
}
