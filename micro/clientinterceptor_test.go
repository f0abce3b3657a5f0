package micro_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// notes is what interceptors saw.
type notes struct {
	mu    sync.Mutex
	lines []string
}

func (n *notes) add(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, fmt.Sprintf(format, args...))
}

// take is what was noted since the last time.
func (n *notes) take() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := strings.Join(n.lines, "; ")
	n.lines = nil
	return s
}

// watch notes what passes.
func (n *notes) watch(name string) micro.Interceptor {
	return func(next micro.UnaryHandler) micro.UnaryHandler {
		return func(ctx context.Context, call *micro.Unary) (any, error) {
			n.add("%s %s.%s %T", name, call.Service, call.Endpoint, call.Request)
			resp, err := next(ctx, call)
			n.add("%s %T %s", name, resp, bus.CodeOf(err))
			return resp, err
		}
	}
}

func TestClientInterceptors(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serve(t, connect(t, s), micro.Config{Name: "greeter"}, endpoints(
		endpoint("hello", greet),
		endpoint("fail", func(context.Context, hello) (greeting, error) { return greeting{}, bus.Errorf(bus.NotFound, "no") }),
	))
	var n notes
	c := newClient(t, connect(t, s), micro.ClientConfig{Interceptors: []micro.Interceptor{n.watch("outer"), n.watch("inner")}})
	if got, err := micro.Call[greeting](t.Context(), c, "greeter.hello", hello{Name: "you"}); err != nil || got.Text != "Hello you" {
		t.Fatal(got, err)
	}
	want := "outer greeter.hello micro_test.hello; inner greeter.hello micro_test.hello; inner micro_test.greeting ; outer micro_test.greeting "
	if got := n.take(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	var resp greeting
	if err := c.Service("greeter").Call(t.Context(), "hello", hello{Name: "me"}, &resp); err != nil || resp.Text != "Hello me" || n.take() != want {
		t.Error(resp, err)
	}
	if err := c.Service("greeter").Call(t.Context(), "hello", hello{Name: "me"}, nil); err != nil {
		t.Error(err)
	}
	n.take()
	reply, err := c.Do(t.Context(), micro.Request{Service: "greeter", Endpoint: "hello", Body: []byte(`{"name":"x"}`)})
	if err != nil || string(reply.Body) != `{"text":"Hello x"}` || reply.Attempts != 1 || reply.From == "" || reply.ContentType != "application/json" {
		t.Errorf("%+v, %v", reply, err)
	}
	if got := n.take(); !strings.Contains(got, "inner greeter.hello []uint8; inner []uint8 ;") {
		t.Error(got)
	}
	_, err = micro.Call[greeting](t.Context(), c, "greeter.fail", hello{})
	wantCode(t, err, bus.NotFound)
	if got := n.take(); !strings.Contains(got, "inner <nil> not_found") {
		t.Error(got)
	}
	reply, err = c.Do(t.Context(), micro.Request{Service: "greeter", Endpoint: "fail", Body: []byte(`{}`)})
	wantCode(t, err, bus.NotFound)
	if reply.From == "" {
		t.Error("who answered with the error is not known")
	}
	n.take()
	// What is refused at the door reaches no interceptor.
	_, err = micro.Call[greeting](t.Context(), c, "greeter.hello", hello{}, micro.ToVersion("x"))
	wantCode(t, err, bus.InvalidArgument)
	if got := n.take(); got != "" {
		t.Error(got)
	}
}

// An interceptor sees a call once, however many attempts it takes.
func TestClientInterceptorAttempts(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	attempts := make(chan micro.RequestInfo, 100)
	serve(t, connect(t, s), micro.Config{Name: "shaky"}, shaky(attempts))
	var n notes
	c := newClient(t, connect(t, s), micro.ClientConfig{AttemptTimeout: 50 * time.Millisecond, Interceptors: []micro.Interceptor{n.watch("i")}})
	sees(t, c, "shaky", 1)
	if got, err := micro.Call[greeting](t.Context(), c, "shaky.hangsIdempotent", hello{}); err != nil || got.Text != "2" {
		t.Error(got, err)
	}
	if got := n.take(); strings.Count(got, ";") != 1 {
		t.Error(got)
	}
	wantAttempts(t, attempts, 2)
}

// echoing answers "echo.x" with what it was asked, without any library, and tells the headers it saw.
func echoing(t testing.TB) (*bus.Conn, <-chan nats.Header) {
	t.Helper()
	s := bustest.Server(t)
	nc := s.Connect(t)
	seen := make(chan nats.Header, 100)
	if _, err := nc.QueueSubscribe("default.dev.svc.echo.x", "q", func(m *nats.Msg) {
		seen <- m.Header
		_ = m.RespondMsg(&nats.Msg{Data: m.Data, Header: nats.Header{"Content-Type": m.Header["Content-Type"], "Answered": {"yes"}}})
	}); err != nil {
		t.Fatal(err)
	}
	return connect(t, s), seen
}

type nextKey struct{}

// next is what an interceptor of intercepted calls.
func next(ctx context.Context, call *micro.Unary) (any, error) {
	return ctx.Value(nextKey{}).(micro.UnaryHandler)(ctx, call)
}

// intercepted is a client with one interceptor.
func intercepted(t testing.TB, conn *bus.Conn, i micro.UnaryHandler) *micro.Client {
	t.Helper()
	return newClient(t, conn, micro.ClientConfig{Patience: -1, Interceptors: []micro.Interceptor{func(next micro.UnaryHandler) micro.UnaryHandler {
		return func(ctx context.Context, call *micro.Unary) (any, error) {
			return i(context.WithValue(ctx, nextKey{}, next), call)
		}
	}}})
}

// Interceptors may change the request and the response, and add headers.
func TestClientInterceptorChanges(t *testing.T) {
	t.Parallel()
	conn, seen := echoing(t)
	c := intercepted(t, conn, func(ctx context.Context, call *micro.Unary) (any, error) {
		call.Request = hello{Name: call.Request.(hello).Name + "!"}
		call.Header.Add("Color", "blue")
		resp, err := next(ctx, call)
		if err != nil {
			return nil, err
		}
		return hello{Name: resp.(hello).Name + "?"}, nil
	})
	got, err := micro.Call[hello](t.Context(), c, "echo.x", hello{Name: "a"}, micro.WithHeader("Color", "red"))
	if err != nil || got.Name != "a!?" {
		t.Error(got, err)
	}
	if h := bustest.Receive(t, "the request", seen); !slices.Equal(h["Color"], []string{"red", "blue"}) {
		t.Errorf("headers %v", h)
	}
}

// They may answer themselves, refuse, and call again; what makes no sense is an error.
func TestClientInterceptorAnswers(t *testing.T) {
	t.Parallel()
	conn, _ := echoing(t)
	for name, tt := range map[string]struct {
		handle micro.UnaryHandler
		text   string
		code   bus.Code
	}{
		"answers":      {func(context.Context, *micro.Unary) (any, error) { return hello{Name: "mine"}, nil }, "mine", ""},
		"nothing":      {func(context.Context, *micro.Unary) (any, error) { return nil, nil }, "", ""}, //nolint:nilnil // no response is one
		"refuses":      {func(context.Context, *micro.Unary) (any, error) { return nil, errors.New("no") }, "", bus.Unknown},
		"another type": {func(context.Context, *micro.Unary) (any, error) { return 5, nil }, "", bus.Internal},
		"another ctx": {func(ctx context.Context, call *micro.Unary) (any, error) {
			return next(context.WithValue(t.Context(), nextKey{}, ctx.Value(nextKey{})), call)
		}, "", bus.Internal},
		"twice": {func(ctx context.Context, call *micro.Unary) (any, error) {
			_, _ = next(ctx, call)
			return next(ctx, call)
		}, "a", ""},
		"bad header": {func(ctx context.Context, call *micro.Unary) (any, error) {
			call.Header.Set("Nats-Rollup", "all")
			return next(ctx, call)
		}, "", bus.InvalidArgument},
		"bad request": {func(ctx context.Context, call *micro.Unary) (any, error) {
			call.Request = make(chan int)
			return next(ctx, call)
		}, "", bus.InvalidArgument},
		"without heads": {func(ctx context.Context, call *micro.Unary) (any, error) { call.Header = nil; return next(ctx, call) }, "a", ""},
	} {
		c := intercepted(t, conn, tt.handle)
		got, err := micro.Call[hello](t.Context(), c, "echo.x", hello{Name: "a"})
		if got.Name != tt.text || bus.CodeOf(err) != tt.code {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		var resp hello
		err = c.Service("echo").Call(t.Context(), "x", hello{Name: "a"}, &resp)
		if resp.Name != tt.text || bus.CodeOf(err) != tt.code {
			t.Errorf("%s of a handle: %v, %v", name, resp, err)
		}
	}
}

func TestClientInterceptorBytes(t *testing.T) {
	t.Parallel()
	conn, _ := echoing(t)
	c := intercepted(t, conn, func(_ context.Context, call *micro.Unary) (any, error) {
		return append([]byte("own "), call.Request.([]byte)...), nil
	})
	reply, err := c.Do(t.Context(), micro.Request{Service: "echo", Endpoint: "x", ContentType: "text/plain", Body: []byte("x")})
	if err != nil || string(reply.Body) != "own x" || reply.ContentType != "text/plain" {
		t.Errorf("%+v, %v", reply, err)
	}
	c = intercepted(t, conn, func(context.Context, *micro.Unary) (any, error) { return "text", nil })
	_, err = c.Do(t.Context(), micro.Request{Service: "echo", Endpoint: "x"})
	wantCode(t, err, bus.Internal, "string")

	// Headers of the answer are the reply's, without interceptors too.
	for _, c := range []*micro.Client{newClient(t, conn, micro.ClientConfig{}), intercepted(t, conn, next)} {
		reply, err := c.Do(t.Context(), micro.Request{Service: "echo", Endpoint: "x", Header: nats.Header{"A": {"b"}}, Body: []byte("x")})
		if err != nil || len(reply.Header) != 1 || reply.Header.Get("Answered") != "yes" {
			t.Errorf("%+v, %v", reply, err)
		}
	}
	for name := range map[string]string{"Skybus-From": "", "traceparent": "", "a b": "", "Content-Type": ""} {
		_, err := micro.Call[hello](t.Context(), c, "echo.x", hello{}, micro.WithHeader(name, "x"))
		wantCode(t, err, bus.InvalidArgument, "header")
	}
}
