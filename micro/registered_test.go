package micro_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
)

// state is that of an instance of the service "greeter".
func state(c *micro.Client, id string) registry.State {
	if i := c.Registry().Service("greeter").Instance(id); i != nil {
		return i.State
	}
	return ""
}

// listens tells whether anybody does, whatever it makes of what it hears.
func listens(nc *nats.Conn, subject string) bool {
	_, err := nc.Request("default.dev."+subject, []byte(`{}`), 100*time.Millisecond)
	return !errors.Is(err, nats.ErrNoResponders)
}

func TestSetRegistered(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var j journal
	svc := serve(t, connect(t, s), micro.Config{Name: "greeter", Hooks: j.hooks()}, endpoint("hello", greet, micro.OneWay()))
	nc := s.Connect(t)
	c := newClient(t, connect(t, s), micro.ClientConfig{Patience: -1})
	sees(t, c, "greeter", 1)
	queued := []string{"svc.greeter.hello", "ver.greeter.0_0_0.hello", "one.greeter.hello"}
	named := []string{"inst.greeter." + svc.id + ".hello", "all.greeter.hello", "ctl.greeter." + svc.id + ".ping"}
	listens := func(subject string) bool { return listens(nc, subject) }
	set := func(registered bool) {
		for range 2 { // twice is once
			if err := svc.SetRegistered(t.Context(), registered); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		set(false)
		for _, subject := range queued {
			if listens(subject) {
				t.Errorf("unregistered, and it listens on %s", subject)
			}
		}
		for _, subject := range named {
			if !listens(subject) {
				t.Errorf("unregistered, and nobody listens on %s", subject)
			}
		}
		bustest.Eventually(t, "the state", func() bool { return state(c, svc.id) == registry.Unregistered })
		if _, err := micro.Call[greeting](t.Context(), c, "greeter.hello", hello{}); bus.CodeOf(err) != bus.Unavailable {
			t.Errorf("error %v", err)
		}
		if err := micro.Handle(svc.Service, "late", greet); err != nil {
			t.Fatal(err)
		}
		if listens("svc.greeter.late") || !listens("inst.greeter."+svc.id+".late") {
			t.Error("an endpoint added while unregistered is not")
		}
		set(true)
		for _, subject := range append(queued, named...) {
			if !listens(subject) {
				t.Errorf("registered, and nobody listens on %s", subject)
			}
		}
		if !listens("svc.greeter.late") {
			t.Error("the endpoint added meanwhile is not registered")
		}
		bustest.Eventually(t, "the state", func() bool { return state(c, svc.id) == registry.Online })
		if err := svc.Remove("late"); err != nil {
			t.Fatal(err)
		}
	}
	if err := svc.stop(); err != nil {
		t.Error(err)
	}
	want := []string{"started", "registered", "unregistered", "registered", "unregistered", "registered", "unregistered", "stopped"}
	if got := j.all(); !slices.Equal(got, want) {
		t.Errorf("hooks %v, want %v", got, want)
	}
}

func TestStartUnregistered(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var j journal
	svc, err := micro.NewService(connect(t, s), micro.Config{Name: "greeter", Instance: "a", Unregistered: true, Hooks: j.hooks()})
	if err != nil {
		t.Fatal(err)
	}
	if err := micro.Handle(svc, "hello", greet); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	bustest.Eventually(t, "the record", func() bool { return state(c, "a") == registry.Unregistered })
	_, err = s.Connect(t).Request(helloSubject, []byte(`{}`), patience)
	if !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("error %v, want no responders", err)
	}
	if _, err := micro.Call[greeting](t.Context(), c, "greeter.hello", hello{}, micro.ToInstance("a")); err != nil {
		t.Error(err)
	}
	cancel()
	if err := bustest.Receive(t, "the end of Run", done); err != nil {
		t.Error(err)
	}
	if want, got := []string{"started", "stopped"}, j.all(); !slices.Equal(got, want) {
		t.Errorf("hooks %v, want %v", got, want)
	}
}

// What is set before Run is how it begins, and a hook may set it too.
func TestSetRegisteredEarly(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var j journal
	hooks := j.hooks()
	var svc *micro.Service
	hooks.Started = func() {
		j.add("started")()
		if err := svc.SetRegistered(t.Context(), true); err != nil {
			t.Error(err)
		}
	}
	registered := make(chan struct{})
	hooks.Registered = func() {
		j.add("registered")()
		if err := svc.SetRegistered(t.Context(), false); err != nil {
			t.Error(err)
		}
		close(registered)
	}
	svc, err := micro.NewService(connect(t, s), micro.Config{Name: "greeter", Hooks: hooks})
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.SetRegistered(t.Context(), false); err != nil || svc.Registered() {
		t.Errorf("registered %v: %v", svc.Registered(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	bustest.Receive(t, "the hook", registered)
	cancel()
	if err := bustest.Receive(t, "the end of Run", done); err != nil {
		t.Error(err)
	}
	if want, got := []string{"started", "registered", "unregistered", "stopped"}, j.all(); !slices.Equal(got, want) {
		t.Errorf("hooks %v, want %v", got, want)
	}
}

// Two instances that take turns at being registered lose no request of many callers.
func TestSetRegisteredUnderLoad(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	a := serve(t, connect(t, s), micro.Config{Name: "greeter"}, endpoint("hello", greet))
	b := serve(t, connect(t, s), micro.Config{Name: "greeter"}, endpoint("hello", greet))
	nc := s.Connect(t)
	stop := make(chan struct{})
	var lost, done atomic.Int64
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				reply, err := nc.Request(helloSubject, []byte(`{}`), patience)
				switch {
				case errors.Is(err, nats.ErrNoResponders): // reached nobody: a server that is held up may still look at what was
				case err != nil || reply.Header.Get("Nats-Service-Error") != "":
					t.Errorf("%v %+v", err, reply)
					lost.Add(1)
				default:
					done.Add(1)
				}
			}
		})
	}
	for range 20 {
		for _, svc := range []*instance{a, b} {
			for _, registered := range []bool{false, true} {
				if err := svc.SetRegistered(t.Context(), registered); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	close(stop)
	callers.Wait()
	if lost.Load() > 0 || done.Load() == 0 {
		t.Errorf("%d of %d requests were lost", lost.Load(), done.Load())
	}
}

// Without JetStream the instance does as it was told, says that its record does not, and its record follows.
func TestSetRegisteredWithoutJetStream(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	svc := serve(t, connect(t, s), micro.Config{Name: "greeter", Heartbeat: 200 * time.Millisecond, TTL: time.Second}, endpoint("hello", greet))
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	sees(t, c, "greeter", 1)
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	wantCode(t, svc.SetRegistered(ctx, false), bus.Unavailable, "its record does not say yet")
	s.Start(t)
	bustest.Eventually(t, "the state", func() bool { return state(c, svc.id) == registry.Unregistered })
	nc := s.Connect(t)
	if _, err := nc.Request(helloSubject, []byte(`{}`), patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("error %v, want no responders", err)
	}
	request(t, nc, "default.dev.inst.greeter."+svc.id+".hello", nil, `{}`)
}

// An id that another instance has is refused before anything is subscribed: nobody's request goes astray.
func TestInstanceHeld(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	first := serve(t, connect(t, s), micro.Config{Name: "greeter", Instance: "a"}, endpoint("hello", greet))
	var j journal
	second, err := micro.NewService(connect(t, s), micro.Config{Name: "greeter", Instance: "a", Hooks: j.hooks()})
	if err != nil {
		t.Fatal(err)
	}
	err = micro.Handle(second, "hello", func(context.Context, hello) (greeting, error) {
		t.Error("a request came to the second")
		return greeting{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	nc := s.Connect(t)
	stopLoad := load(t, nc, helloSubject)
	wantCode(t, second.Run(t.Context()), bus.AlreadyExists, `"a"`, `"greeter"`)
	stopLoad()
	if got := j.all(); len(got) > 0 {
		t.Errorf("hooks %v", got)
	}
	wantCode(t, micro.Handle(second, "late", greet), bus.FailedPrecondition, "has stopped")
	request(t, nc, helloSubject, nil, `{}`)
	if err := first.stop(); err != nil {
		t.Error(err)
	}
	serve(t, connect(t, s), micro.Config{Name: "greeter", Instance: "a"}, endpoint("hello", greet)) // free at once
	request(t, nc, helloSubject, nil, `{}`)
}

// An instance whose id another takes while it seems dead stops, and leaves the record that is the other's now.
func TestInstanceTaken(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	svc := serve(t, connect(t, s), micro.Config{Name: "greeter", Instance: "a", Heartbeat: 100 * time.Millisecond, TTL: time.Second}, endpoint("hello", greet))
	conn := connect(t, s)
	other, err := registry.NewAnnouncer(conn, registry.Record{Service: "greeter", Instance: "a", Version: "1.0.0", Registered: true}, registry.AnnounceConfig{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- other.Run(ctx) }()
	bustest.Receive(t, "the end of Run", svc.done)
	wantCode(t, svc.err, bus.AlreadyExists, `"a"`)
	c := newClient(t, conn, micro.ClientConfig{})
	bustest.Eventually(t, "the other's record", func() bool {
		i := c.Registry().Service("greeter").Instance("a")
		return i != nil && i.Version == "1.0.0"
	})
	cancel()
	if err := bustest.Receive(t, "the end of the other", done); err != nil {
		t.Error(err)
	}
}

// Where nothing can be subscribed Run says so at once, and nothing of the instance is left.
func TestRunClosed(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	var j journal
	svc, err := micro.NewService(conn, micro.Config{Name: "greeter", Hooks: j.hooks()})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := svc.Run(t.Context()); err == nil || time.Since(start) > patience {
		t.Errorf("error %v after %v", err, time.Since(start))
	}
	if got := j.all(); len(got) > 0 {
		t.Errorf("hooks %v", got)
	}
}
