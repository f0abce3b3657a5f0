package micro_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/balance"
)

type told struct {
	instance, name string
	info           micro.RequestInfo
}

// serveTold runs an instance whose endpoint "tell" takes one-way messages.
func serveTold(t testing.TB, s *bustest.Node, cfg micro.Config, heard chan<- told) {
	t.Helper()
	serve(t, connect(t, s), cfg, endpoint("tell", func(ctx context.Context, req hello) (string, error) {
		heard <- told{cfg.Instance, req.Name, micro.Info(ctx)}
		return "", nil
	}, micro.OneWay()))
}

func TestNotify(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	heard := make(chan told, 100)
	serveTold(t, s, micro.Config{Name: "log", Instance: "a", Version: "1.0.0", Region: "eu"}, heard)
	serveTold(t, s, micro.Config{Name: "log", Instance: "b", Version: "2.0.0", Region: "us"}, heard)
	c := newClient(t, connect(t, s), micro.ClientConfig{Name: "teller"})
	sees(t, c, "log", 2)
	for _, tt := range []struct {
		name string
		opts []micro.CallOption
		to   string
	}{
		{"anyone", nil, ""},
		{"instance", []micro.CallOption{micro.ToInstance("b")}, "b"},
		{"version", []micro.CallOption{micro.ToVersion("1.0.0")}, "a"},
		{"region", []micro.CallOption{micro.ToRegion("us")}, "b"},
		{"instance in region", []micro.CallOption{micro.ToRegion("us"), micro.ToInstance("b")}, "b"},
		{"policy", []micro.CallOption{micro.WithPolicy(only("b"))}, "b"},
	} {
		if err := micro.Notify(t.Context(), c, "log.tell", hello{Name: tt.name}, tt.opts...); err != nil {
			t.Fatal(err)
		}
		got := bustest.Receive(t, "the message", heard)
		if got.name != tt.name || tt.to != "" && got.instance != tt.to || got.info.RequestID == "" || got.info.Caller != c.Address() {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
	if err := c.Service("log", micro.ToInstance("a")).Notify(t.Context(), "tell", hello{Name: "handle"}); err != nil {
		t.Fatal(err)
	}
	if got := bustest.Receive(t, "the message", heard); got.instance != "a" || got.name != "handle" {
		t.Errorf("%+v", got)
	}
	if err := micro.NotifyAll(t.Context(), c, "log.tell", hello{Name: "all"}); err != nil {
		t.Fatal(err)
	}
	if x, y := bustest.Receive(t, "the message", heard), bustest.Receive(t, "the other", heard); x.instance == y.instance || x.name != "all" {
		t.Errorf("%+v, %+v", x, y)
	}
	// By turns, with a policy.
	byTurns := newClient(t, c.Conn(), micro.ClientConfig{Registry: c.Registry(), Policy: balance.RoundRobin()})
	by := map[string]int{}
	for range 10 {
		if err := micro.Notify(t.Context(), byTurns, "log.tell", hello{}); err != nil {
			t.Fatal(err)
		}
		by[bustest.Receive(t, "the message", heard).instance]++
	}
	if by["a"] != 5 || by["b"] != 5 {
		t.Errorf("by turns: %v", by)
	}
	if len(heard) > 0 {
		t.Errorf("%d messages too many", len(heard))
	}
}

func TestNotifyRefuses(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.MaxPayload(4<<10))
	conn := connect(t, s)
	c := newClient(t, conn, micro.ClientConfig{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for what, tt := range map[string]struct {
		err   error
		code  bus.Code
		parts []string
	}{
		"target":    {micro.Notify(t.Context(), c, "log", nil), bus.InvalidArgument, []string{"service.endpoint"}},
		"encoding":  {micro.Notify(t.Context(), c, "log.tell", make(chan int)), bus.InvalidArgument, []string{"chan int"}},
		"too large": {micro.Notify(t.Context(), c, "log.tell", make([]byte, 5<<10)), bus.ResourceExhausted, nil},
		"header":    {micro.Notify(t.Context(), c, "log.tell", nil, micro.WithHeader("Skybus-From", "me")), bus.InvalidArgument, []string{"reserved"}},
		"ended":     {micro.Notify(ended, c, "log.tell", nil), bus.Canceled, nil},
		"all of":    {micro.NotifyAll(t.Context(), c, "log.tell", nil, micro.ToVersion("1.0.0")), bus.InvalidArgument, []string{"version"}},
		"version":   {micro.Notify(t.Context(), c, "log.tell", nil, micro.ToVersion("1.0.0")), bus.Unavailable, []string{"version 1.0.0"}},
	} {
		if bus.CodeOf(tt.err) != tt.code {
			t.Errorf("%s: %v, want %s", what, tt.err, tt.code)
			continue
		}
		wantCode(t, tt.err, tt.code, tt.parts...)
	}
	// Nobody there is nobody's error.
	if err := micro.Notify(t.Context(), c, "log.tell", nil); err != nil {
		t.Error(err)
	}
}

// The message has the envelope that makes it one-way, and no reply.
func TestNotifyEnvelope(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	got := make(chan *nats.Msg, 1)
	nc := s.Connect(t)
	if _, err := nc.Subscribe("default.dev.one.log.tell", func(m *nats.Msg) { got <- m }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	if err := micro.Notify(t.Context(), c, "log.tell", []byte("x"), micro.WithHeader("Color", "red"), micro.WithHeader("Color", "blue")); err != nil {
		t.Fatal(err)
	}
	m := bustest.Receive(t, "the message", got)
	if m.Reply != "" || c.Conn().CheckOneWay(m) != "" || string(m.Data) != "x" || len(m.Header["Color"]) != 2 || m.Header.Get(bus.HeaderTimeout) != "" {
		t.Errorf("reply %q, headers %v", m.Reply, m.Header)
	}
}

// collect ranges over the answers of all.
func collect[Resp any](t testing.TB, ctx context.Context, c *micro.Client, target string, opts ...micro.CallOption) (answers []micro.Gathered[Resp], errs []error) { //nolint:revive // t comes first in tests
	t.Helper()
	for g, err := range micro.CallAll[Resp](ctx, c, target, hello{}, opts...) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		answers = append(answers, g)
	}
	return answers, errs
}

// serveAll runs instances of which one is bad.
func serveAll(t testing.TB, s *bustest.Node) {
	t.Helper()
	for _, id := range []string{"a", "b", "c", "bad"} {
		serve(t, connect(t, s), micro.Config{Name: "who", Instance: id, Drain: time.Millisecond}, endpoints(
			endpoint("are", func(context.Context, hello) (string, error) {
				if id == "bad" {
					return "", bus.Errorf(bus.NotFound, "not me")
				}
				return id, nil
			}),
			endpoint("some", func(ctx context.Context, _ hello) (string, error) {
				if id == "bad" {
					<-ctx.Done()
				}
				return id, ctx.Err()
			}),
			endpoint("none", func(ctx context.Context, _ hello) (string, error) {
				<-ctx.Done()
				return "", ctx.Err()
			}),
		))
	}
}

func TestCallAll(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serveAll(t, s)
	c := newClient(t, connect(t, s), micro.ClientConfig{Timeout: 2 * time.Minute})
	sees(t, c, "who", 4)

	// It ends when all have answered, long before the quiet time is over. What one fails with is beside the others.
	start := time.Now()
	answers, errs := collect[string](t, t.Context(), c, "who.are", micro.Quiet(time.Minute))
	by := map[string]bool{}
	for _, g := range answers {
		if g.From != "skybus://default.dev.who/"+g.Resp {
			t.Errorf("%q came from %q", g.Resp, g.From)
		}
		by[g.Resp] = true
	}
	if len(by) != 3 || len(answers) != 3 || len(errs) != 1 || time.Since(start) > patience {
		t.Errorf("answers %v, errors %v after %v", answers, errs, time.Since(start))
	}
	wantCode(t, errors.Join(errs...), bus.NotFound, "not me")

	// One does not answer: the quiet time ends it.
	start = time.Now()
	answers, errs = collect[string](t, t.Context(), c, "who.some")
	if len(answers) != 3 || len(errs) != 0 || time.Since(start) < micro.DefaultQuiet || time.Since(start) > patience {
		t.Errorf("answers %v, errors %v after %v", answers, errs, time.Since(start))
	}

	answers, errs = collect[string](t, t.Context(), c, "who.some", micro.AtMost(2), micro.Quiet(time.Minute))
	if len(answers) != 2 || len(errs) != 0 {
		t.Errorf("at most 2: %v, %v", answers, errs)
	}
	for _, err := range micro.CallAll[string](t.Context(), c, "who.some", hello{}) {
		if err != nil {
			t.Error(err)
		}
		break // leaves nothing behind: see the check for leaks
	}

	// The deadline ends it: with what there was, or with what was missing.
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	answers, errs = collect[string](t, ctx, c, "who.some", micro.Quiet(time.Minute))
	if len(answers) != 3 || len(errs) > 1 {
		t.Errorf("until the deadline: %v, %v", answers, errs)
	}
	_, errs = collect[string](t, ctx, c, "who.none")
	wantCode(t, errors.Join(errs...), bus.DeadlineExceeded)
}

func TestCallAllFails(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serveAll(t, s)
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	sees(t, c, "who", 4)
	for _, tt := range []struct {
		target string
		opts   []micro.CallOption
		code   bus.Code
	}{
		{"nobody.there", nil, bus.Unavailable},
		{"who.knows", nil, bus.Unimplemented},
		{"who", nil, bus.InvalidArgument},
		{"who.are", []micro.CallOption{micro.ToVersion("1.0.0")}, bus.InvalidArgument},
		{"who.are", []micro.CallOption{micro.ToRegion("eu")}, bus.InvalidArgument},
		{"who.are", []micro.CallOption{micro.Quiet(-1)}, bus.InvalidArgument},
		{"who.are", []micro.CallOption{micro.AtMost(-1)}, bus.InvalidArgument},
	} {
		answers, errs := collect[string](t, t.Context(), c, tt.target, tt.opts...)
		if len(answers) != 0 || len(errs) != 1 || bus.CodeOf(errs[0]) != tt.code {
			t.Errorf("%s: %v, %v; want %s", tt.target, answers, errs, tt.code)
		}
	}
	_, errs := collect[int](t, t.Context(), c, "who.are")
	if len(errs) != 4 {
		t.Errorf("answers that do not decode: %v", errs)
	}
}

// A second answer of an instance is none.
func TestCallAllTwice(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	nc := s.Connect(t)
	if _, err := nc.Subscribe("default.dev.all.many.x", func(m *nats.Msg) {
		for _, from := range []string{"a", "a", "", "a", "", "b"} {
			reply := &nats.Msg{Data: []byte(`1`), Header: nats.Header{}}
			if from != "" {
				reply.Header[bus.HeaderFrom] = []string{"skybus://default.dev.many/" + from}
			}
			_ = m.RespondMsg(reply) // who waits in vain fails the test
		}
	}); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	by := map[string]int{}
	for g, err := range micro.CallAll[int](t.Context(), c, "many.x", nil) {
		if err != nil {
			t.Error(err)
		}
		by[g.From]++
	}
	if by["skybus://default.dev.many/a"] != 1 || by["skybus://default.dev.many/b"] != 1 || by[""] != 2 {
		t.Errorf("answers %v", by)
	}
}

// A caller who does not read is told that it lost some.
func TestCallAllFlood(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	nc := s.Connect(t)
	if _, err := nc.Subscribe("default.dev.all.many.x", func(m *nats.Msg) {
		for range 10_000 {
			if m.RespondMsg(&nats.Msg{Data: []byte(`1`)}) != nil {
				return // the test is over
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	n, lost := 0, error(nil)
	for _, err := range micro.CallAll[int](t.Context(), c, "many.x", nil) {
		if lost = err; n == 0 {
			bustest.Eventually(t, "the answers to be there", func() bool { return c.Conn().AsyncErrors() > 0 })
		}
		n++
	}
	wantCode(t, lost, bus.ResourceExhausted, "many.x")
}
