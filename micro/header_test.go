package micro_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

func TestHeaders(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	got := make(chan nats.Header, 1)
	late := make(chan error, 1)
	serve(t, connect(t, s), micro.Config{Name: "greeter"}, endpoint("hello", func(ctx context.Context, req hello) (greeting, error) {
		got <- micro.RequestHeader(micro.WithRequestID(ctx, "other"))
		for _, bad := range []string{"", "Skybus-From", "a b", "Content-Type"} {
			wantCode(t, micro.SetReplyHeader(ctx, bad, "x"), bus.InvalidArgument)
		}
		wantCode(t, micro.SetReplyHeader(ctx, "X-Bad", "a\r\nb"), bus.InvalidArgument)
		for _, value := range []string{"first", "second"} {
			if err := micro.SetReplyHeader(ctx, "X-Reply", value); err != nil {
				t.Error(err)
			}
		}
		switch req.Name {
		case "fail":
			return greeting{}, bus.Errorf(bus.NotFound, "no")
		case "late":
			<-ctx.Done()
			bustest.Eventually(t, "the answer at the deadline", func() bool { return micro.SetReplyHeader(ctx, "X-Late", "x") != nil })
			late <- micro.SetReplyHeader(ctx, "X-Late", "x")
		}
		return greet(ctx, req)
	}))
	nc := s.Connect(t)
	h := nats.Header{"X-Who": {"me", "you"}, "Skybus-Request-Id": {"1"}, "traceparent": {"x"}}
	reply := request(t, nc, helloSubject, h, `{}`)
	if diff := cmp.Diff(nats.Header{"X-Who": {"me", "you"}}, bustest.Receive(t, "the header", got)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if v := reply.Header.Values("X-Reply"); len(v) != 1 || v[0] != "second" {
		t.Errorf("reply header %v", reply.Header)
	}
	reply = request(t, nc, helloSubject, nil, `{"name":"fail"}`)
	if h := bustest.Receive(t, "the header", got); h != nil {
		t.Errorf("header %v", h)
	}
	wantError(t, reply, bus.NotFound, 404)
	if reply.Header.Get("X-Reply") != "second" {
		t.Errorf("error reply header %v", reply.Header)
	}
	start := time.Now()
	reply = request(t, nc, helloSubject, nats.Header{"Skybus-Timeout": {"50"}}, `{"name":"late"}`)
	wantError(t, reply, bus.DeadlineExceeded, 504)
	if reply.Header.Get("X-Reply") != "second" || time.Since(start) > patience {
		t.Errorf("error reply header %v", reply.Header)
	}
	wantCode(t, bustest.Receive(t, "the handler", late), bus.FailedPrecondition, "answered already")
	wantCode(t, micro.SetReplyHeader(t.Context(), "X", "y"), bus.FailedPrecondition)
	if h := micro.RequestHeader(t.Context()); h != nil {
		t.Errorf("header %v outside of a handler", h)
	}
}
