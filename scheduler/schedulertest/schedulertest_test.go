package schedulertest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/schedulertest"
)

func TestMain(m *testing.M) { bustest.Main(m, "github.com/skybus-io/skybus/") }

// outbox is a transport for tests.
type outbox struct {
	fail int // attempts, at first

	mu  sync.Mutex
	got []scheduler.Delivery
}

func (*outbox) Check(context.Context, scheduler.Target) error { return nil }

func (o *outbox) Deliver(_ context.Context, d *scheduler.Delivery) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.got = append(o.got, *d)
	if o.fail--; o.fail >= 0 {
		return errors.New("not yet")
	}
	return nil
}

func (o *outbox) all() []scheduler.Delivery {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]scheduler.Delivery(nil), o.got...)
}

func run(t *testing.T) (*schedulertest.Timers, *outbox) {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	o := &outbox{}
	return schedulertest.Run(t, conn, scheduler.Config{Transports: map[string]scheduler.Transport{"mail": o}}), o
}

func create(t *testing.T, s *schedulertest.Timers, spec scheduler.Spec) scheduler.Timer {
	t.Helper()
	spec.Target = scheduler.Target{URI: "mail:ada", Transport: "mail"}
	tm, err := s.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return tm
}

func TestAdvance(t *testing.T) {
	t.Parallel()
	s, o := run(t)
	create(t, s, scheduler.Spec{ID: "tomorrow", After: 24 * time.Hour})
	create(t, s, scheduler.Spec{ID: "hour", After: time.Hour})
	begin := time.Now()
	s.Advance(59 * time.Minute)
	if n := len(o.all()); n != 0 {
		t.Fatalf("%d delivered too early", n)
	}
	s.Advance(2 * time.Minute)
	if got := o.all(); len(got) != 1 || got[0].TimerID != "hour" {
		t.Fatalf("delivered %+v", got)
	}
	s.Advance(23 * time.Hour)
	if got := o.all(); len(got) != 2 || got[1].TimerID != "tomorrow" || got[1].Fired.Before(got[1].Due) {
		t.Fatalf("delivered %+v", got)
	}
	// What is made now is due from the time that it is now.
	tm := create(t, s, scheduler.Spec{ID: "later", After: time.Hour})
	if tm.Due.Before(begin.Add(24 * time.Hour)) {
		t.Errorf("due %s, and it is a day after %s", tm.Due, begin)
	}
	s.Advance(time.Hour)
	if n := len(o.all()); n != 3 {
		t.Errorf("%d delivered", n)
	}
}

func TestAdvanceTakesEveryTurn(t *testing.T) {
	t.Parallel()
	s, o := run(t)
	create(t, s, scheduler.Spec{ID: "minute", After: time.Minute, Repeat: &scheduler.Repeat{Every: time.Minute}})
	create(t, s, scheduler.Spec{ID: "day", Repeat: &scheduler.Repeat{Cron: "30 2 * * *", Zone: "Europe/Berlin"}})
	s.Advance(time.Hour)
	n := 0
	for i, d := range o.all() {
		if d.TimerID == "minute" {
			n++
		}
		if i > 0 && d.Due.Before(o.all()[i-1].Due) {
			t.Errorf("%s, due %s, came after what was due %s", d.TimerID, d.Due, o.all()[i-1].Due)
		}
	}
	if n != 60 {
		t.Errorf("%d turns of a minute in an hour", n)
	}
}

func TestAdvanceRetries(t *testing.T) {
	t.Parallel()
	s, o := run(t)
	o.fail = 3
	create(t, s, scheduler.Spec{ID: "a", After: time.Hour, Retry: scheduler.Retry{First: time.Hour, Last: time.Hour}})
	s.Advance(time.Hour)
	if n := len(o.all()); n != 1 {
		t.Fatalf("%d attempts", n)
	}
	s.Advance(4 * time.Hour)
	got := o.all()
	if len(got) != 4 || got[3].Attempt != 4 || got[3].ID != got[0].ID {
		t.Errorf("attempts %+v", got)
	}
	if _, err := s.Get(t.Context(), "a"); bus.CodeOf(err) != bus.NotFound {
		t.Errorf("then: %v", err)
	}
}
