package scheduler_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

func TestRecurringDoesNotDrift(t *testing.T) {
	t.Parallel()
	s, p, _ := newRig(t).run(t, scheduler.Config{})
	const every = 100 * time.Millisecond
	made := create(t, s, scheduler.Spec{ID: "a", After: every, Repeat: &scheduler.Repeat{Every: every, Overlap: scheduler.Allow, Missed: scheduler.CatchUp, CatchUp: 1000}})
	got := p.wait(t, 15)
	seen := map[int64]scheduler.Delivery{}
	for _, d := range got {
		if other, twice := seen[d.Occurrence]; twice {
			t.Errorf("occurrence %d came twice, as %q and %q", d.Occurrence, d.ID, other.ID)
		}
		seen[d.Occurrence] = d
		if want := made.Due.Add(time.Duration(d.Occurrence-1) * every); !d.Due.Equal(want) {
			t.Errorf("occurrence %d was due %s, want %s", d.Occurrence, d.Due, want)
		}
		if d.Fired.Before(d.Due) {
			t.Errorf("occurrence %d fired %s early", d.Occurrence, d.Due.Sub(d.Fired))
		}
	}
	if err := s.Cancel(t.Context(), "a", 0); err != nil {
		t.Fatal(err)
	}
	n := len(p.all())
	create(t, s, scheduler.Spec{ID: "last", After: time.Second})
	eventually(t, "the last one", func() bool {
		all := p.all()
		return all[len(all)-1].TimerID == "last"
	})
	if after := len(p.all()) - 1; after > n+1 { // one may have been on its way
		t.Errorf("%d occurrences came after the cancel", after-n)
	}
}

func TestRecurringEnds(t *testing.T) {
	t.Parallel()
	s, p, _ := newRig(t).run(t, scheduler.Config{})
	create(t, s, scheduler.Spec{ID: "a", After: time.Millisecond, Repeat: &scheduler.Repeat{Every: 100 * time.Millisecond, Max: 3, Overlap: scheduler.Allow, Missed: scheduler.CatchUp}})
	p.wait(t, 3)
	eventually(t, "gone", func() bool {
		_, err := s.Get(t.Context(), "a")
		return bus.CodeOf(err) == bus.NotFound
	})
	if n := len(p.all()); n != 3 {
		t.Errorf("%d occurrences, want 3", n)
	}
}

// Who is slow: what overlaps does not happen, or waits, or happens beside.
func TestOverlap(t *testing.T) {
	t.Parallel()
	for policy, want := range map[scheduler.Overlap]struct{ together, waiting int }{
		scheduler.Skip: {1, 0}, scheduler.BufferOne: {1, 1}, scheduler.Allow: {3, 0},
	} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			s, p, _ := newRig(t).run(t, scheduler.Config{})
			release := make(chan struct{})
			p.answer = func(*scheduler.Delivery) error { <-release; return nil }
			create(t, s, scheduler.Spec{ID: "a", After: time.Millisecond, Repeat: &scheduler.Repeat{Every: 100 * time.Millisecond, Max: 8, Overlap: policy}})
			p.wait(t, want.together)
			eventually(t, "all occurrences are past", func() bool {
				for tm, err := range s.List(t.Context(), scheduler.Filter{States: []scheduler.State{scheduler.Scheduled}}) {
					if err != nil {
						t.Fatal(err)
					}
					return tm.ID == ""
				}
				return true
			})
			if policy != scheduler.Allow && len(p.all()) != want.together {
				t.Errorf("%d at the same time, want %d", len(p.all()), want.together)
			}
			close(release)
			if policy == scheduler.Allow {
				p.wait(t, want.together)
				return
			}
			p.wait(t, want.together+want.waiting)
			eventually(t, "all are delivered", func() bool { return bus.CodeOf(second(s.Get(t.Context(), "a"))) == bus.NotFound })
			if n := len(p.all()); n != want.together+want.waiting {
				t.Errorf("%d were delivered, want %d", n, want.together+want.waiting)
			}
		})
	}
}

// However long a target is dead, no more occurrences of a timer than about MaxUnderWay wait for it.
func TestUnderWayIsBounded(t *testing.T) {
	t.Parallel()
	for name, repeat := range map[string]scheduler.Repeat{
		"allow":    {Missed: scheduler.CatchUp, CatchUp: scheduler.MaxUnderWay, Overlap: scheduler.Allow},
		"catch up": {Missed: scheduler.CatchUp, CatchUp: scheduler.MaxUnderWay},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p, stop := newRig(t).run(t, scheduler.Config{Shards: 1})
			p.answer = func(*scheduler.Delivery) error { return bus.Errorf(bus.Unavailable, "dead") }
			skipped := heardOf(t, s, scheduler.Skipped)
			repeat.Every = 100 * time.Millisecond
			underWay := func() int {
				occurrences := map[int64]bool{} // one that is about to be tried again is there twice for a moment
				for tm, err := range s.List(t.Context(), scheduler.Filter{States: []scheduler.State{scheduler.Firing, scheduler.Retrying}}) {
					if err != nil {
						t.Fatal(err)
					}
					occurrences[tm.Occurrence] = true
				}
				return len(occurrences)
			}
			create(t, s, scheduler.Spec{
				ID: "a", At: time.Now().Add(-3 * time.Minute), Repeat: &repeat,
				Retry: scheduler.Retry{MaxAttempts: 50, First: time.Hour, Last: time.Hour},
			})
			upToNow := func() bool {
				for tm, err := range s.List(t.Context(), scheduler.Filter{Prefix: "a", States: []scheduler.State{scheduler.Scheduled}}) {
					if err != nil {
						t.Fatal(err)
					}
					return time.Since(tm.Due) < 10*time.Second // of the three minutes, also where the machine is busy
				}
				return false
			}
			eventually(t, "it caught up", upToNow)
			stop() // once more as much is missed
			_, err := s.Update(t.Context(), "a", 0, scheduler.Spec{
				At: time.Now().Add(-3 * time.Minute), Target: target(), Repeat: &repeat,
				Retry: scheduler.Retry{MaxAttempts: 50, First: time.Hour, Last: time.Hour},
			})
			if err != nil {
				t.Fatal(err)
			}
			start(t, s)
			eventually(t, "it caught up again", upToNow)
			for range 5 {
				receive(t, skipped, 1)
			}
			// Some more where the server told another process, too, to fire what is overdue.
			if n := underWay(); n < scheduler.MaxUnderWay*9/10 || n > scheduler.MaxUnderWay*12/10 {
				t.Errorf("%d are under way, want %d", n, scheduler.MaxUnderWay)
			}
		})
	}
}

// What nobody could fire is made up for as the timer says, and what does not happen is told of.
func TestMissed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		repeat  scheduler.Repeat
		happen  []int64 // of the ten that were missed
		skipped int64
	}{
		"once":                {scheduler.Repeat{}, []int64{10}, 9},
		"skip":                {scheduler.Repeat{Missed: scheduler.SkipMissed}, nil, 10},
		"catch up":            {scheduler.Repeat{Missed: scheduler.CatchUp, CatchUp: 3}, []int64{8, 9, 10}, 7},
		"catch up, a window":  {scheduler.Repeat{Missed: scheduler.CatchUp, Window: 150 * time.Second}, []int64{9, 10}, 8},
		"catch up, buffering": {scheduler.Repeat{Missed: scheduler.CatchUp, CatchUp: 3, Overlap: scheduler.BufferOne}, []int64{8, 9, 10}, 7},
		"catch up, together":  {scheduler.Repeat{Missed: scheduler.CatchUp, CatchUp: 3, Overlap: scheduler.Allow}, []int64{8, 9, 10}, 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p, _ := newRig(t).run(t, scheduler.Config{})
			var together, most atomic.Int32
			p.answer = func(*scheduler.Delivery) error {
				most.Store(max(most.Load(), together.Add(1)))
				defer together.Add(-1)
				<-time.After(100 * time.Millisecond) // so that what can overlap does
				return nil
			}
			skipped := heardOf(t, s, scheduler.Skipped)
			tt.repeat.Every, tt.repeat.Max = time.Minute, 10
			create(t, s, scheduler.Spec{ID: "a", At: time.Now().Add(-10*time.Minute + 30*time.Second), Repeat: &tt.repeat})
			eventually(t, "all are over", func() bool { return bus.CodeOf(second(s.Get(t.Context(), "a"))) == bus.NotFound })
			var happened []int64
			for _, d := range p.all() {
				happened = append(happened, d.Occurrence)
			}
			alone := tt.repeat.Overlap != scheduler.Allow
			if !alone {
				slices.Sort(happened)
			}
			if !slices.Equal(happened, tt.happen) || alone && most.Load() > 1 {
				t.Errorf("%d happened, %d at the same time, want %d", happened, most.Load(), tt.happen)
			}
			if e := receive(t, skipped, 1)[0]; e.Count != tt.skipped || e.ID != "a" {
				t.Errorf("skipped: %+v, want %d", e, tt.skipped)
			}
		})
	}
}

func TestPauseOfRecurring(t *testing.T) {
	t.Parallel()
	s, p, _ := newRig(t).run(t, scheduler.Config{})
	create(t, s, scheduler.Spec{ID: "a", After: time.Millisecond, Repeat: &scheduler.Repeat{Every: 100 * time.Millisecond, Missed: scheduler.CatchUp}})
	p.wait(t, 2)
	if _, err := s.Pause(t.Context(), "a", 0); err != nil {
		t.Fatal(err)
	}
	create(t, s, scheduler.Spec{ID: "b", After: time.Second})
	eventually(t, "a second of pause", func() bool {
		all := p.all()
		return all[len(all)-1].TimerID == "b"
	})
	paused := len(p.all())
	if delivery, err := s.FireNow(t.Context(), "a", 0); err != nil {
		t.Fatal(err)
	} else if all := p.wait(t, paused+1); all[paused].ID != delivery {
		t.Errorf("%q was delivered, want the one fired by hand, %q", all[paused].ID, delivery)
	}
	before := time.Now()
	if _, err := s.Resume(t.Context(), "a", 0); err != nil {
		t.Fatal(err)
	}
	for _, d := range p.wait(t, paused+3)[paused+1:] {
		if d.Due.Before(before.Add(-time.Second / 10)) {
			t.Errorf("occurrence %d of the pause, due %s, happened after it", d.Occurrence, d.Due)
		}
	}
}

// Days of cron over the change of the clocks, through the real path.
func TestCronOverDaylightSaving(t *testing.T) {
	t.Parallel()
	s, p, _ := newRig(t).run(t, scheduler.Config{VirtualTime: true})
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	// The clocks jump at 2:00 on March 28th of 2027.
	start := time.Date(2027, time.March, 26, 12, 0, 0, 0, berlin)
	create(t, s, scheduler.Spec{ID: "a", Repeat: &scheduler.Repeat{Cron: "30 2 * * *", Zone: "Europe/Berlin", Start: start}})
	if err := s.Advance(t.Context(), time.Until(start.Add(4*24*time.Hour))); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range p.all() {
		got = append(got, d.Due.In(berlin).Format("02 15:04"))
	}
	if want := []string{"27 02:30", "28 03:30", "29 02:30", "30 02:30"}; !slices.Equal(got, want) {
		t.Errorf("fired %q, want %q", got, want)
	}
}
