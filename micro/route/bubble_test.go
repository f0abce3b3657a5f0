package route_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// The tests of this file wait for minutes and hours of fake time. They are not parallel.

// attempts notes when an endpoint was called, and by which attempt.
type attempts struct {
	mu      sync.Mutex
	numbers []int
	times   []time.Time
	ids     map[string]bool
}

func (a *attempts) note(ctx context.Context) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	info := micro.Info(ctx)
	a.numbers = append(a.numbers, info.Attempt)
	a.times = append(a.times, time.Now())
	if a.ids == nil {
		a.ids = map[string]bool{}
	}
	a.ids[info.RequestID] = true
	return len(a.numbers)
}

func (a *attempts) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.numbers)
}

// untilDone waits in fake time until no step is queued.
func (h *house) untilDone(t testing.TB, limit time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(limit); messages(t, h.conn, route.AsyncStream) != 0; time.Sleep(limit / 200) {
		if time.Now().After(deadline) {
			t.Fatalf("%d steps were not done in %v", messages(t, h.conn, route.AsyncStream), limit)
		}
	}
}

func oneToN(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i + 1
	}
	return all
}

// An endpoint that fails is called again, ever later, with the same request id and attempts counted up.
func TestWorkerTriesAgain(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		h := build(t, bustest.Server(t))
		var a attempts
		h.serve(t, "app", "", endpoint("later", func(ctx context.Context, _ []byte) ([]byte, error) {
			if a.note(ctx) <= 8 {
				return nil, errors.New("not yet")
			}
			return nil, nil
		}))
		h.put(t, "r", step("app.later", async))
		work(t, h.client)
		h.publish(t, "r", "id", 1)
		h.untilDone(t, time.Hour)
		if !slices.Equal(a.numbers, oneToN(9)) || len(a.ids) != 1 {
			t.Errorf("attempts %v of %d request ids, want 1 to 9 of one", a.numbers, len(a.ids))
		}
		for i := 1; i < len(a.times); i++ {
			if wait, most := a.times[i].Sub(a.times[i-1]), time.Second<<(i-1)+time.Second; wait < 50*time.Millisecond || wait > most {
				t.Errorf("attempt %d came after %v, want at most %v", i+1, wait, most)
			}
		}
		if n := messages(t, h.conn, route.DeadLetterStream); n != 0 {
			t.Errorf("%d dead letters", n)
		}
	})
}

// After 20 attempts and an hour a step is given up: one whose endpoint fails, and one whose endpoint never answers.
func TestWorkerGivesUp(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		h := build(t, bustest.Server(t))
		var failing, hanging attempts
		h.serve(t, "app", "", endpoints(
			endpoint("failing", func(ctx context.Context, _ []byte) ([]byte, error) {
				failing.note(ctx)
				return nil, errors.New("never")
			}),
			endpoint("hanging", func(ctx context.Context, _ []byte) ([]byte, error) {
				hanging.note(ctx)
				<-ctx.Done()
				return nil, ctx.Err()
			}),
		))
		h.put(t, "r", step("app.failing", async), step("app.hanging", async))
		work(t, h.client)
		if _, err := h.runner.Run(micro.WithRequestID(t.Context(), "id-1"), "r", route.Request{Body: []byte(`{"a":1}`)}); err != nil {
			t.Fatal(err)
		}
		h.untilDone(t, 3*time.Hour)
		for name, a := range map[string]*attempts{"failing": &failing, "hanging": &hanging} {
			n := a.count()
			if n < 20 || n > 60 || !slices.Equal(a.numbers, oneToN(n)) {
				t.Errorf("%s: attempts %v, want 1 to 20 or some more", name, a.numbers)
			}
			if took := a.times[n-1].Sub(a.times[0]); took < time.Hour-time.Minute || took > 2*time.Hour {
				t.Errorf("%s: given up after %v and %d attempts, want an hour", name, took, n)
			}
		}
		if n := messages(t, h.conn, route.DeadLetterStream); n != 2 {
			t.Fatalf("%d dead letters, want 2", n)
		}
		l := h.letter(t, 2)
		if n, err := strconv.Atoi(l.header.Get(route.HeaderDeadAttempts)); err != nil || n < 20 || l.body != `{"a":1}` || l.header.Get(bus.HeaderRequestID) != "id-1" {
			t.Errorf("dead letter after %d attempts: %s %v", n, l.body, l.header)
		}
	})
}

// A step that takes longer than a worker may be silent is not given to another one meanwhile.
func TestWorkerHoldsLongStep(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		srv := bustest.Server(t)
		h, other := build(t, srv), build(t, srv)
		var a attempts
		h.serve(t, "app", "", endpoint("later", func(ctx context.Context, _ []byte) ([]byte, error) {
			a.note(ctx)
			time.Sleep(25 * time.Second)
			return nil, nil
		}))
		h.put(t, "r", step("app.later", async))
		work(t, h.client)
		work(t, other.client)
		h.publish(t, "r", "id", 1)
		h.untilDone(t, time.Minute)
		time.Sleep(time.Minute)
		if a.count() != 1 {
			t.Errorf("called %d times", a.count())
		}
	})
}

// A service that is away for a while finds its steps when it comes.
func TestWorkerWaitsForService(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		h := build(t, bustest.Server(t))
		h.put(t, "r", step("app.later", async))
		work(t, h.client)
		ids := h.publish(t, "r", "id", 3)
		time.Sleep(5 * time.Minute)
		if n := messages(t, h.conn, route.AsyncStream); n != 3 {
			t.Fatalf("%d steps are queued, want 3", n)
		}
		var done handled
		h.serve(t, "app", "", endpoint("later", func(ctx context.Context, _ []byte) ([]byte, error) {
			done.add(micro.Info(ctx).RequestID)
			return nil, nil
		}))
		h.untilDone(t, 10*time.Minute)
		if got := done.ids(); !slices.Equal(got, ids) {
			t.Errorf("done %q, want %q", got, ids)
		}
	})
}

// However many steps of a broken service wait for their next attempt, those of others are done.
func TestBrokenServiceHoldsNobodyBack(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		h := build(t, bustest.Server(t))
		var a attempts
		h.serve(t, "broken", "", endpoint("later", func(ctx context.Context, _ []byte) ([]byte, error) {
			a.note(ctx)
			return nil, errors.New("broken")
		}))
		var done handled
		h.serve(t, "fine", "", endpoint("later", func(ctx context.Context, _ []byte) ([]byte, error) {
			done.add(micro.Info(ctx).RequestID)
			return nil, nil
		}))
		h.put(t, "broken", step("broken.later", async))
		h.put(t, "fine", step("fine.later", async))
		work(t, h.client)
		h.publish(t, "broken", "bad", 1100)
		begin := time.Now()
		h.publish(t, "fine", "id", 1)
		for len(done.ids()) == 0 {
			if time.Since(begin) > 2*time.Minute {
				t.Fatalf("not done in 2 min, after %d attempts at others", a.count())
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Logf("done after %v and %d attempts at others", time.Since(begin), a.count())
	})
}

// A dead letter that cannot be stored keeps its step in the queue.
func TestDeadLettersFull(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		h := build(t, bustest.Server(t))
		var a attempts
		h.serve(t, "app", "", endpoint("later", func(ctx context.Context, _ []byte) ([]byte, error) {
			a.note(ctx)
			return nil, bus.Errorf(bus.InvalidArgument, "no")
		}))
		h.put(t, "r", step("app.later", async))
		stop := work(t, h.client)
		h.publish(t, "r", "id", 1)
		h.untilDone(t, time.Minute)
		stream, err := h.conn.JetStream().Stream(t.Context(), route.DeadLetterStream)
		if err != nil {
			t.Fatal(err)
		}
		cfg := stream.CachedInfo().Config
		cfg.MaxMsgs = 1
		if _, err := h.conn.JetStream().UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		h.publish(t, "r", "more", 1)
		time.Sleep(10 * time.Minute)
		if n := messages(t, h.conn, route.AsyncStream); n != 1 || a.count() != 2 {
			t.Fatalf("%d steps are queued after %d attempts, want 1 and one for each", n, a.count())
		}
		if err := stream.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.untilDone(t, 2*time.Hour)
		if n := messages(t, h.conn, route.DeadLetterStream); n != 1 {
			t.Errorf("%d dead letters, want 1", n)
		}
		if err := stop(); err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
}

// What was acknowledged is done, though workers and server are restarted all the time. What was on its way to a worker when
// the server went comes again after some seconds, so the time is fake.
func TestNothingIsLost(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		srv := bustest.Server(t)
		h, other := build(t, srv), build(t, srv)
		var done handled
		h.serve(t, "app", "", endpoint("later", func(ctx context.Context, _ []byte) ([]byte, error) {
			time.Sleep(10 * time.Millisecond) // the work
			info := micro.Info(ctx)
			if info.Attempt == 1 && strings.HasSuffix(info.RequestID, "7") {
				return nil, errors.New("not at the first time")
			}
			done.add(info.RequestID)
			return nil, nil
		}))
		h.put(t, "r", step("app.later", async))
		const n = 1000
		published := make(chan []string, 1)
		go func() {
			var ids []string
			for i := range n {
				id := fmt.Sprintf("id-%04d", i)
				if _, err := h.runner.Run(micro.WithRequestID(t.Context(), id), "r", route.Request{}); err == nil {
					ids = append(ids, id)
				}
				time.Sleep(time.Millisecond)
			}
			published <- ids
		}()
		stop := work(t, h.client)
		work(t, other.client)
		for i := range 4 {
			bustest.Eventually(t, "some steps", func() bool { return len(done.ids()) > (i+1)*n/8 })
			if err := stop(); err != nil {
				t.Errorf("Run returned %v", err)
			}
			srv.Restart(t)
			stop = work(t, h.client)
		}
		ids := <-published
		if len(ids) < n/2 {
			t.Fatalf("only %d of %d were acknowledged", len(ids), n)
		}
		h.untilDone(t, 10*time.Minute)
		got := done.ids()
		for _, id := range ids {
			if _, ok := slices.BinarySearch(got, id); !ok {
				t.Errorf("%s was acknowledged and never done", id)
			}
		}
		if n := messages(t, h.conn, route.DeadLetterStream); n != 0 {
			t.Errorf("%d dead letters", n)
		}
		repeated := 0
		for _, times := range done.times {
			repeated += times - 1
		}
		t.Logf("%d acknowledged, %d done, %d repetitions", len(ids), len(got), repeated)
	})
}

// A worker that cannot work says so once, and again only when it has worked in between, which it says too.
func TestWorkerWarnsOnce(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		srv := bustest.Server(t)
		h := build(t, srv)
		h.serve(t, "app", "", says("later", "{}"))
		h.put(t, "r", step("app.later", async))
		var log strings.Builder // written by the worker alone, read when it has ended
		w := route.NewWorker(h.client, route.WorkerConfig{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		for range 2 {
			h.publish(t, "r", "id", 1)
			h.untilDone(t, time.Minute)
			srv.Stop()
			time.Sleep(5 * time.Minute)
			srv.Start(t)
		}
		h.publish(t, "r", "id", 1)
		h.untilDone(t, time.Minute)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v", err)
		}
		warned, told, over := 0, 0, 0
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, "level=INFO") && strings.Contains(line, "steps go on") && strings.Contains(line, "waited=") {
				over++
			}
			if strings.Contains(line, "steps are waiting") {
				told++
				if strings.Contains(line, "level=WARN") {
					warned++
				}
			}
		}
		if warned != 2 || told < 6 {
			t.Errorf("warned %d times and told %d times, want 2 and several:\n%s", warned, told, log.String())
		}
		if over != 2 {
			t.Errorf("told %d times that it is over, want 2:\n%s", over, log.String())
		}
	})
}
