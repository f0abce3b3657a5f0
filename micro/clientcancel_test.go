package micro_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// A caller that gives up says so, from the inbox that the request came from; one whose deadline passed need not.
func TestCancelMessage(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	nc := s.Connect(t)
	requests, cancels := make(chan *nats.Msg, 10), make(chan *nats.Msg, 10)
	if _, err := nc.Subscribe("default.dev.svc.slow.x", func(m *nats.Msg) { requests <- m }); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Subscribe("default.dev.ctl.slow.all.cancel", func(m *nats.Msg) { cancels <- m }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	for _, opts := range [][]micro.CallOption{nil, {micro.Hedge(time.Hour)}} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := micro.Call[hello](ctx, c, "slow.x", hello{}, opts...)
		wantCode(t, err, bus.DeadlineExceeded)
		cancel()
		receive(t, requests, "the request")

		ctx, cancel = context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := micro.Call[hello](ctx, c, "slow.x", hello{}, opts...)
			failed <- err
		}()
		request := receive(t, requests, "the request")
		cancel()
		wantCode(t, receive(t, failed, "the call"), bus.Canceled)
		m := receive(t, cancels, "the message")
		if m.Header.Get(bus.HeaderRequestID) != request.Header.Get(bus.HeaderRequestID) || m.Header.Get(bus.HeaderAttempt) != "1" || string(m.Data) != "x" {
			t.Errorf("headers %v, body %q", m.Header, m.Data)
		}
		if prefix := request.Reply[:len("_INBOX.")+22]; m.Reply[:len(prefix)] != prefix || m.Reply == request.Reply {
			t.Errorf("reply %s, that of the request is %s", m.Reply, request.Reply)
		}
	}
	if len(cancels) > 0 {
		t.Error("a message too many: of the deadline")
	}
	_, err := micro.Call[hello](cancelled(t.Context()), c, "slow.x", hello{})
	wantCode(t, err, bus.Canceled)
	if err := c.Conn().NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if len(cancels)+len(requests) > 0 {
		t.Error("a call that was not made was cancelled")
	}
}

// Calls of one handler to one endpoint cannot be told apart: none is cancelled while another may be meant.
func TestCancelSiblings(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	nc := s.Connect(t)
	requests, cancels := make(chan *nats.Msg, 10), make(chan *nats.Msg, 10)
	if _, err := nc.Subscribe("default.dev.svc.slow.x", func(m *nats.Msg) { requests <- m }); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Subscribe("default.dev.ctl.slow.all.cancel", func(m *nats.Msg) { cancels <- m }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	failed := make(chan error, 2)
	var stop [2]context.CancelFunc
	for i := range stop {
		var ctx context.Context
		ctx, stop[i] = context.WithCancel(micro.WithRequestID(t.Context(), "shared")) //nolint:fatcontext // two, beside each other
		go func() {
			_, err := micro.Call[hello](ctx, c, "slow.x", hello{})
			failed <- err
		}()
		receive(t, requests, "the request")
	}
	stop[0]()
	wantCode(t, receive(t, failed, "the first"), bus.Canceled)
	if err := c.Conn().NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if len(cancels) > 0 {
		t.Error("one was cancelled while the other goes on")
	}
	stop[1]()
	wantCode(t, receive(t, failed, "the second"), bus.Canceled)
	if m := receive(t, cancels, "the message for both"); m.Header.Get(bus.HeaderRequestID) != "shared" {
		t.Errorf("headers %v", m.Header)
	}
}

func cancelled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}
