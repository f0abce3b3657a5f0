package micro_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/balance"
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
		bustest.Receive(t, "the request", requests)

		ctx, cancel = context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := micro.Call[hello](ctx, c, "slow.x", hello{}, opts...)
			failed <- err
		}()
		request := bustest.Receive(t, "the request", requests)
		cancel()
		wantCode(t, bustest.Receive(t, "the call", failed), bus.Canceled)
		m := bustest.Receive(t, "the message", cancels)
		if m.Header.Get(bus.HeaderRequestID) != request.Header.Get(bus.HeaderRequestID) || m.Header.Get(bus.HeaderCall) != request.Header.Get(bus.HeaderCall) || string(m.Data) != "x" {
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

// The handler's ctx ends when its caller gives up: also one of another server's connection, and through a handler between them.
func TestCancelEndsHandler(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	_, entered, ended := waiting(t, connect(t, s))
	c := newClient(t, connect(t, s), micro.ClientConfig{Timeout: time.Minute})
	middle := newClient(t, connect(t, s), micro.ClientConfig{Timeout: time.Minute})
	serve(t, middle.Conn(), micro.Config{Name: "middle"}, endpoint("pass", func(ctx context.Context, req hello) (greeting, error) {
		return micro.Call[greeting](ctx, middle, "slow.wait", req)
	}))
	sees(t, c, "slow", 1)
	for name, call := range map[string]func(context.Context) error{
		"call": func(ctx context.Context) error { return callErr[greeting](ctx, c, "slow.wait") },
		"hedged": func(ctx context.Context) error {
			return callErr[greeting](ctx, c, "slow.wait", micro.Hedge(time.Minute))
		},
		"policy": func(ctx context.Context) error {
			return callErr[greeting](ctx, c, "slow.wait", micro.WithPolicy(balance.Random()))
		},
		"through": func(ctx context.Context) error { return callErr[greeting](ctx, c, "middle.pass") },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() { failed <- call(ctx) }()
		bustest.Receive(t, "the handler", entered)
		cancel()
		wantCode(t, bustest.Receive(t, name, failed), bus.Canceled)
		if err := bustest.Receive(t, "the handler to be told: "+name, ended); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: the handler's ctx ended with %v", name, err)
		}
	}
}

func callErr[Resp any](ctx context.Context, c *micro.Client, target string, opts ...micro.CallOption) error {
	_, err := micro.Call[Resp](ctx, c, target, hello{}, opts...)
	return err
}

// The attempts that a quicker one made useless end too, and that one does not.
func TestCancelOfHedges(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	ended, entered := make(chan error, 10), make(chan struct{}, 10)
	var answered atomic.Int64
	for _, id := range []string{"a", "b"} {
		serve(t, connect(t, s), micro.Config{Name: "who", Instance: id}, endpoint("are", func(ctx context.Context, _ hello) (string, error) {
			if micro.Info(ctx).Attempt == 1 {
				entered <- struct{}{}
				<-ctx.Done()
				ended <- ctx.Err()
				return "", ctx.Err()
			}
			<-entered // else it may be told before it began
			answered.Add(1)
			return id, ctx.Err()
		}))
	}
	c := newClient(t, connect(t, s), micro.ClientConfig{Timeout: time.Minute})
	sees(t, c, "who", 2)
	for range 5 {
		if _, err := micro.Call[string](t.Context(), c, "who.are", hello{}, micro.Hedge(20*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if err := bustest.Receive(t, "the loser to end", ended); !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	}
	if n := answered.Load(); n != 5 {
		t.Errorf("%d answers", n)
	}
}

// Of the calls of one handler to one endpoint, which all have its request id, the one that is given up ends, and no other: not one either that is made
// after it.
func TestCancelSiblings(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	type handled struct {
		call  string
		ended <-chan struct{}
	}
	entered, release := make(chan handled, 10), make(chan struct{})
	serve(t, connect(t, s), micro.Config{Name: "slow"}, endpoint("wait", func(ctx context.Context, req hello) (greeting, error) {
		entered <- handled{req.Name, ctx.Done()}
		select {
		case <-ctx.Done():
		case <-release:
		}
		return greeting{}, ctx.Err()
	}))
	c := newClient(t, connect(t, s), micro.ClientConfig{Timeout: time.Minute})
	sees(t, c, "slow", 1)
	type call struct {
		stop   context.CancelFunc
		failed chan error
		at     handled
	}
	calls := map[string]*call{}
	begin := func(name string) {
		ctx, cancel := context.WithCancel(micro.WithRequestID(t.Context(), "shared"))
		made := &call{stop: cancel, failed: make(chan error, 1)}
		calls[name] = made
		go func() {
			_, err := micro.Call[greeting](ctx, c, "slow.wait", hello{Name: name})
			made.failed <- err
		}()
		made.at = bustest.Receive(t, "the handler of "+name, entered)
	}
	begin("first")
	begin("second")
	calls["first"].stop()
	begin("third")
	wantCode(t, bustest.Receive(t, "the first", calls["first"].failed), bus.Canceled)
	bustest.Receive(t, "the end of the first handler", calls["first"].at.ended)
	calls["second"].stop()
	wantCode(t, bustest.Receive(t, "the second", calls["second"].failed), bus.Canceled)
	bustest.Receive(t, "the end of the second handler", calls["second"].at.ended)
	close(release)
	if err := bustest.Receive(t, "the third", calls["third"].failed); err != nil {
		t.Errorf("the third ended too: %v", err)
	}
	calls["third"].stop()
}

func cancelled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// serveSlow runs three instances of which two wait for the end of their ctx, and tell of their beginning and end.
func serveSlow(t *testing.T, s *bustest.Node) (entered chan string, ended chan error) {
	t.Helper()
	entered, ended = make(chan string, 10), make(chan error, 10)
	for _, id := range []string{"quick", "slow1", "slow2"} {
		serve(t, connect(t, s), micro.Config{Name: "who", Instance: id, Drain: time.Millisecond}, endpoint("are", func(ctx context.Context, _ hello) (string, error) {
			if id == "quick" {
				return id, nil
			}
			entered <- id
			<-ctx.Done()
			ended <- ctx.Err()
			return "", ctx.Err()
		}))
	}
	return entered, ended
}

// Who leaves a broadcast, or gives it up, ends the handlers that have not answered.
func TestCancelOfBroadcasts(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	entered, ended := serveSlow(t, s)
	c := newClient(t, connect(t, s), micro.ClientConfig{Timeout: time.Minute})
	sees(t, c, "who", 3)
	all := func(ctx context.Context, code bus.Code, each func() (goOn bool), opts ...micro.CallOption) {
		t.Helper()
		for _, err := range micro.CallAll[string](ctx, c, "who.are", hello{}, opts...) {
			if err != nil {
				wantCode(t, err, code)
			}
			if !each() {
				break
			}
		}
	}
	bothEnter := func() {
		bustest.Receive(t, "a handler", entered)
		bustest.Receive(t, "the other", entered)
	}
	bothEnd := func(how string, with error) {
		t.Helper()
		for range 2 {
			if err := bustest.Receive(t, how+": the end of a handler", ended); !errors.Is(err, with) {
				t.Errorf("%s: its ctx says %v", how, err)
			}
		}
	}
	goOn := func() bool { return true }
	all(t.Context(), "", func() bool { bothEnter(); return false })
	bothEnd("left", context.Canceled)

	all(t.Context(), "", goOn, micro.Quiet(200*time.Millisecond))
	bothEnter()
	bothEnd("quiet", context.Canceled)

	ctx, cancel := context.WithCancel(t.Context())
	giveUp := sync.OnceFunc(func() { bothEnter(); cancel() }) // the last value is the error
	all(ctx, bus.Canceled, func() bool { giveUp(); return true }, micro.Quiet(time.Minute))
	bothEnd("given up", context.Canceled)

	// Its deadline they know.
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	all(ctx, bus.DeadlineExceeded, goOn, micro.Quiet(time.Minute))
	bothEnd("too late", context.DeadlineExceeded)
}
