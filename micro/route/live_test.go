package route_test

import (
	"context"
	"errors"
	"fmt"
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

// An edit is what the next run goes by, a moment after it was stored.
func TestEditIsLive(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h := build(t, srv)
	editor := openStore(t, connect(t, srv)) // another process
	h.serve(t, "app", "", endpoints(says("a", `{"a":1}`), says("b", `{"b":1}`)))
	h.put(t, "r", step("app.a"))
	var took []time.Duration
	for n := range 100 {
		rev, err := editor.Put(t.Context(), "r", route.Route{Steps: []route.Step{step([]string{"app.a", "app.b"}[n%2])}}, 0)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for h.run(t, "r", "").Revision != rev {
			if time.Since(begin) > patience {
				t.Fatalf("edit %d was not live after %v", n, patience)
			}
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	t.Logf("from the stored edit to the end of the first run that sees it: median %v, worst %v", took[50], took[99])
	if took[50] > 100*time.Millisecond {
		t.Errorf("the median edit was live after %v", took[50])
	}
}

// variants are the revisions of a route that is edited under load: reordered, longer, shorter. All steps of one call
// endpoints of the same letter, so that a run that mixed two of them shows.
func variants() [][]string {
	return [][]string{
		{"app.a1", "app.a2", "app.a3"}, {"app.b3", "app.b1"}, {"app.c1"}, {"app.d2", "app.d1", "app.d3", "app.d1", "app.d2"},
	}
}

func TestEditsUnderLoad(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h := build(t, srv)
	editor := openStore(t, connect(t, srv))
	var adds []func(*micro.Service) error
	for _, letter := range []string{"a", "b", "c", "d"} {
		for n := 1; n <= 3; n++ {
			adds = append(adds, says(fmt.Sprint(letter, n), `{"`+letter+`":1}`))
		}
	}
	h.serve(t, "app", "", endpoints(adds...))
	edit := func(n int) {
		var all []route.Step
		for _, target := range variants()[n%4] {
			all = append(all, step(target))
		}
		rev, err := editor.Put(t.Context(), "r", route.Route{Steps: all}, 0)
		if err != nil {
			t.Errorf("edit %d: %v", n, err)
		}
		if n == 0 {
			h.follows(t, "r", rev)
		}
	}
	edit(0)
	done := make(chan struct{})
	var callers sync.WaitGroup
	var runs atomic.Int64
	for range 8 {
		callers.Go(func() {
			var last uint64
			for {
				select {
				case <-done:
					return
				default:
				}
				last = oneRevision(t, h, last)
				runs.Add(1)
			}
		})
	}
	edits := 0
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end) || runs.Load() < 200; {
		edits++
		edit(edits)
		if t.Failed() {
			break
		}
	}
	close(done)
	callers.Wait()
	t.Logf("%d runs of 8 callers during %d edits", runs.Load(), edits)
}

// oneRevision runs the route once and checks that it ran by one revision, no older than the last.
func oneRevision(t *testing.T, h *house, last uint64) uint64 {
	t.Helper()
	res, err := h.runner.Run(t.Context(), "r", route.Request{Body: []byte("{}")})
	if err != nil {
		t.Errorf("run: %v", err)
		return last
	}
	var targets []string
	for _, hop := range res.Hops {
		targets = append(targets, hop.Service+"."+hop.Endpoint)
	}
	if !slices.ContainsFunc(variants(), func(v []string) bool { return slices.Equal(v, targets) }) {
		t.Errorf("a run of revision %d did %q: no revision says so", res.Revision, targets)
	}
	if fields := object(t, res.Body); len(fields) != 1 || fields[targets[0][4:5]] != 1.0 {
		t.Errorf("a run of %q answered %v", targets, fields)
	}
	if res.Revision < last {
		t.Errorf("revision %d after %d", res.Revision, last)
	}
	return res.Revision
}

// A run finishes by the revision it began with, whatever becomes of the route meanwhile.
func TestDeleteWhileRunning(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	begun, goOn := make(chan struct{}), make(chan struct{})
	h.serve(t, "app", "", endpoints(says("after", `{"after":1}`), endpoint("slow", func(context.Context, []byte) ([]byte, error) {
		close(begun)
		bustest.Hold(t, goOn)
		return nil, nil
	})))
	h.put(t, "r", step("app.slow"), step("app.after"))
	results := make(chan error, 1)
	go func() {
		res, err := h.runner.Run(t.Context(), "r", route.Request{})
		if err == nil && string(res.Body) != `{"after":1}` {
			err = fmt.Errorf("answered %s", res.Body)
		}
		results <- err
	}()
	bustest.Receive(t, "the first step", begun)
	if err := h.store.Delete(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	h.forgets(t, "r")
	close(goOn)
	if err := bustest.Receive(t, "the run", results); err != nil {
		t.Errorf("the run: %v", err)
	}
	_, err := h.runner.Run(t.Context(), "r", route.Request{})
	wantCode(t, err, bus.NotFound)
}

// forgets waits until the runner has no such route.
func (h *house) forgets(t testing.TB, name string) {
	t.Helper()
	bustest.Eventually(t, "the runner to forget "+name, func() bool {
		_, ok := h.runner.Route(name)
		return !ok
	})
}

// notices waits until the connection knows that the server is gone.
func (h *house) notices(t testing.TB) {
	t.Helper()
	bustest.Eventually(t, "the connection to notice", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		return h.conn.WaitConnected(ctx) != nil
	})
}

// Routes are kept in files: a restart of the server changes nothing, and edits are live again after it.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h := build(t, srv)
	h.serve(t, "app", "", endpoints(says("a", `{"a":1}`), says("b", `{"b":1}`)))
	h.put(t, "r", step("app.a"), step("app.b", async))
	srv.Stop()
	h.notices(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := h.runner.Run(ctx, "r", route.Request{})
	wantCode(t, err, bus.Unavailable, "not connected")
	srv.Start(t)
	h.run(t, "r", "") // waits for the connection
	h.put(t, "r", step("app.b"))
	if res := h.run(t, "r", ""); string(res.Body) != `{"b":1}` {
		t.Errorf("after the edit: %s", res.Body)
	}
}

// A run under way when the server goes ends with an error or well, and never hangs.
func TestServerRestartsDuringRuns(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h := build(t, srv)
	h.serve(t, "app", "", endpoints(says("a", `{"a":1}`), says("b", `{"b":1}`)))
	h.put(t, "r", step("app.a", retry), step("app.b", async), step("app.b", retry))
	done := make(chan struct{})
	var callers sync.WaitGroup
	var good, bad atomic.Int64
	for range 8 {
		callers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				if _, err := h.runner.Run(ctx, "r", route.Request{}); err != nil {
					bad.Add(1)
					t.Logf("run: %v", err)
				} else {
					good.Add(1)
				}
				cancel()
			}
		})
	}
	for range 2 {
		n := good.Load()
		bustest.Eventually(t, "20 good runs", func() bool { return good.Load() >= n+20 })
		srv.Restart(t)
	}
	n := good.Load()
	bustest.Eventually(t, "20 good runs after the restarts", func() bool { return good.Load() >= n+20 })
	close(done)
	callers.Wait()
	// Every step may be tried again, the asynchronous ones too: none is lost.
	if bad.Load() != 0 {
		t.Errorf("%d runs failed, %d went well", bad.Load(), good.Load())
	}
}

// A memory bucket is gone after a restart: so are the routes, until somebody stores them again. The queue of asynchronous
// steps is made again by whoever needs it first.
func TestBucketVanishes(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t, bustest.Memory())
	h := build(t, srv)
	h.serve(t, "app", "", says("a", `{"a":1}`))
	h.put(t, "r", step("app.a"), step("app.a", async))
	h.run(t, "r", "")
	srv.Restart(t)
	h.forgets(t, "r")
	_, err := h.runner.Run(t.Context(), "r", route.Request{})
	wantCode(t, err, bus.NotFound)
	h.put(t, "r", step("app.a"), step("app.a", async))
	if res := h.run(t, "r", ""); string(res.Body) != `{"a":1}` {
		t.Errorf("answered %s", res.Body)
	}
	if n := messages(t, h.conn, route.AsyncStream); n != 1 {
		t.Errorf("%d asynchronous steps are queued, want 1", n)
	}
}

// While the connection is closed for good, runs fail at once.
func TestConnectionClosed(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	h.put(t, "sync", step("app.a"))
	h.put(t, "async", step("app.a", async))
	if err := h.conn.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sync", "async"} {
		begin := time.Now()
		_, err := h.runner.Run(t.Context(), name, route.Request{})
		wantCode(t, err, bus.Unavailable)
		if took := time.Since(begin); took > 4*time.Second {
			t.Errorf("%s: the error came after %v", name, took)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
