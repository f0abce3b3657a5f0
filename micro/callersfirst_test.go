package micro_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
)

// A caller that sends before it is announced is handled when a slow watcher has dealt with it, and not before.
func TestCallersFirst(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	reg, err := registry.Open(t.Context(), conn, registry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var known sync.Map
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		for change := range reg.Watch(ctx, registry.Criteria{}) {
			if change.Instance.State == registry.Online && change.Instance.Service == "caller" {
				time.Sleep(50 * time.Millisecond) // the watcher's work
				known.Store(change.Instance.Instance, true)
			}
		}
	})
	defer func() {
		cancel()
		watching.Wait()
		_ = reg.Close() // has no error to tell
	}()
	handled := make(chan string, 20)
	serve(t, conn, micro.Config{Name: "keeper"}, endpoint("take", func(ctx context.Context, _ hello) (greeting, error) {
		from, err := bus.ParseAddress(micro.Info(ctx).Caller)
		if _, ok := known.Load(from.Instance); !ok {
			t.Errorf("a message of %v (%v) before the watcher had heard of it", from, err)
		}
		handled <- from.Instance
		return greeting{}, nil
	}, micro.CallersFirst(reg), micro.OneWay()))
	nc := s.Connect(t)
	for _, id := range []string{"a", "b"} {
		serve(t, connect(t, s), micro.Config{Name: "caller", Instance: id, Hooks: micro.Hooks{Started: func() { // and not yet announced
			for range 3 {
				send(t, nc, oneWayMessage("one.keeper.take", `{}`, nats.Header{bus.HeaderFrom: {"skybus://default.dev.caller/" + id}}))
			}
		}}}, endpoint("hello", greet))
		for range 3 {
			if got := bustest.Receive(t, "the message", handled); got != id {
				t.Errorf("message of %s, want %s", got, id)
			}
		}
	}
}

// Who never comes online is waited for once, within the request's deadline, and then handled.
func TestCallersFirstStrangers(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	reg, err := registry.Open(t.Context(), conn, registry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reg.Close() }() // has no error to tell
	svc := serve(t, conn, micro.Config{Name: "keeper"}, endpoint("take", greet, micro.CallersFirst(reg)))
	nc := s.Connect(t)
	ask := func(from string) (took time.Duration) {
		start := time.Now()
		reply := request(t, nc, "default.dev.svc.keeper.take", nats.Header{bus.HeaderFrom: {from}}, `{}`)
		if string(reply.Data) != `{"text":"Hello "}` {
			t.Errorf("answer %s", reply.Data)
		}
		return time.Since(start)
	}
	const stranger = "skybus://default.dev.somebody/x"
	if took := ask(stranger); took < time.Second {
		t.Errorf("it was handled after %v", took)
	}
	for _, from := range []string{stranger, "", "nobody", "skybus://default.dev.somebody", "skybus://other.dev.somebody/x"} {
		took := time.Hour
		for try := 0; try < 3 && took > 900*time.Millisecond; try++ { // the machine may be busy, but not each time
			took = min(took, ask(from))
		}
		if took > 900*time.Millisecond {
			t.Errorf("%q was waited for, %v", from, took)
		}
	}
	h := nats.Header{bus.HeaderFrom: {"skybus://default.dev.somebody/y"}, bus.HeaderTimeout: {"50"}}
	wantError(t, request(t, nc, "default.dev.svc.keeper.take", h, `{}`), bus.DeadlineExceeded, 504)
	wantCode(t, micro.Handle(svc.Service, "bad", greet, micro.CallersFirst(nil)), bus.InvalidArgument, "without a registry")
}
