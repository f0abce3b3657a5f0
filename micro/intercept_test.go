package micro_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// note makes an interceptor that notes when a call comes and goes.
func note(j *journal, name string, made *atomic.Int64) micro.Interceptor {
	return func(next micro.UnaryHandler) micro.UnaryHandler {
		made.Add(1)
		return func(ctx context.Context, call *micro.Unary) (any, error) {
			j.add(fmt.Sprintf("%s>%T %s", name, call.Request, call.Header.Get("X-Who")))()
			resp, err := next(ctx, call)
			j.add(fmt.Sprintf("%s<%T", name, resp))()
			return resp, err
		}
	}
}

// shapes are the methods of a receiver.
type shapes struct{}

func (shapes) ByValue(ctx context.Context, req hello) (greeting, error) { return greet(ctx, req) }

func (shapes) ByPointer(ctx context.Context, req *hello) (*greeting, error) {
	resp, err := greet(ctx, *req)
	return &resp, err
}

func (shapes) Completes(_ context.Context, req *hello, resp *greeting) error {
	resp.Text = req.Name
	return nil
}

func TestInterceptors(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var j journal
	var outer, inner atomic.Int64
	serve(t, connect(t, s), micro.Config{Name: "greeter", Interceptors: []micro.Interceptor{note(&j, "a", &outer), note(&j, "b", &outer)}}, endpoints(
		endpoint("value", greet, micro.Intercept(note(&j, "c", &inner)), micro.Intercept(note(&j, "d", &inner))),
		endpoint("pointer", func(ctx context.Context, req *hello) (*greeting, error) {
			resp, err := greet(ctx, *req)
			return &resp, err
		}),
		endpoint("bytes", func(_ context.Context, req []byte) ([]byte, error) { return req, nil }),
		func(s *micro.Service) error {
			return micro.HandleAmend(s, "amend", func(_ context.Context, req *hello, resp *greeting) error {
				resp.Text += req.Name
				return nil
			})
		},
		func(s *micro.Service) error { return s.Register(shapes{}) },
	))
	nc := s.Connect(t)
	for _, c := range []struct{ endpoint, req, resp string }{
		{"value", "micro_test.hello", "micro_test.greeting"},
		{"pointer", "*micro_test.hello", "*micro_test.greeting"},
		{"bytes", "[]uint8", "[]uint8"},
		{"amend", "*micro_test.hello", "*micro_test.greeting"},
		{"byValue", "micro_test.hello", "micro_test.greeting"},
		{"byPointer", "*micro_test.hello", "*micro_test.greeting"},
		{"completes", "*micro_test.hello", "*micro_test.greeting"},
	} {
		before := len(j.all())
		reply := request(t, nc, "default.dev.svc.greeter."+c.endpoint, nats.Header{"X-Who": {"me"}}, `{"name":"you"}`)
		if !strings.Contains(string(reply.Data), "you") {
			t.Errorf("%s: answer %s", c.endpoint, reply.Data)
		}
		want := []string{"a>" + c.req + " me", "b>" + c.req + " me", "b<" + c.resp, "a<" + c.resp}
		if c.endpoint == "value" {
			want = slices.Insert(want, 2, "c>"+c.req+" me", "d>"+c.req+" me", "d<"+c.resp, "c<"+c.resp)
		}
		if got := j.all()[before:]; !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", c.endpoint, got, want)
		}
	}
	if outer.Load() != 2 || inner.Load() != 2 {
		t.Errorf("%d interceptors of the service were made and %d of the endpoint", outer.Load(), inner.Load())
	}
	before := len(j.all())
	wantError(t, request(t, nc, "default.dev.svc.greeter.value", nil, `[`), bus.InvalidArgument, 400)
	if got := j.all()[before:]; len(got) > 0 {
		t.Errorf("interceptors saw what does not decode: %v", got)
	}
}

// An interceptor may change request and response, answer itself, refuse, panic, and do wrong.
func TestInterceptorsChange(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	svc := serve(t, connect(t, s), micro.Config{Name: "greeter", Interceptors: []micro.Interceptor{
		func(next micro.UnaryHandler) micro.UnaryHandler {
			return func(ctx context.Context, call *micro.Unary) (any, error) {
				req := call.Request.(hello)
				switch req.Name {
				case "change":
					call.Request = hello{Name: "other"}
				case "wrong":
					call.Request = "text"
				case "nil":
					call.Request = nil
				case "ctx":
					ctx = context.WithoutCancel(t.Context())
				case "answer":
					return greeting{"no need " + micro.Info(ctx).Endpoint}, nil
				case "refuse":
					return nil, bus.Errorf(bus.PermissionDenied, "not you")
				case "panic":
					panic("oh")
				}
				resp, err := next(ctx, call)
				if g, ok := resp.(greeting); ok {
					g.Text += "!"
					resp = g
				}
				return resp, err
			}
		},
	}}, endpoint("hello", greet))
	nc := s.Connect(t)
	for name, want := range map[string]string{"you": "Hello you!", "change": "Hello other!", "answer": "no need hello"} {
		reply := request(t, nc, helloSubject, nil, `{"name":"`+name+`"}`)
		if string(reply.Data) != `{"text":"`+want+`"}` {
			t.Errorf("answer %s to %s", reply.Data, name)
		}
	}
	wantError(t, request(t, nc, helloSubject, nil, `{"name":"refuse"}`), bus.PermissionDenied, 403, "not you")
	wantError(t, request(t, nc, helloSubject, nil, `{"name":"panic"}`), bus.Internal, 500, "panicked")
	wantError(t, request(t, nc, helloSubject, nil, `{"name":"wrong"}`), bus.Internal, 500, "an interceptor made the request a string", "micro_test.hello")
	wantError(t, request(t, nc, helloSubject, nil, `{"name":"nil"}`), bus.Internal, 500, "an interceptor made the request a <nil>")
	wantError(t, request(t, nc, helloSubject, nil, `{"name":"ctx"}`), bus.Internal, 500, "not the request's")
	if st := svc.Stats().Endpoints[0]; st.Panics != 1 || st.InFlight != 0 {
		t.Errorf("%+v", st)
	}
}
