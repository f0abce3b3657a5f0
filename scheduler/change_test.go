package scheduler_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

func TestUpdate(t *testing.T) {
	t.Parallel()
	s := newRig(t).open(t, scheduler.Config{})
	old := create(t, s, scheduler.Spec{ID: "a", After: time.Hour, Payload: []byte("one")})
	before := time.Now()
	updated, err := s.Update(t.Context(), "a", old.Revision, scheduler.Spec{After: 2 * time.Hour, Target: target(), Payload: []byte("two")})
	if err != nil {
		t.Fatal(err)
	}
	if updated.Due.Before(before.Add(2*time.Hour)) || updated.Revision <= old.Revision || !updated.Created.Equal(old.Created) || string(updated.Payload) != "two" {
		t.Errorf("updated %+v", updated)
	}
	got, err := s.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(updated, got, cmpopts.IgnoreUnexported(scheduler.Timer{})); diff != "" {
		t.Errorf("updated and found (-updated +found):\n%s", diff)
	}

	_, err = s.Update(t.Context(), "a", old.Revision, scheduler.Spec{After: time.Hour, Target: target()})
	wantCode(t, err, bus.Aborted)
	_, err = s.Update(t.Context(), "b", 0, scheduler.Spec{After: time.Hour, Target: target()})
	wantCode(t, err, bus.NotFound)
	_, err = s.Update(t.Context(), "a", 0, scheduler.Spec{ID: "b", After: time.Hour, Target: target()})
	wantCode(t, err, bus.InvalidArgument, "field", "id")
	_, err = s.Update(t.Context(), "a", 0, scheduler.Spec{After: -1, Target: target()})
	wantCode(t, err, bus.InvalidArgument, "field", "after")

	// What Get gives can be given back: nothing changes but the revision.
	again, err := s.Update(t.Context(), "a", got.Revision, got.Spec)
	if err != nil || !again.Due.Equal(got.Due) || string(again.Payload) != "two" {
		t.Errorf("given back: %+v, %v", again, err)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	s, p, _ := newRig(t).run(t, scheduler.Config{})
	tm := create(t, s, scheduler.Spec{ID: "a", After: 2 * time.Second})
	wantCode(t, s.Cancel(t.Context(), "a", tm.Revision+1), bus.Aborted)
	if err := s.Cancel(t.Context(), "a", tm.Revision); err != nil {
		t.Fatal(err)
	}
	wantCode(t, s.Cancel(t.Context(), "a", 0), bus.NotFound)
	wantCode(t, s.Cancel(t.Context(), "never", 0), bus.NotFound)
	_, err := s.Get(t.Context(), "a")
	wantCode(t, err, bus.NotFound)
	// Another one that is due later shows that the first would have been delivered.
	create(t, s, scheduler.Spec{ID: "b", After: 3 * time.Second})
	if got := p.wait(t, 1); got[0].TimerID != "b" {
		t.Errorf("%q was delivered after its cancel", got[0].TimerID)
	}
}

// What is due can be neither cancelled nor changed, be it fired yet or not.
func TestAlreadyDue(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.open(t, scheduler.Config{Grace: time.Minute}) // nobody fires
	tm := create(t, s, scheduler.Spec{ID: "a", After: time.Millisecond})
	eventually(t, "due", func() bool { return time.Now().After(tm.Due.Add(50 * time.Millisecond)) })
	wantCode(t, s.Cancel(t.Context(), "a", 0), bus.FailedPrecondition, "reason", "already_due")
	_, err := s.Update(t.Context(), "a", 0, scheduler.Spec{After: time.Hour, Target: target()})
	wantCode(t, err, bus.FailedPrecondition, "reason", "already_due")
	_, err = s.Pause(t.Context(), "a", 0)
	wantCode(t, err, bus.FailedPrecondition, "reason", "already_due")
	_, err = s.FireNow(t.Context(), "a", 0)
	wantCode(t, err, bus.FailedPrecondition, "reason", "already_due")
	if got, err := s.Get(t.Context(), "a"); err != nil || got.State != scheduler.Scheduled {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	s, p, _ := newRig(t).run(t, scheduler.Config{Grace: 100 * time.Millisecond})
	create(t, s, scheduler.Spec{ID: "a", After: 200 * time.Millisecond, Paused: true})
	create(t, s, scheduler.Spec{ID: "b", After: 2 * time.Second})
	paused, err := s.Pause(t.Context(), "b", 0)
	if err != nil || paused.State != scheduler.Paused || !paused.Paused {
		t.Fatalf("paused %+v, %v", paused, err)
	}
	if again, err := s.Pause(t.Context(), "b", 0); err != nil || again.Revision != paused.Revision {
		t.Errorf("paused again: %+v, %v", again, err)
	}
	create(t, s, scheduler.Spec{ID: "c", After: 3 * time.Second})
	if got := p.wait(t, 1); got[0].TimerID != "c" {
		t.Fatalf("%q was delivered although it is paused", got[0].TimerID)
	}
	for _, id := range []string{"a", "b"} {
		resumed, err := s.Resume(t.Context(), id, 0)
		if err != nil || resumed.State != scheduler.Scheduled {
			t.Fatalf("resumed %+v, %v", resumed, err)
		}
	}
	p.wait(t, 3) // their time has passed: at once
	wantCode(t, second(s.Resume(t.Context(), "never", 0)), bus.NotFound)
}

func TestFireNow(t *testing.T) {
	t.Parallel()
	s, p, _ := newRig(t).run(t, scheduler.Config{})
	create(t, s, scheduler.Spec{ID: "a", After: time.Hour, Payload: []byte("x")})
	create(t, s, scheduler.Spec{ID: "paused", After: time.Hour, Paused: true})
	delivery, err := s.FireNow(t.Context(), "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.wait(t, 1)[0]; got.ID != delivery || got.TimerID != "a" || string(got.Payload) != "x" || got.Attempt != 1 {
		t.Errorf("delivered %+v, want %q", got, delivery)
	}
	if _, err := s.FireNow(t.Context(), "paused", 0); err != nil {
		t.Fatal(err)
	}
	p.wait(t, 2)
	eventually(t, "gone", func() bool {
		_, err := s.Get(t.Context(), "a")
		return bus.CodeOf(err) == bus.NotFound
	})
	wantCode(t, second(s.FireNow(t.Context(), "a", 0)), bus.NotFound)
}

func second[T any](_ T, err error) error { return err }

// TestChangeFirst changes timers that others made, as the first thing that a process does.
func TestChangeFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	made := r.open(t, scheduler.Config{})
	for _, id := range []string{"pause", "fire", "cancel"} {
		create(t, made, scheduler.Spec{ID: id, Repeat: &scheduler.Repeat{Every: time.Hour}})
	}
	create(t, made, scheduler.Spec{ID: "resume", After: time.Hour, Paused: true})
	for id, change := range map[string]func(*scheduler.Scheduler) error{
		"pause":  func(s *scheduler.Scheduler) error { return second(s.Pause(t.Context(), "pause", 0)) },
		"fire":   func(s *scheduler.Scheduler) error { return second(s.FireNow(t.Context(), "fire", 0)) },
		"cancel": func(s *scheduler.Scheduler) error { return s.Cancel(t.Context(), "cancel", 0) },
		"resume": func(s *scheduler.Scheduler) error { return second(s.Resume(t.Context(), "resume", 0)) },
	} {
		if err := change(r.open(t, scheduler.Config{})); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// A cancel ends the retries of what has fired, of a timer that fires once and of one that recurs.
func TestCancelEndsRetries(t *testing.T) {
	t.Parallel()
	s, p, _ := newRig(t).run(t, scheduler.Config{})
	p.answer = func(*scheduler.Delivery) error { return errors.New("not today") }
	hourly := scheduler.Retry{First: scheduler.MaxRetryWait, Last: scheduler.MaxRetryWait, MaxAge: scheduler.MaxRetryAge}
	create(t, s, scheduler.Spec{ID: "once", After: time.Millisecond, Retry: hourly})
	create(t, s, scheduler.Spec{ID: "often", After: time.Millisecond, Retry: hourly, Repeat: &scheduler.Repeat{Every: time.Hour}})
	p.wait(t, 2)
	for _, id := range []string{"once", "often"} {
		eventually(t, id+" waits", func() bool {
			tm, err := s.Get(t.Context(), id)
			return err == nil && len(tm.Attempts) == 1 && !tm.NextAttempt.IsZero()
		})
		eventually(t, id+" is cancelled", func() bool { // while its first delivery is being acknowledged it is under way
			err := s.Cancel(t.Context(), id, 0)
			if err != nil && bus.AsError(err).Details["reason"] != "already_due" {
				t.Fatal(err)
			}
			return err == nil
		})
		for range 2 { // at once, and with what the cancel leaves behind gone
			wantCode(t, s.Cancel(t.Context(), id, 0), bus.NotFound)
			wantCode(t, second(s.Get(t.Context(), id)), bus.NotFound)
		}
	}
	if got := collect(t, s.List(t.Context(), scheduler.Filter{})); len(got) > 0 {
		t.Errorf("%q are left", ids(got))
	}
}

// An update that ends a pause goes on as Resume does: nothing of the pause happens. And what is as old as the timer itself is no mistake.
func TestUpdateEndsPause(t *testing.T) {
	t.Parallel()
	s, p, _ := newRig(t).run(t, scheduler.Config{VirtualTime: true, Shards: 1})
	const day = 24 * time.Hour
	repeat := &scheduler.Repeat{Every: day, Missed: scheduler.CatchUp, CatchUp: 10}
	start := time.Now().Add(time.Hour).UTC()
	for _, id := range []string{"updated", "resumed"} {
		create(t, s, scheduler.Spec{ID: id, At: start, Repeat: repeat, Paused: true})
	}
	create(t, s, scheduler.Spec{ID: "once", At: start, Paused: true})
	if err := s.Advance(t.Context(), 3*day); err != nil {
		t.Fatal(err)
	}
	spec := func(id string) scheduler.Spec {
		tm, err := s.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return tm.Spec
	}
	change := spec("updated")
	change.Paused = false
	updated, err := s.Update(t.Context(), "updated", 0, change)
	if err != nil {
		t.Fatal(err)
	}
	resumed, err := s.Resume(t.Context(), "resumed", 0)
	if err != nil {
		t.Fatal(err)
	}
	if want := start.Add(3 * day); !updated.Due.Equal(want) || !resumed.Due.Equal(want) || updated.Occurrence != 4 || resumed.Occurrence != 4 {
		t.Errorf("it goes on with %d, due %s; resumed with %d, due %s; want 4, due %s", updated.Occurrence, updated.Due, resumed.Occurrence, resumed.Due, want)
	}
	if n := len(p.all()); n != 0 {
		t.Errorf("%d were delivered", n)
	}

	if _, err := s.Pause(t.Context(), "updated", 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Cancel(t.Context(), "resumed", 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Advance(t.Context(), 400*day); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"updated", "once"} {
		change = spec(id)
		change.Labels = map[string]string{"team": "shop"}
		if tm, err := s.Update(t.Context(), id, 0, change); err != nil || !tm.At.Equal(change.At) {
			t.Errorf("labels of one whose time was long ago: %+v, %v", tm, err)
		}
		change.At = change.At.Add(-time.Second)
		wantCode(t, second(s.Update(t.Context(), id, 0, change)), bus.InvalidArgument, "field", "at")
	}
}
