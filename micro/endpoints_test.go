package micro_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

func hasEndpoint(c *micro.Client, service, name string) bool {
	_, ok := c.Registry().Service(service).Endpoint(name)
	return ok
}

func TestEndpointsComeAndGo(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	svc := serve(t, connect(t, s), micro.Config{Name: "router"}, endpoint("first", greet))
	nc := s.Connect(t)
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	sees(t, c, "router", 1)
	answers := func(subject string) bool {
		_, err := nc.Request("default.dev."+subject, []byte(`{}`), patience)
		if err != nil && !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("%s: %v", subject, err)
		}
		return err == nil
	}
	subjects := func(name string) []string {
		return []string{"svc.router." + name, "ver.router.0_0_0." + name, "inst.router." + svc.id + "." + name, "all.router." + name}
	}
	for range 3 { // the same name again and again
		if err := micro.Handle(svc.Service, "late", greet, micro.Idempotent()); err != nil {
			t.Fatal(err)
		}
		for _, subject := range subjects("late") { // at once, when Handle has returned
			if !answers(subject) {
				t.Errorf("nobody on %s", subject)
			}
		}
		wantCode(t, micro.Handle(svc.Service, "late", greet), bus.AlreadyExists, `"late"`)
		bustest.Eventually(t, "the record with the endpoint", func() bool { return hasEndpoint(c, "router", "late") })
		if err := svc.Remove("late"); err != nil {
			t.Fatal(err)
		}
		for _, subject := range subjects("late") {
			if answers(subject) {
				t.Errorf("still somebody on %s", subject)
			}
		}
		if !answers("svc.router.first") {
			t.Error("the other endpoint is gone too")
		}
		bustest.Eventually(t, "the record without the endpoint", func() bool { return !hasEndpoint(c, "router", "late") })
	}
	wantCode(t, svc.Remove("late"), bus.NotFound, `"late"`)
	if err := svc.Register(&widgets{}, micro.Except("Close")); err != nil {
		t.Fatal(err)
	}
	if err := micro.HandleAmend(svc.Service, "amend", func(context.Context, *hello, *greeting) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if n := len(svc.Stats().Endpoints); n < 3 || !answers("svc.router.amend") {
		t.Errorf("%d endpoints", n)
	}
}

// Requests that an endpoint was given when it is removed are finished and answered.
func TestRemoveFinishes(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	entered, release := make(chan struct{}), make(chan struct{})
	svc := serve(t, connect(t, s), micro.Config{Name: "slow"}, endpoint("wait", func(ctx context.Context, _ hello) (greeting, error) {
		close(entered)
		bustest.Hold(t, release)
		return greeting{"done"}, ctx.Err()
	}))
	nc := s.Connect(t)
	answered := make(chan *nats.Msg, 1)
	go func() {
		reply, _ := nc.Request("default.dev.svc.slow.wait", []byte(`{}`), patience)
		answered <- reply
	}()
	bustest.Receive(t, "the handler", entered)
	removed := make(chan error, 1)
	go func() { removed <- svc.Remove("wait") }()
	bustest.Eventually(t, "the end of new requests", func() bool {
		_, err := nc.Request("default.dev.inst.slow."+svc.id+".wait", []byte(`{}`), 50*time.Millisecond)
		return errors.Is(err, nats.ErrNoResponders)
	})
	select {
	case err := <-removed:
		t.Fatalf("Remove returned before the handler: %v", err)
	default:
	}
	// Meanwhile another may have the name.
	if err := micro.Handle(svc.Service, "wait", greet); err != nil {
		t.Fatal(err)
	}
	close(release)
	if err := bustest.Receive(t, "the end of Remove", removed); err != nil {
		t.Error(err)
	}
	if reply := bustest.Receive(t, "the answer", answered); reply == nil || string(reply.Data) != `{"text":"done"}` {
		t.Errorf("answer %+v", reply)
	}
	if reply := request(t, nc, "default.dev.svc.slow.wait", nil, `{"name":"you"}`); string(reply.Data) != `{"text":"Hello you"}` {
		t.Errorf("answer %s of the new one", reply.Data)
	}
}

// A handler that takes longer than Drain has its ctx ended, by Remove as by the end of Run.
func TestRemoveWaitsNoLonger(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	entered := make(chan struct{}, 2)
	stuck := make(chan struct{})
	svc := serve(t, connect(t, s), micro.Config{Name: "slow", Drain: 50 * time.Millisecond}, endpoints(
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
	nc := s.Connect(t)
	for _, name := range []string{"heed", "ignore"} {
		if err := nc.PublishRequest("default.dev.svc.slow."+name, nc.NewInbox(), []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
		bustest.Receive(t, "the handler", entered)
	}
	if err := svc.Remove("heed"); err != nil {
		t.Error(err)
	}
	ignored := make(chan error, 1)
	go func() { ignored <- svc.Remove("ignore") }()
	// The service can stop meanwhile, and waits for the handler too.
	bustest.Eventually(t, "the endpoint to be out", func() bool { return len(svc.Stats().Endpoints) == 0 })
	wantCode(t, svc.stop(), bus.DeadlineExceeded, "1 requests were not finished")
	wantCode(t, bustest.Receive(t, "the end of Remove", ignored), bus.DeadlineExceeded, `"ignore"`, "1 requests")
	close(stuck)
}

// While endpoints come and go none of the requests to another is lost.
func TestEndpointsUnderLoad(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	svc := serve(t, connect(t, s), micro.Config{Name: "router"}, endpoint("stays", greet))
	nc := s.Connect(t)
	var lost, done atomic.Int64
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := nc.Request("default.dev.svc.router.stays", []byte(`{}`), patience); err != nil {
					lost.Add(1)
				}
				done.Add(1)
			}
		})
	}
	var changers sync.WaitGroup
	for i := range 4 {
		changers.Go(func() {
			name := fmt.Sprintf("route%d", i)
			for range 20 {
				if err := errors.Join(micro.Handle(svc.Service, name, greet), svc.Remove(name)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	changers.Wait()
	close(stop)
	callers.Wait()
	if lost.Load() > 0 || done.Load() == 0 {
		t.Errorf("%d of %d requests were lost", lost.Load(), done.Load())
	}
	if err := svc.stop(); err != nil {
		t.Error(err)
	}
}

func TestEndpointsBound(t *testing.T) {
	t.Parallel()
	svc, err := micro.NewService(connect(t, bustest.Server(t)), micro.Config{Name: "router"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range micro.MaxEndpoints {
		if err := micro.Handle(svc, fmt.Sprintf("n%d", i), greet); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, micro.Handle(svc, "more", greet), bus.ResourceExhausted, "1025 endpoints")
	if err := svc.Remove("n0"); err != nil {
		t.Fatal(err)
	}
	if err := micro.Handle(svc, "more", greet); err != nil {
		t.Error(err)
	}
	long, err := micro.NewService(connect(t, bustest.Server(t)), micro.Config{Name: "router"})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; err == nil; i++ {
		err = micro.Handle(long, fmt.Sprintf("%s%04d", strings.Repeat("x", 60), i), greet)
	}
	wantCode(t, err, bus.ResourceExhausted, "bytes in the record")
}
