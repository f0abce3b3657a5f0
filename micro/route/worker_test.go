package route_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// work runs a worker until the test ends, or until stop is called, which returns what Run did.
func work(t testing.TB, client *micro.Client) (stop func() error) {
	t.Helper()
	return workWith(t, client, route.WorkerConfig{})
}

func workWith(t testing.TB, client *micro.Client, cfg route.WorkerConfig) (stop func() error) {
	t.Helper()
	w := route.NewWorker(client, cfg)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	var err error
	go func() {
		defer close(done)
		err = w.Run(ctx)
	}()
	stop = func() error {
		cancel()
		<-done
		return err
	}
	t.Cleanup(func() { _ = stop() }) // tests that care look themselves
	return stop
}

// handled counts calls by request id.
type handled struct {
	mu    sync.Mutex
	times map[string]int
}

func (h *handled) add(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.times == nil {
		h.times = map[string]int{}
	}
	h.times[id]++
}

func (h *handled) ids() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.times))
}

// publish runs the route name n times, each run with its own id, and returns the ids in order.
func (h *house) publish(t testing.TB, name, prefix string, n int) []string {
	t.Helper()
	var ids []string
	for i := range n {
		id := fmt.Sprintf("%s-%04d", prefix, i)
		if _, err := h.runner.Run(micro.WithRequestID(t.Context(), id), name, route.Request{Body: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// idle waits until no asynchronous step is left.
func (h *house) idle(t testing.TB) {
	t.Helper()
	bustest.Eventually(t, "the asynchronous steps to be done", func() bool { return messages(t, h.conn, route.AsyncStream) == 0 })
}

func TestWorkerCalls(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	type call struct {
		body string
		info micro.RequestInfo
	}
	calls := make(chan call, 1)
	take := endpoint("later", func(ctx context.Context, body []byte) ([]byte, error) {
		calls <- call{string(body), micro.Info(ctx)}
		return nil, nil
	})
	h.serve(t, "app", "1.0.0", says("later", "{}"))
	h.serve(t, "app", "2.0.0", take)
	h.put(t, "r", step("app.later", async, version("2.0.0")))
	work(t, h.client)
	for i := range 5 { // of each version one instance: by chance the other would be called
		body := encode(t, map[string]any{"n": i})
		if _, err := h.runner.Run(micro.WithRequestID(t.Context(), fmt.Sprint("id-", i)), "r", route.Request{ContentType: typeMsgpack, Body: body}); err != nil {
			t.Fatal(err)
		}
		got := bustest.Receive(t, "the asynchronous step", calls)
		if got.body != string(body) || got.info.RequestID != fmt.Sprint("id-", i) || got.info.Attempt != 1 || got.info.Endpoint != "later" {
			t.Errorf("called with %x, %+v", got.body, got.info)
		}
	}
	h.idle(t)
	if n := messages(t, h.conn, route.DeadLetterStream); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// A worker does 64 steps at a time: more at once takes two.
func TestWorkersShare(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h, other := build(t, srv), build(t, srv)
	var inFlight atomic.Int64
	var done handled
	enough := make(chan struct{})
	take := func(ctx context.Context, _ []byte) ([]byte, error) {
		if inFlight.Add(1) == 100 {
			close(enough)
		}
		<-enough
		done.add(micro.Info(ctx).RequestID)
		return nil, nil
	}
	var ids []string
	for i := range 10 {
		name := fmt.Sprint("app", i)
		h.serve(t, name, "", endpoint("later", take))
		h.put(t, name, step(name+".later", async))
		ids = append(ids, h.publish(t, name, name, 10)...)
	}
	work(t, h.client)
	bustest.Eventually(t, "the first worker to be busy", func() bool { return inFlight.Load() == 64 })
	work(t, other.client)
	bustest.Receive(t, "100 steps at a time", enough)
	h.idle(t)
	if got := done.ids(); !slices.Equal(got, ids) || inFlight.Load() != 100 {
		t.Errorf("%d calls of %d ids, want 100 of each", inFlight.Load(), len(got))
	}
}

func TestWorkerKeepsToItsNamespace(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h, other := build(t, srv), build(t, srv, inNamespace("default.dev2"))
	var here, there handled
	for _, x := range []struct {
		h *house
		d *handled
	}{{h, &here}, {other, &there}} {
		x.h.serve(t, "app", "", endpoint("later", func(ctx context.Context, _ []byte) ([]byte, error) {
			x.d.add(micro.Info(ctx).RequestID)
			return nil, nil
		}))
		x.h.put(t, "r", step("app.later", async))
	}
	work(t, h.client)
	foreignIDs, ids := other.publish(t, "r", "there", 5), h.publish(t, "r", "here", 5)
	bustest.Eventually(t, "the steps of this namespace", func() bool { return len(here.ids()) == 5 })
	if n := messages(t, h.conn, route.AsyncStream); len(there.ids()) != 0 || n < 5 {
		t.Errorf("the worker of %s did %q, %d steps are left", h.conn.Namespace(), there.ids(), n)
	}
	work(t, other.client)
	h.idle(t)
	if !slices.Equal(here.ids(), ids) || !slices.Equal(there.ids(), foreignIDs) {
		t.Errorf("done here: %q, there: %q", here.ids(), there.ids())
	}
}

// A step that hangs is given back soon after the worker was told to stop, and another worker does it then.
func TestWorkerGivesBack(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h, other := build(t, srv), build(t, srv)
	attempts := make(chan int, 10)
	h.serve(t, "app", "", endpoint("later", func(ctx context.Context, _ []byte) ([]byte, error) {
		attempt := micro.Info(ctx).Attempt
		attempts <- attempt
		if attempt == 1 {
			<-ctx.Done()
		}
		return nil, ctx.Err()
	}))
	h.put(t, "r", step("app.later", async))
	stop := work(t, h.client)
	h.publish(t, "r", "id", 1)
	bustest.Receive(t, "the first attempt", attempts)
	begin := time.Now()
	if err := stop(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	if took := time.Since(begin); took > 6*time.Second {
		t.Errorf("Run returned %v after it was told to", took)
	}
	if n := messages(t, h.conn, route.AsyncStream); n != 1 {
		t.Fatalf("%d steps in the queue, want 1", n)
	}
	work(t, other.client)
	if n := bustest.Receive(t, "the second attempt", attempts); n != 2 {
		t.Errorf("attempt %d, want 2", n)
	}
	h.idle(t)
}

// A step that is nearly done is waited for.
func TestWorkerFinishes(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	begun := make(chan struct{})
	var calls atomic.Int64
	h.serve(t, "app", "", endpoint("later", func(context.Context, []byte) ([]byte, error) {
		calls.Add(1)
		close(begun)
		time.Sleep(100 * time.Millisecond) // the work
		return nil, nil
	}))
	h.put(t, "r", step("app.later", async))
	stop := work(t, h.client)
	h.publish(t, "r", "id", 1)
	bustest.Receive(t, "the step", begun)
	if err := stop(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	h.idle(t)
	if calls.Load() != 1 {
		t.Errorf("done %d times", calls.Load())
	}
}

// Workers that come and go under load hold nothing back: what they had not begun comes again at once.
func TestWorkersComeAndGo(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h := build(t, srv)
	var done handled
	h.serve(t, "app", "", endpoint("later", func(ctx context.Context, _ []byte) ([]byte, error) {
		done.add(micro.Info(ctx).RequestID)
		return nil, nil
	}))
	h.put(t, "r", step("app.later", async))
	ids := h.publish(t, "r", "id", 600)
	for n := 0; n < 500; {
		stop := work(t, h.client)
		bustest.Eventually(t, "some steps", func() bool { return len(done.ids()) > n })
		n = len(done.ids())
		if err := stop(); err != nil {
			t.Errorf("Run returned %v", err)
		}
	}
	begin := time.Now()
	work(t, h.client)
	h.idle(t)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the rest took %v", took)
	}
	if got := done.ids(); !slices.Equal(got, ids) {
		t.Errorf("%d ids handled, want %d", len(got), len(ids))
	}
}

// A worker may be there before JetStream is, and goes on when a memory store has forgotten everything.
func TestWorkerWaitsForJetStream(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t, bustest.Memory())
	h := build(t, srv)
	var done handled
	h.serve(t, "app", "", endpoint("later", func(ctx context.Context, _ []byte) ([]byte, error) {
		done.add(micro.Info(ctx).RequestID)
		return nil, nil
	}))
	srv.Stop()
	stop := work(t, h.client)
	srv.Start(t)
	h.put(t, "r", step("app.later", async))
	h.publish(t, "r", "one", 1)
	bustest.Eventually(t, "the first step", func() bool { return len(done.ids()) == 1 })
	srv.Restart(t)
	h.forgets(t, "r")
	h.put(t, "r", step("app.later", async))
	h.publish(t, "r", "two", 1)
	bustest.Eventually(t, "the second step", func() bool { return len(done.ids()) == 2 })
	if err := stop(); err != nil {
		t.Errorf("Run returned %v", err)
	}
}

func TestWorkerStopsAtOnceWhenIdle(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h := build(t, srv)
	stop := work(t, h.client)
	bustest.Eventually(t, "the worker's consumer", func() bool {
		_, err := h.conn.JetStream().Consumer(t.Context(), route.AsyncStream, "default=dev")
		return err == nil
	})
	begin := time.Now()
	if err := stop(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	srv.Stop()
	stop = work(t, h.client)
	if err := stop(); err != nil {
		t.Errorf("without a server Run returned %v", err)
	}
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("stopping twice took %v", took)
	}
}

func TestWorkerConnectionClosed(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: srv})
	if err != nil {
		t.Fatal(err)
	}
	client, err := micro.NewClient(t.Context(), conn, micro.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }() // has no error to tell
	results := make(chan error, 1)
	go func() { results <- route.NewWorker(client, route.WorkerConfig{}).Run(t.Context()) }()
	bustest.Eventually(t, "the worker's consumer", func() bool {
		_, err := conn.JetStream().Consumer(t.Context(), route.AsyncStream, "default=dev")
		return err == nil
	})
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	err = bustest.Receive(t, "the end of Run", results)
	wantCode(t, err, bus.Unavailable, "closed")
	if errors.Is(err, context.Canceled) {
		t.Errorf("%v is told as the end of ctx", err)
	}
}
