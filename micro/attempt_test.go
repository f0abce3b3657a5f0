package micro_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
)

// A service that starts while the call is tried answers it.
func TestCallWaitsForService(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	type outcome struct {
		reply micro.Reply
		err   error
	}
	answered := make(chan outcome, 1)
	start := time.Now()
	go func() {
		reply, err := c.Do(t.Context(), micro.Request{Service: "late", Endpoint: "hello", Body: []byte(`{}`)})
		answered <- outcome{reply, err}
	}()
	const delay = 300 * time.Millisecond
	<-time.After(delay)
	serve(t, connect(t, s), micro.Config{Name: "late"}, endpoint("hello", greet))
	got := bustest.Receive(t, "the call", answered)
	if took := time.Since(start); got.err != nil || took < delay {
		t.Errorf("%v after %v", got.err, took)
	}
	if got.reply.Attempts < 2 || string(got.reply.Body) != `{"text":"Hello "}` {
		t.Errorf("%s after %d attempts", got.reply.Body, got.reply.Attempts)
	}
}

func TestCallNobody(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	svc := serve(t, conn, micro.Config{Name: "greeter", Version: "1.0.0"}, endpoint("hello", greet))
	for _, c := range []struct {
		name     string
		patience time.Duration
		least    time.Duration
	}{
		{"patient", 300 * time.Millisecond, 300 * time.Millisecond},
		{"impatient", -1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := newClient(t, conn, micro.ClientConfig{Patience: c.patience})
			sees(t, client, "greeter", 1)
			for _, target := range []struct {
				target string
				opts   []micro.CallOption
				parts  []string
			}{
				{"nobody.hello", nil, []string{"nobody serves nobody.hello", "no instance of it is known"}},
				{"greeter.hello", []micro.CallOption{micro.ToInstance("gone")}, []string{"greeter.hello on instance gone"}},
				{"greeter.hello", []micro.CallOption{micro.ToVersion("2.0.0")}, []string{"greeter.hello in version 2.0.0", "1 known online"}},
			} {
				start := time.Now()
				_, err := micro.Call[greeting](t.Context(), client, target.target, hello{}, target.opts...)
				took := time.Since(start)
				wantCode(t, err, bus.Unavailable, target.parts...)
				if !errors.Is(err, bus.ErrNoResponders) {
					t.Errorf("%v is no ErrNoResponders", err)
				}
				if e := busError(t, err); e.Details["service"] == "" || e.Details["endpoint"] != "hello" {
					t.Errorf("details %v", e.Details)
				}
				if took < c.least || took > c.least+5*time.Second {
					t.Errorf("%s: gave up after %v, want %v", target.target, took, c.least)
				}
			}
		})
	}
	// The deadline of the call ends patience.
	client := newClient(t, conn, micro.ClientConfig{Patience: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := micro.Call[greeting](ctx, client, "nobody.hello", hello{})
	wantCode(t, err, bus.Unavailable, "nobody serves")
	roundTrip(t, client, "greeter.hello", hello{}, greeting{"Hello "})
	for _, opt := range []micro.CallOption{micro.ToInstance(svc.id), micro.ToVersion("1.0.0")} {
		if _, err := micro.Call[greeting](t.Context(), client, "greeter.hello", hello{}, opt); err != nil {
			t.Error(err)
		}
	}
}

// An endpoint that a running service does not have is known not to come.
func TestCallUnknownEndpoint(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	serve(t, conn, micro.Config{Name: "greeter"}, endpoint("hello", greet))
	c := newClient(t, conn, micro.ClientConfig{Patience: time.Minute})
	sees(t, c, "greeter", 1)
	start := time.Now()
	_, err := micro.Call[greeting](t.Context(), c, "greeter.helo", hello{})
	wantCode(t, err, bus.Unimplemented, `service "greeter" has no endpoint "helo"`)
	if e := busError(t, err); e.HTTPStatus() != 501 || e.Details["endpoint"] != "helo" {
		t.Errorf("status %d, details %v", e.HTTPStatus(), e.Details)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// shaky notes each attempt it sees; the first fails in one of two ways.
func shaky(attempts chan<- micro.RequestInfo) func(*micro.Service) error {
	failing := func(fail func(ctx context.Context) error) func(context.Context, hello) (greeting, error) {
		return func(ctx context.Context, _ hello) (greeting, error) {
			info := micro.Info(ctx)
			attempts <- info
			if info.Attempt == 1 {
				return greeting{}, fail(ctx)
			}
			return greeting{fmt.Sprint(info.Attempt)}, nil
		}
	}
	hangs := failing(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	tells := failing(func(context.Context) error { return bus.Errorf(bus.DeadlineExceeded, "no time") })
	return endpoints(
		endpoint("hangs", hangs),
		endpoint("hangsIdempotent", hangs, micro.Idempotent()),
		endpoint("tells", tells),
		endpoint("tellsIdempotent", tells, micro.Idempotent()),
	)
}

// A time-out is tried again only where that does no harm.
func TestCallTimeout(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	attempts := make(chan micro.RequestInfo, 100)
	serve(t, connect(t, s), micro.Config{Name: "shaky"}, shaky(attempts))
	const attemptTimeout = 100 * time.Millisecond
	c := newClient(t, connect(t, s), micro.ClientConfig{AttemptTimeout: attemptTimeout})
	sees(t, c, "shaky", 1)
	for _, tt := range []struct {
		name, target string
		want         int
		opts         []micro.CallOption
	}{
		{"not allowed", "shaky.hangs", 1, nil},
		{"allowed by the call", "shaky.hangs", 2, []micro.CallOption{micro.Idempotent()}},
		{"allowed by the endpoint", "shaky.hangsIdempotent", 2, nil},
		{"allowed by both", "shaky.hangsIdempotent", 2, []micro.CallOption{micro.Idempotent()}},
		{"told, not allowed", "shaky.tells", 1, nil},
		{"told, allowed", "shaky.tellsIdempotent", 2, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			timeout := patience
			if tt.want == 1 {
				timeout = 5 * attemptTimeout // the call's own: attempts have no other
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			got, err := micro.Call[greeting](ctx, c, tt.target, hello{}, tt.opts...)
			if tt.want == 1 {
				wantCode(t, err, bus.DeadlineExceeded)
			} else if err != nil || got.Text != "2" {
				t.Errorf("answer %q, %v", got.Text, err)
			}
			wantAttempts(t, attempts, tt.want)
		})
	}
}

// wantAttempts checks that a handler saw n attempts of one request, and no more.
func wantAttempts(t *testing.T, attempts <-chan micro.RequestInfo, n int) {
	t.Helper()
	ids := map[string]bool{}
	for i := range n {
		info := bustest.Receive(t, "an attempt", attempts)
		ids[info.RequestID] = true
		if info.Attempt != i+1 {
			t.Errorf("attempt %d, want %d", info.Attempt, i+1)
		}
	}
	if len(ids) != 1 || ids[""] {
		t.Errorf("request ids %v, want one", ids)
	}
	if len(attempts) > 0 {
		t.Errorf("the handler ran %d times too often", len(attempts))
	}
}

// Work that was tried before goes on counting.
func TestCallAttempt(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serve(t, connect(t, s), micro.Config{Name: "x"}, endpoint("y", func(ctx context.Context, _ []byte) (int, error) {
		return micro.Info(ctx).Attempt, nil
	}))
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	for attempt, want := range map[int]string{-1: "1", 0: "1", 1: "1", 7: "7"} {
		reply, err := c.Do(t.Context(), micro.Request{Service: "x", Endpoint: "y", Attempt: attempt})
		if err != nil || string(reply.Body) != want || fmt.Sprint(reply.Attempts) != want {
			t.Errorf("attempt %d: %s, %d attempts, %v; want %s", attempt, reply.Body, reply.Attempts, err, want)
		}
	}
}

// Patience has more attempts than the envelope has numbers.
func TestCallManyAttempts(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	answered := make(chan error, 1)
	go func() {
		reply, err := c.Do(t.Context(), micro.Request{Service: "late", Endpoint: "hello", Body: []byte(`{}`), Attempt: 1000})
		if err == nil && reply.Attempts <= 1000 {
			err = fmt.Errorf("%d attempts", reply.Attempts)
		}
		answered <- err
	}()
	<-time.After(100 * time.Millisecond)
	serve(t, connect(t, s), micro.Config{Name: "late"}, endpoint("hello", greet))
	if err := bustest.Receive(t, "the call", answered); err != nil {
		t.Error(err)
	}
}

// Who answered is known of errors too.
func TestReplyFrom(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	svc := serve(t, connect(t, s), micro.Config{Name: "x"}, endpoint("fail", func(context.Context, []byte) (int, error) {
		return 0, errors.New("no")
	}))
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	reply, err := c.Do(t.Context(), micro.Request{Service: "x", Endpoint: "fail"})
	wantCode(t, err, bus.Unknown, "no")
	if reply.From != svc.Address().String() || reply.Attempts != 1 {
		t.Errorf("%+v", reply)
	}
}

// A service that speaks only ADR-32 is called by its own subject; its errors have our codes.
func TestForeignErrors(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	nc := s.Connect(t)
	if _, err := nc.QueueSubscribe("default.dev.svc.theirs.find", "q", func(m *nats.Msg) {
		_ = m.RespondMsg(&nats.Msg{Header: nats.Header{"Nats-Service-Error": {"not here"}, "Nats-Service-Error-Code": {"404"}}})
	}); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	_, err := micro.Call[greeting](t.Context(), c, "theirs.find", hello{})
	wantCode(t, err, bus.NotFound, "not here")
}

// A call waits for a connection that is lost until its own deadline, however short its attempts are.
func TestCallWaitsForConnection(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	serve(t, connect(t, s), micro.Config{Name: "greeter"}, endpoint("hello", greet, micro.Idempotent()))
	c := newClient(t, conn, micro.ClientConfig{AttemptTimeout: 50 * time.Millisecond})
	sees(t, c, "greeter", 1)
	s.Stop()
	bustest.Eventually(t, "the connection to notice", func() bool { return !conn.NATS().IsConnected() })
	var wg sync.WaitGroup
	for _, opts := range [][]micro.CallOption{nil, {micro.Idempotent()}} {
		wg.Go(func() {
			if _, err := micro.Call[greeting](t.Context(), c, "greeter.hello", hello{}, opts...); err != nil {
				t.Error(err)
			}
		})
	}
	<-time.After(300 * time.Millisecond)
	s.Start(t)
	wg.Wait()

	s.Stop()
	bustest.Eventually(t, "the connection to notice", func() bool { return !conn.NATS().IsConnected() })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := micro.Call[greeting](ctx, c, "greeter.hello", hello{})
	wantCode(t, err, bus.Unavailable, "not connected")
	s.Start(t) // for the service to end well
}

// Calls go to one version or one instance if they say so, also while the registry picks the instances.
func TestCallTo(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	for version, ids := range map[string][]string{"1.0.0": {"a", "b"}, "2.0.0-rc.1+x": {"c"}} {
		for _, id := range ids {
			serve(t, conn, micro.Config{Name: "who", Version: version, Instance: id}, answerer)
		}
	}
	c := newClient(t, conn, micro.ClientConfig{})
	sees(t, c, "who", 3)
	check := func() {
		t.Helper()
		for _, to := range []struct {
			opts []micro.CallOption
			want []string
		}{
			{nil, []string{"a", "b", "c"}},
			{[]micro.CallOption{micro.ToVersion("1.0.0")}, []string{"a", "b"}},
			{[]micro.CallOption{micro.ToVersion("2.0.0-rc.1+x")}, []string{"c"}},
			{[]micro.CallOption{micro.ToInstance("b")}, []string{"b"}},
		} {
			by := map[string]int{}
			for range 60 {
				got, err := micro.Call[greeting](t.Context(), c, "who.are", hello{}, to.opts...)
				if err != nil {
					t.Fatal(err)
				}
				by[got.Text]++
			}
			if got := slices.Sorted(maps.Keys(by)); !slices.Equal(got, to.want) {
				t.Errorf("answers %v, want some of each of %v", by, to.want)
			}
		}
	}
	check()
	put(t, s.Connect(t), registry.InstancesBucket, "default.dev.who.dead", `{"version":"1.0.0","registered":true,"endpoints":[{"name":"are"}]}`)
	bustest.Eventually(t, "the dead instance", func() bool { return c.Registry().Service("who").Offline() })
	check()

	// A broadcast is answered by all.
	nc := s.Connect(t)
	inbox := nc.NewInbox()
	answers, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest("default.dev.all.who.are", inbox, []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	by := map[string]bool{}
	for range 3 {
		m, err := answers.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		by[string(m.Data)] = true
	}
	if len(by) != 3 {
		t.Errorf("answers %v", by)
	}
}
