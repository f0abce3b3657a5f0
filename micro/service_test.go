package micro_test

import (
	"context"
	"errors"
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

func TestNewServiceRefuses(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	for what, name := range badNames() {
		_, err := micro.NewService(conn, micro.Config{Name: name})
		wantCode(t, err, bus.InvalidArgument, "service name")
		if what != "empty" {
			_, err = micro.NewService(conn, micro.Config{Name: "x", Instance: name})
			wantCode(t, err, bus.InvalidArgument, "instance")
			_, err = micro.NewService(conn, micro.Config{Name: "x", Version: name})
			wantCode(t, err, bus.InvalidArgument, "version")
		}
	}
	for _, cfg := range []micro.Config{
		{Concurrency: -1},
		{Timeout: -1},
		{Drain: -1},
		{TTL: 500 * time.Millisecond, Heartbeat: 100 * time.Millisecond},
		{Heartbeat: 6 * time.Second},
		{Heartbeat: -1},
		{TTL: -1},
	} {
		cfg.Name = "x"
		_, err := micro.NewService(conn, cfg)
		wantCode(t, err, bus.InvalidArgument)
	}
}

// journal notes what happens in which order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) func() {
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.lines = append(j.lines, line)
	}
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

func (j *journal) hooks() micro.Hooks {
	return micro.Hooks{
		Started: j.add("started"), Registered: j.add("registered"), Unregistered: j.add("unregistered"), Stopped: j.add("stopped"),
	}
}

func TestRunHooks(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var j journal
	hooks := j.hooks()
	nc := s.Connect(t)
	answers := func() bool {
		_, err := nc.Request(helloSubject, []byte(`{}`), time.Second)
		return err == nil
	}
	hooks.Started = func() {
		if !answers() {
			t.Error("started, and nobody answers")
		}
		j.add("started")()
	}
	hooks.Unregistered = func() {
		if answers() {
			t.Error("unregistered, and it still takes new requests")
		}
		j.add("unregistered")()
	}
	conn := connect(t, s)
	svc := serve(t, conn, micro.Config{Name: "greeter", Hooks: hooks}, endpoint("hello", greet))
	c := newClient(t, conn, micro.ClientConfig{})
	sees(t, c, "greeter", 1)
	if err := svc.stop(); err != nil {
		t.Error(err)
	}
	if want, got := []string{"started", "registered", "unregistered", "stopped"}, j.all(); !slices.Equal(got, want) {
		t.Errorf("hooks %v, want %v", got, want)
	}
	sees(t, c, "greeter", 0)
	bustest.Eventually(t, "the record to go", func() bool { return c.Registry().Service("greeter") == nil })
	if !conn.NATS().IsConnected() {
		t.Error("Run closed the connection")
	}
	// Nothing is left on the server: neither discovery nor control is answered.
	for _, subject := range []string{helloSubject, "$SRV.PING", "default.dev.ctl.greeter." + svc.id + ".ping", "default.dev.inst.greeter." + svc.id + ".hello"} {
		if _, err := nc.Request(subject, nil, patience); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("%s: error %v, want no responders", subject, err)
		}
	}
}

func TestRunTwice(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	svc := serve(t, connect(t, s), micro.Config{Name: "greeter"}, endpoint("hello", greet))
	wantCode(t, svc.Run(t.Context()), bus.FailedPrecondition, `"greeter"`, "before")
	if err := svc.stop(); err != nil {
		t.Error(err)
	}
	wantCode(t, micro.Handle(svc.Service, "late", greet), bus.FailedPrecondition, "has stopped")
	wantCode(t, svc.Register(&widgets{}, micro.Except("Close")), bus.FailedPrecondition, "has stopped")
	wantCode(t, svc.Remove("hello"), bus.FailedPrecondition, "has stopped")
	wantCode(t, svc.SetRegistered(t.Context(), false), bus.FailedPrecondition, "has stopped")
	wantCode(t, svc.Run(t.Context()), bus.FailedPrecondition, "before")
}

// A ctx that ended before Run is a service that stops as soon as it started.
func TestRunEnded(t *testing.T) {
	t.Parallel()
	var j journal
	svc, err := micro.NewService(connect(t, bustest.Server(t)), micro.Config{Name: "greeter", Hooks: j.hooks()})
	if err != nil {
		t.Fatal(err)
	}
	if err := micro.Handle(svc, "hello", greet); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start := time.Now()
	if err := svc.Run(ctx); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > micro.DefaultDrain/2 {
		t.Errorf("it took %v", took)
	}
	if got := j.all(); got[0] != "started" || got[len(got)-1] != "stopped" {
		t.Errorf("hooks %v", got)
	}
}

// What a stopping service was given it finishes, and its caller gets the answer; what comes later goes elsewhere.
func TestRunFinishes(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	entered, release := make(chan struct{}), make(chan struct{})
	unregistered := make(chan struct{})
	svc := serve(t, connect(t, s), micro.Config{
		Name: "slow", Hooks: micro.Hooks{Unregistered: func() { close(unregistered) }},
	}, endpoint("wait", func(ctx context.Context, _ hello) (greeting, error) {
		close(entered)
		bustest.Hold(t, release)
		return greeting{"done"}, ctx.Err()
	}))
	c := newClient(t, connect(t, s), micro.ClientConfig{Patience: -1})
	answered := make(chan error, 1)
	go func() {
		_, err := micro.Call[greeting](t.Context(), c, "slow.wait", hello{})
		answered <- err
	}()
	bustest.Receive(t, "the handler", entered)
	svc.cancel()
	bustest.Receive(t, "the end of new requests", unregistered)
	_, err := micro.Call[greeting](t.Context(), c, "slow.wait", hello{})
	wantCode(t, err, bus.Unavailable, "nobody serves slow.wait")
	select {
	case <-svc.done:
		t.Error("Run returned before the handler")
	default:
	}
	close(release)
	if err := bustest.Receive(t, "the answer", answered); err != nil {
		t.Error(err)
	}
	if err := svc.stop(); err != nil {
		t.Error(err)
	}
}

// A handler that takes longer than the service waits has its ctx ended, and its caller is told.
func TestRunWaitsNoLonger(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	entered := make(chan struct{}, 2)
	const drain = 200 * time.Millisecond
	stuck := make(chan struct{})
	svc := serve(t, connect(t, s), micro.Config{Name: "slow", Drain: drain}, endpoints(
		endpoint("heed", func(ctx context.Context, _ hello) (greeting, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return greeting{}, ctx.Err()
		}),
		endpoint("ignore", func(context.Context, hello) (greeting, error) {
			entered <- struct{}{}
			<-stuck
			return greeting{}, nil
		}),
	))
	defer close(stuck)
	c := newClient(t, connect(t, s), micro.ClientConfig{Timeout: time.Minute})
	answered := make(chan error, 2)
	for _, ep := range []string{"heed", "ignore"} {
		go func() {
			_, err := micro.Call[greeting](t.Context(), c, "slow."+ep, hello{})
			answered <- err
		}()
		bustest.Receive(t, "the handler", entered)
	}
	start := time.Now()
	err := svc.stop()
	if took := time.Since(start); took < drain || took > drain+4*time.Second {
		t.Errorf("it took %v, want %v and a moment", took, drain)
	}
	for range 2 {
		wantCode(t, bustest.Receive(t, "the caller", answered), bus.Unavailable, "was stopped before it had finished")
	}
	wantCode(t, err, bus.DeadlineExceeded, "1 requests were not finished")
}

// A service that stops while its server is away does not wait for it, and leaves nothing behind that a server which comes
// back would send requests to.
func TestRunStopsDisconnected(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	var j journal
	svc := serve(t, conn, micro.Config{Name: "greeter", Drain: 5 * time.Second, Hooks: j.hooks()}, endpoint("hello", greet))
	s.Stop()
	bustest.Eventually(t, "the connection to notice", func() bool { return !conn.NATS().IsConnected() })
	start := time.Now()
	err := svc.stop()
	took := time.Since(start)
	t.Logf("stopped after %v: %v", took, err)
	if took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if err == nil {
		t.Error("no error, though the instance could not be withdrawn")
	}
	if got := j.all(); got[len(got)-1] != "stopped" {
		t.Errorf("hooks %v", got)
	}
	s.Start(t)
	if err := conn.WaitConnected(t.Context()); err != nil {
		t.Fatal(err)
	}
	nc := s.Connect(t)
	for _, subject := range []string{helloSubject, "$SRV.PING", "default.dev.inst.greeter." + svc.id + ".hello"} {
		if _, err := nc.Request(subject, nil, 2*time.Second); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("%s: error %v, want no responders", subject, err)
		}
	}
}

func TestRunConnectionClosed(t *testing.T) {
	t.Parallel()
	for _, how := range []struct {
		name  string
		close func(*bus.Conn)
	}{
		{"Close", func(c *bus.Conn) { _ = c.Close() }},
		{"NATS().Close", func(c *bus.Conn) { c.NATS().Close() }},
	} {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			s := bustest.Server(t)
			conn := connect(t, s)
			var j journal
			ended := make(chan error, 1)
			entered := make(chan struct{})
			svc := serve(t, conn, micro.Config{Name: "slow", Hooks: j.hooks()}, endpoints(
				endpoint("wait", func(ctx context.Context, _ hello) (greeting, error) {
					close(entered)
					<-ctx.Done()
					ended <- ctx.Err()
					return greeting{}, nil
				}),
				endpoint("hello", greet),
			))
			nc := s.Connect(t)
			if err := nc.PublishRequest("default.dev.svc.slow.wait", nc.NewInbox(), []byte(`{}`)); err != nil {
				t.Fatal(err)
			}
			bustest.Receive(t, "the handler", entered)
			stopLoad := load(t, nc, "default.dev.svc.slow.hello") // requests come in at the moment of the close
			start := time.Now()
			how.close(conn)
			bustest.Receive(t, "Run to return", svc.done)
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			stopLoad()
			wantCode(t, svc.err, bus.Unavailable, `"slow"`, "connection was closed")
			if err := bustest.Receive(t, "the handler's end", ended); !errors.Is(err, context.Canceled) {
				t.Errorf("the handler's ctx says %v", err)
			}
			if want, got := []string{"started", "registered", "unregistered", "stopped"}, j.all(); !slices.Equal(got, want) {
				t.Errorf("hooks %v, want %v", got, want)
			}
		})
	}
}

// load publishes requests as fast as they go until the returned function is called.
func load(t *testing.T, nc *nats.Conn, subject string) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	inbox := nc.NewInbox()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := nc.PublishRequest(subject, inbox, []byte(`{}`)); err != nil {
				return
			}
			if err := nc.Flush(); err != nil {
				return
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// The same service in another namespace is another service.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	in := func(ns string) func(*bus.Config) { return func(cfg *bus.Config) { cfg.Namespace = ns } }
	spaces := []string{"shop.prod", "shop.dev", "default.dev"}
	clients := map[string]*micro.Client{}
	for _, ns := range spaces {
		conn := connect(t, s, in(ns))
		clients[ns] = newClient(t, conn, micro.ClientConfig{Patience: -1})
		serve(t, conn, micro.Config{Name: "who", Instance: "same"}, endpoint("are", func(context.Context, hello) (greeting, error) {
			return greeting{ns}, nil
		}))
	}
	for ns, c := range clients {
		sees(t, c, "who", 1)
		if n := len(c.Registry().Services()); n != 1 {
			t.Errorf("%s: %d services are seen", ns, n)
		}
		for range 10 {
			roundTrip(t, c, "who.are", hello{}, greeting{ns})
		}
	}
	empty := newClient(t, connect(t, s, in("shop.test")), micro.ClientConfig{Patience: -1})
	_, err := micro.Call[greeting](t.Context(), empty, "who.are", hello{})
	wantCode(t, err, bus.Unavailable, "nobody serves who.are", "no instance of it is known")
}

// Figures of a service.
func TestStats(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	svc := serve(t, connect(t, s), micro.Config{Name: "greeter", Heartbeat: 100 * time.Millisecond, TTL: time.Second},
		endpoint("hello", func(ctx context.Context, req hello) (greeting, error) {
			if strings.Contains(req.Name, "x") {
				return greeting{}, errors.New("no x")
			}
			return greet(ctx, req)
		}, micro.Concurrency(3)))
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	sees(t, c, "greeter", 1)
	for _, name := range []string{"a", "x", "b"} {
		_, _ = micro.Call[greeting](t.Context(), c, "greeter.hello", hello{Name: name}) // counted below
	}
	st := svc.Stats().Endpoints[0]
	if st.Requests != 3 || st.Errors != 1 || st.Panics != 0 || st.Shed != 0 || st.Limit != 3 || st.InFlight != 0 || st.Time <= 0 || st.LastErr != "no x" {
		t.Errorf("%+v", st)
	}
	bustest.Eventually(t, "the load in the registry", func() bool { return c.Registry().Service("greeter").Online[0].Load().Latency > 0 })
	if l := c.Registry().Service("greeter").Online[0].Load(); l.Limit != 3 || l.Shed != 0 {
		t.Errorf("load %+v", l)
	}
}
