package scheduler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/scheduler"
)

// What happens to a timer is told on a subject of its kind and id, to whoever listens, in any language.
func TestEventSubjects(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var mu sync.Mutex
	told := map[string][]scheduler.Event{} // by subject
	sub, err := connect(t, r.node).NATS().Subscribe("default.dev.ev.>", func(m *nats.Msg) {
		var e scheduler.Event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			t.Errorf("%s: %v", m.Subject, err)
		}
		mu.Lock()
		defer mu.Unlock()
		told[m.Subject] = append(told[m.Subject], e)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		t.Fatal(err)
	}
	s, p, _ := r.run(t, scheduler.Config{})
	p.answer = func(d *scheduler.Delivery) error {
		switch {
		case d.TimerID == "dies", d.TimerID == "fails" && d.Attempt == 1:
			return &scheduler.DeliveryError{Status: 503, Err: errors.New("not now")}
		}
		return nil
	}
	create(t, s, scheduler.Spec{ID: "changes", After: time.Hour})
	if _, err := s.Update(t.Context(), "changes", 0, scheduler.Spec{After: 2 * time.Hour, Target: target()}); err != nil {
		t.Fatal(err)
	}
	if err := s.Cancel(t.Context(), "changes", 0); err != nil {
		t.Fatal(err)
	}
	quick := scheduler.Retry{MaxAttempts: 2, First: 10 * time.Millisecond, Last: 10 * time.Millisecond}
	create(t, s, scheduler.Spec{ID: "fails", After: time.Millisecond, Retry: quick})
	create(t, s, scheduler.Spec{ID: "dies", After: time.Millisecond, Retry: quick})
	create(t, s, scheduler.Spec{ID: "misses", At: time.Now().Add(-time.Hour), Repeat: &scheduler.Repeat{Every: time.Minute, Max: 3}})
	want := map[string]int{
		"created.changes": 1, "updated.changes": 1, "cancelled.changes": 1,
		"created.fails": 1, "fired.fails": 1, "failed.fails": 1, "retried.fails": 1, "delivered.fails": 1,
		"created.dies": 1, "fired.dies": 1, "failed.dies": 2, "retried.dies": 1, "dead.dies": 1,
		"created.misses": 1, "fired.misses": 1, "delivered.misses": 1, "skipped.misses": 1,
	}
	eventually(t, "all that happens is told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for name, n := range want {
			if len(told["default.dev.ev.timer."+name]) < n {
				return false
			}
		}
		return true
	})
	mu.Lock()
	defer mu.Unlock()
	checkTold(t, told, want)
	if e := told["default.dev.ev.timer.retried.fails"]; len(e) > 0 && (e[0].Attempt != 1 || e[0].Status != 503 || e[0].Error == "" || e[0].Next.IsZero() || e[0].Delivery == "") {
		t.Errorf("retried: %+v", e[0])
	}
}

// checkTold looks whether each event says what its subject says, and was expected.
func checkTold(t *testing.T, told map[string][]scheduler.Event, want map[string]int) {
	t.Helper()
	for subject, events := range told {
		name := strings.TrimPrefix(subject, "default.dev.ev.timer.")
		kind, id, _ := strings.Cut(name, ".")
		for _, e := range events {
			if string(e.Kind) != kind || e.ID != id || e.Time.IsZero() || e.Due.IsZero() || want[name] == 0 {
				t.Errorf("on %s: %+v", subject, e)
			}
		}
	}
}

// An event has the time that timers go by, whoever tells it.
func TestEventTimes(t *testing.T) {
	t.Parallel()
	s, _, _ := newRig(t).run(t, scheduler.Config{VirtualTime: true})
	events := heardOf(t, s, scheduler.Delivered)
	create(t, s, scheduler.Spec{ID: "tomorrow", After: 24 * time.Hour})
	if err := s.Advance(t.Context(), 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	for {
		if e := receive(t, events, 1)[0]; e.ID == "tomorrow" {
			if e.Time.Before(e.Due) {
				t.Errorf("delivered %s, %s before it was due", e.Time, e.Due.Sub(e.Time))
			}
			return
		}
	}
}

// heardOf is the events of a kind from now on.
func heardOf(t *testing.T, s *scheduler.Scheduler, kind scheduler.EventKind) <-chan scheduler.Event {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	events, listens := make(chan scheduler.Event, 1000), make(chan struct{})
	var watching sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		watching.Wait()
	})
	watching.Go(func() {
		heard := sync.OnceFunc(func() { close(listens) })
		for e, err := range s.Watch(ctx, scheduler.EventFilter{Kinds: []scheduler.EventKind{scheduler.Created, kind}}) {
			if err != nil {
				return // what is missed is missed by who reads
			}
			if heard(); e.Kind == kind {
				events <- e
			}
		}
	})
	for n := 0; ; n++ {
		create(t, s, scheduler.Spec{ID: fmt.Sprint("heard-", n), After: 48 * time.Hour})
		select {
		case <-listens:
			return events
		case <-time.After(10 * time.Millisecond): // until it is heard
		}
	}
}
