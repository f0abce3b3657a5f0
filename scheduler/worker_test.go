package scheduler_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
)

func TestDelivers(t *testing.T) {
	t.Parallel()
	m := newMemory(nil)
	s := launch(t, bustest.Server(t), config(m))
	payload := []byte("\x00\xffbytes\r\n")
	timer := set(t, s, scheduler.Spec{
		ID: "t1", Payload: payload, ContentType: "text/plain", Header: map[string]string{"X-A": "b"}, Target: toMemory("a"),
	})
	bustest.Eventually(t, "the delivery", func() bool { return m.count() == 1 })
	gone(t, s, "t1")
	d := m.all()[0]
	if d.TimerID != "t1" || d.Attempt != 1 || d.Occurrence != 1 || !bytes.Equal(d.Payload, payload) ||
		d.ContentType != "text/plain" || d.Header["X-A"] != "b" || d.Target.URI != "memory://a" {
		t.Errorf("delivery %+v", d)
	}
	if !d.Due.Equal(timer.Due) || d.Fired.Before(d.Due) || d.Fired.After(d.Due.Add(10*time.Second)) {
		t.Errorf("due %s, want %s; fired %s", d.Due, timer.Due, d.Fired)
	}
	bustest.Eventually(t, "statistics", func() bool { return s.Stats().Delivered == 1 })
	if st := s.Stats(); st.InFlight != 0 || st.Failed != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	m := newMemory(func(context.Context, *scheduler.Delivery) error {
		switch n.Add(1) {
		case 1:
			return &scheduler.DeliveryError{Status: 503, Err: bus.Errorf(bus.Unavailable, "no\r\nway")}
		case 2:
			return errors.New("plain")
		case 3:
			panic("a bug")
		}
		return nil
	})
	var log syncBuffer
	cfg := config(m)
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s := launch(t, bustest.Server(t), cfg)
	e := watch(t, s)
	set(t, s, scheduler.Spec{ID: "t1", Retry: scheduler.Retry{First: 300 * time.Millisecond, Last: 300 * time.Millisecond}})
	bustest.Eventually(t, "four attempts", func() bool { return m.count() == 4 })
	gone(t, s, "t1")
	first := m.all()[0]
	for i, d := range m.all() {
		if d.Attempt != i+1 || d.ID != first.ID || !d.Fired.Equal(first.Fired) || !d.Due.Equal(first.Due) {
			t.Errorf("attempt %d is %+v, the first was %+v", i+1, d, first)
		}
	}
	if !bytes.Contains(log.Bytes(), []byte("a transport panicked")) || !bytes.Contains(log.Bytes(), []byte("worker_test.go")) {
		t.Errorf("log: %s", log.Bytes())
	}
	want := []scheduler.EventKind{
		scheduler.Failed, scheduler.Retried, scheduler.Failed, scheduler.Retried, scheduler.Failed, scheduler.Retried, scheduler.Delivered,
	}
	ofDelivery := func() []scheduler.EventKind { // who fires tells when he likes
		return slices.DeleteFunc(e.of("t1"), func(k scheduler.EventKind) bool { return k == scheduler.Created || k == scheduler.Fired })
	}
	bustest.Eventually(t, "all events", func() bool { return len(ofDelivery()) >= len(want) })
	if got := ofDelivery(); !slices.Equal(got, want) {
		t.Errorf("events %v", got)
	}
	if r := e.last("t1", scheduler.Retried); r.Next.IsZero() || r.Attempt != 3 || r.Code != bus.Internal || r.Delivery != first.ID {
		t.Errorf("retried: %+v", r)
	}
}

// What was tried is told by Get while the next attempt waits.
func TestAttemptsAreKept(t *testing.T) {
	t.Parallel()
	m := newMemory(func(context.Context, *scheduler.Delivery) error {
		return &scheduler.DeliveryError{Status: 503, RetryAfter: time.Hour, Err: errors.New("not \"now\"\n" + string(bytes.Repeat([]byte("x"), 500)))}
	})
	s := launch(t, bustest.Server(t), config(m))
	set(t, s, scheduler.Spec{ID: "t1"})
	var timer scheduler.Timer
	bustest.Eventually(t, "the retry", func() (ok bool) {
		var err error
		timer, err = s.Get(t.Context(), "t1")
		return err == nil && timer.State == scheduler.Retrying
	})
	if len(timer.Attempts) != 1 {
		t.Fatalf("attempts %+v", timer.Attempts)
	}
	a := timer.Attempts[0]
	if a.Status != 503 || len(a.Error) > 200 || len(a.Error) < 190 || a.Code == "" || a.At.Before(timer.Due) {
		t.Errorf("attempt %+v", a)
	}
	if wait := timer.NextAttempt.Sub(a.At); wait < time.Hour || wait > time.Hour+time.Minute {
		t.Errorf("next attempt after %s, want the Retry-After of an hour", wait)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.b.Bytes())
}

func TestGivesUp(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		retry    scheduler.Retry
		err      error
		attempts int
		code     bus.Code
	}{
		{"permanent", scheduler.Retry{}, &scheduler.DeliveryError{Status: 410, Permanent: true, Unharmed: true, Err: bus.Errorf(bus.NotFound, "gone")}, 1, bus.NotFound},
		{"attempts", scheduler.Retry{MaxAttempts: 3, First: 10 * time.Millisecond, Last: 10 * time.Millisecond}, bus.Errorf(bus.Unavailable, "down"), 3, bus.Unavailable},
		{"age", scheduler.Retry{MaxAge: 3 * time.Second, First: 10 * time.Millisecond, Last: 10 * time.Millisecond}, &scheduler.DeliveryError{RetryAfter: time.Minute, Err: bus.Errorf(bus.Unavailable, "down")}, 2, bus.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newMemory(func(context.Context, *scheduler.Delivery) error { return tt.err })
			s := launch(t, bustest.Server(t), config(m))
			e := watch(t, s)
			set(t, s, scheduler.Spec{ID: "t1", Payload: []byte("\x00\r\n\xff"), Retry: tt.retry, Labels: map[string]string{"a": "b"}})
			gone(t, s, "t1")
			bustest.Eventually(t, "the dead letter", func() bool { return s.Stats().Dead == 1 })
			letters := slices.Collect(letters(t, s, scheduler.DeadFilter{}))
			if len(letters) != 1 {
				t.Fatalf("%d letters", len(letters))
			}
			l, err := s.DeadLetters().Get(t.Context(), letters[0].ID)
			if err != nil {
				t.Fatal(err)
			}
			if l.Attempts != tt.attempts || len(l.Timer.Attempts) != tt.attempts || m.count() != tt.attempts || l.Code != tt.code || l.ID != m.all()[0].ID {
				t.Errorf("after %d calls: %+v", m.count(), l)
			}
			if l.Timer.ID != "t1" || !bytes.Equal(l.Timer.Payload, []byte("\x00\r\n\xff")) || l.Timer.Labels["a"] != "b" || l.Size != 4 || time.Since(l.Died) > time.Minute {
				t.Errorf("letter %+v", l)
			}
			bustest.Eventually(t, "the event", func() bool { return e.last("t1", scheduler.DeadEvent).Code == tt.code })
		})
	}
}

func letters(t *testing.T, s *process, f scheduler.DeadFilter) func(func(scheduler.DeadLetter) bool) {
	t.Helper()
	return func(yield func(scheduler.DeadLetter) bool) {
		for l, err := range s.DeadLetters().List(t.Context(), f) {
			if err != nil {
				t.Error(err)
				return
			}
			if !yield(l) {
				return
			}
		}
	}
}

// A target that hangs is given up after its time, by the context.
func TestTimeout(t *testing.T) {
	t.Parallel()
	m := newMemory(func(ctx context.Context, d *scheduler.Delivery) error {
		if d.Attempt > 1 {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	})
	s := launch(t, bustest.Server(t), config(m))
	set(t, s, scheduler.Spec{ID: "t1", Target: scheduler.Target{Timeout: 100 * time.Millisecond}, Retry: scheduler.Retry{First: 10 * time.Millisecond}})
	bustest.Eventually(t, "the second attempt", func() bool { return m.count() == 2 })
	gone(t, s, "t1")
}

// The server fires what no owner does: then it is told by who delivers.
func TestServerFired(t *testing.T) {
	t.Parallel()
	m := newMemory(nil)
	s := launch(t, bustest.Server(t), config(m))
	e := watch(t, s)
	fireByServer(t, s, "t1", toMemory("a"))
	bustest.Eventually(t, "the delivery", func() bool { return m.count() == 1 })
	if d := m.all()[0]; time.Since(d.Fired) > time.Minute || d.Fired.IsZero() {
		t.Errorf("fired %s", d.Fired)
	}
	bustest.Eventually(t, "the events", func() bool {
		return slices.Equal(e.of("t1"), []scheduler.EventKind{scheduler.Fired, scheduler.Delivered})
	})
}

// The server may be wrong, and fire too early. Nothing is delivered early for that.
func TestFiredTooEarly(t *testing.T) {
	t.Parallel()
	m := newMemory(nil)
	s := launch(t, bustest.Server(t), config(m))
	e := watch(t, s)
	due := time.Now().Add(2 * time.Second)
	fireByServerAt(t, s, "t1", toMemory("a"), due)
	bustest.Eventually(t, "the delivery", func() bool { return m.count() == 1 })
	m.mu.Lock()
	d, at := m.seen[0], m.at[0]
	m.mu.Unlock()
	if at.Before(due) || d.Fired.Before(due) || !d.Due.Equal(due) || d.Attempt != 1 {
		t.Errorf("delivered at %s: %+v", at, d)
	}
	gone(t, s, "t1")
	bustest.Eventually(t, "the events", func() bool {
		return slices.Equal(e.of("t1"), []scheduler.EventKind{scheduler.Fired, scheduler.Delivered})
	})
}

// What was fired late, because nothing ran or the time was past when it was made, has all of its attempts.
func TestFiredLateIsTriedAgain(t *testing.T) {
	t.Parallel()
	m := newMemory(func(_ context.Context, d *scheduler.Delivery) error {
		if d.Attempt == 1 {
			return bus.Errorf(bus.Unavailable, "down")
		}
		return nil
	})
	s := launch(t, bustest.Server(t), config(m))
	set(t, s, scheduler.Spec{ID: "t1", At: time.Now().Add(-48 * time.Hour), Retry: scheduler.Retry{First: 10 * time.Millisecond}})
	bustest.Eventually(t, "the second attempt", func() bool { return m.count() == 2 })
	gone(t, s, "t1")
	if st := s.Stats(); st.Dead != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestUnknownTransportWaits(t *testing.T) {
	t.Parallel()
	n := bustest.Server(t)
	m := newMemory(nil)
	var log syncBuffer
	without := launch(t, n, scheduler.Config{Shards: 2, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	fireByServer(t, without, "t1", toMemory("a"))
	fireByServer(t, without, "t2", toMemory("a"))
	bustest.Eventually(t, "both to be put off", func() bool { return without.Stats().Deferred >= 2 })
	if n := bytes.Count(log.Bytes(), []byte("deliveries wait for a process")); n != 1 {
		t.Errorf("warned %d times", n)
	}
	without.stop()
	launch(t, n, config(m))
	bustest.Eventually(t, "the deliveries", func() bool { return m.count() == 2 })
	for _, d := range m.all() {
		if d.Attempt != 1 {
			t.Errorf("attempt %d", d.Attempt)
		}
	}
}
