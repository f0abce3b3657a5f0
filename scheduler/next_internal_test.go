package scheduler

import (
	"slices"
	"testing"
	"time"
)

var epoch = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

func table(t testing.TB, r Repeat) *timetable {
	t.Helper()
	if err := r.check(nil); err != nil {
		t.Fatal(err)
	}
	tt, err := r.timetable("seed", nil)
	if err != nil {
		t.Fatal(err)
	}
	return tt
}

// mustFirst is the first occurrence of a timer made at now.
func mustFirst(t testing.TB, tt *timetable, now time.Time) occurrence {
	t.Helper()
	o, ok := tt.first(now, time.Time{})
	if !ok {
		t.Fatal("there is no first occurrence")
	}
	return o
}

func numbers(fire []occurrence) []int64 {
	var n []int64
	for _, o := range fire {
		n = append(n, o.n)
	}
	return n
}

func TestFirst(t *testing.T) {
	t.Parallel()
	now, none := epoch, time.Time{}
	tests := []struct {
		name   string
		repeat Repeat
		start  time.Time
		want   time.Time // zero for none
	}{
		{"every: an interval from now", Repeat{Every: time.Minute}, none, now.Add(time.Minute)},
		{"every, at a time", Repeat{Every: time.Minute}, now.Add(90 * time.Second), now.Add(90 * time.Second)},
		{"every, at a time that is past", Repeat{Every: time.Minute}, now.Add(-time.Hour), now.Add(-time.Hour)},
		{"every, start to come", Repeat{Every: time.Hour, Start: now.Add(time.Minute)}, none, now.Add(time.Minute)},
		{"every, start past", Repeat{Every: time.Hour, Start: now.Add(-150 * time.Minute)}, none, now.Add(30 * time.Minute)},
		{"every, start past by whole intervals", Repeat{Every: time.Hour, Start: now.Add(-3 * time.Hour)}, none, now.Add(time.Hour)},
		{"every, a time before start", Repeat{Every: time.Hour, Start: now.Add(2 * time.Minute)}, now.Add(time.Minute), now.Add(2 * time.Minute)},
		{"every, end before", Repeat{Every: time.Hour, End: now.Add(59 * time.Minute)}, none, none},
		{"every, end included", Repeat{Every: time.Hour, End: now.Add(time.Hour)}, none, now.Add(time.Hour)},
		{"every, after all time", Repeat{Every: maxEvery}, maxTime().Add(time.Nanosecond), none},
		{"every, at the end of time", Repeat{Every: maxEvery}, maxTime(), maxTime()},
		{"cron: after now", Repeat{Cron: "0 12 * * *"}, none, now.AddDate(0, 0, 1)},
		{"cron, at a time, included", Repeat{Cron: "0 12 * * *"}, now, now},
		{"cron, at a time", Repeat{Cron: "0 12 * * *"}, now.Add(time.Nanosecond), now.AddDate(0, 0, 1)},
		{"cron, start", Repeat{Cron: "0 12 * * *", Start: now.AddDate(0, 0, 2)}, none, now.AddDate(0, 0, 2)},
		{"cron, start past", Repeat{Cron: "0 13 * * *", Start: now.AddDate(-1, 0, 0)}, none, now.Add(time.Hour)},
		{"cron, end before", Repeat{Cron: "0 13 * * *", End: now.Add(time.Minute)}, none, none},
		{"cron, end included", Repeat{Cron: "0 13 * * *", End: now.Add(time.Hour)}, none, now.Add(time.Hour)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o, ok := table(t, tt.repeat).first(now, tt.start)
			if ok == tt.want.IsZero() || ok && (o.n != 1 || !o.nominal.Equal(tt.want) || !o.due.Equal(tt.want)) {
				t.Errorf("first is %d at %s, %v, want %s", o.n, o.nominal, ok, tt.want)
			}
		})
	}
}

func TestAfterNeitherDriftsNorGoesOn(t *testing.T) {
	t.Parallel()
	tt := table(t, Repeat{Every: 333 * time.Millisecond, Max: 4})
	o := mustFirst(t, tt, epoch)
	for k := int64(1); k <= 4; k++ {
		if want := epoch.Add(time.Duration(k) * 333 * time.Millisecond); o.n != k || !o.nominal.Equal(want) {
			t.Errorf("occurrence %d is number %d at %s, want %s", k, o.n, o.nominal, want)
		}
		next, ok := tt.after(o)
		if ok != (k < 4) {
			t.Fatalf("after number %d there is one: %v", k, ok)
		}
		o = next
	}

	// Nothing is after the time that can be counted.
	tt = table(t, Repeat{Every: maxEvery})
	o = mustFirst(t, tt, epoch)
	for range 100 {
		next, ok := tt.after(o)
		if !ok {
			break
		}
		if next.nominal.Sub(o.nominal) != maxEvery {
			t.Fatalf("%s is followed by %s", o.nominal, next.nominal)
		}
		o = next
	}
	if o.nominal.After(maxTime()) || maxTime().Sub(o.nominal) >= maxEvery {
		t.Errorf("the last one is at %s", o.nominal)
	}
	tt = table(t, Repeat{Cron: "@yearly"})
	o, ok := tt.first(epoch, maxTime().AddDate(-1, 0, 0))
	if !ok || o.nominal.Year() != 2262 {
		t.Fatalf("first is at %s, %v", o.nominal, ok)
	}
	if next, ok := tt.after(o); ok {
		t.Errorf("the last one is followed by %s", next.nominal)
	}
}

func TestStep(t *testing.T) {
	t.Parallel()
	const late = 2 * time.Second
	tests := []struct {
		name    string
		repeat  Repeat
		passed  time.Duration // since the first occurrence
		fire    []int64
		skipped int64
		next    int64 // 0 for none
		made    int
	}{
		{"on time", Repeat{Every: time.Minute}, 0, []int64{1}, 0, 2, 0},
		{"just not missed", Repeat{Every: time.Minute}, late, []int64{1}, 0, 2, 0},
		{"the only one missed", Repeat{Every: time.Minute}, late + 1, []int64{1}, 0, 2, 1},
		{"several on time", Repeat{Every: time.Second}, late, []int64{1, 2, 3}, 0, 4, 0},
		{"once", Repeat{Every: time.Minute}, 10*time.Minute + 30*time.Second, []int64{11}, 10, 12, 1},
		{"once, and one on time", Repeat{Every: time.Minute}, 10*time.Minute + time.Second, []int64{10, 11}, 9, 12, 1},
		{"once, too long ago", Repeat{Every: time.Minute, Window: 10 * time.Second}, 10*time.Minute + 30*time.Second, nil, 11, 12, 0},
		{"once, in the window", Repeat{Every: time.Minute, Window: 30 * time.Second}, 10*time.Minute + 30*time.Second, []int64{11}, 10, 12, 1},
		{"skip", Repeat{Every: time.Minute, Missed: SkipMissed}, 10*time.Minute + 30*time.Second, nil, 11, 12, 0},
		{"skip, and one on time", Repeat{Every: time.Minute, Missed: SkipMissed}, 10*time.Minute + time.Second, []int64{11}, 10, 12, 0},
		{"skip, on time", Repeat{Every: time.Minute, Missed: SkipMissed}, late, []int64{1}, 0, 2, 0},
		{"catch up", Repeat{Every: time.Minute, Missed: CatchUp, CatchUp: 3}, 10*time.Minute + 30*time.Second, []int64{9, 10, 11}, 8, 12, 3},
		{"catch up, all", Repeat{Every: time.Minute, Missed: CatchUp}, 3*time.Minute + 30*time.Second, []int64{1, 2, 3, 4}, 0, 5, 4},
		{"catch up, by default", Repeat{Every: time.Minute, Missed: CatchUp}, 11*time.Minute + 30*time.Second, []int64{3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 2, 13, 10},
		{"catch up, in the window", Repeat{Every: time.Minute, Missed: CatchUp, Window: 2 * time.Minute}, 10*time.Minute + 30*time.Second, []int64{10, 11}, 9, 12, 2},
		{"up to the last number", Repeat{Every: time.Minute, Missed: CatchUp, CatchUp: 2, Max: 5}, 10 * time.Minute, []int64{4, 5}, 3, 0, 2},
		{"the last number on time", Repeat{Every: time.Minute, Max: 1}, 0, []int64{1}, 0, 0, 0},
		{"up to the end", Repeat{Every: time.Minute, End: epoch.Add(4 * time.Minute)}, 10 * time.Minute, []int64{4}, 3, 0, 1},
		{"cron, once", Repeat{Cron: "* * * * *"}, 10*time.Minute + 30*time.Second, []int64{11}, 10, 12, 1},
		{"cron, catch up", Repeat{Cron: "* * * * *", Missed: CatchUp, CatchUp: 2}, 10*time.Minute + time.Second, []int64{9, 10, 11}, 8, 12, 2},
		{"cron, up to the end", Repeat{Cron: "* * * * *", End: epoch.Add(4 * time.Minute)}, 10 * time.Minute, []int64{4}, 3, 0, 1},
		{"cron, up to the last number", Repeat{Cron: "* * * * *", Max: 4, Missed: SkipMissed}, 10 * time.Minute, nil, 4, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			table := table(t, tt.repeat)
			o := mustFirst(t, table, epoch)
			s := table.step(o, o.due.Add(tt.passed), late)
			if !slices.Equal(numbers(s.fire), tt.fire) || s.made != tt.made || s.skipped != tt.skipped || s.done != (tt.next == 0) || s.next.n != tt.next {
				t.Errorf("fires %d, %d of them missed, %d skipped, next %d, done %v; want %d, %d, %d, next %d",
					numbers(s.fire), s.made, s.skipped, s.next.n, s.done, tt.fire, tt.made, tt.skipped, tt.next)
			}
			for _, f := range append(s.fire, s.next) {
				if want := o.nominal.Add(time.Duration(f.n-1) * tt.repeat.Every); tt.repeat.Every != 0 && f.n != 0 && !f.nominal.Equal(want) {
					t.Errorf("number %d is at %s, want %s", f.n, f.nominal, want)
				}
			}
		})
	}
}

// A year that was missed is counted, not walked through: this would take minutes.
func TestStepAfterAYear(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	for _, tt := range []struct {
		repeat Repeat
		want   int64
	}{
		{Repeat{Every: MinEvery}, 10 * 60 * 60 * 24 * 365},
		{Repeat{Cron: "* * * * * *", Zone: "Europe/Berlin"}, 60 * 60 * 24 * 365},
		{Repeat{Cron: "* * * * * *", Zone: "Europe/Berlin", Missed: CatchUp, CatchUp: 1000}, 60 * 60 * 24 * 365},
		{Repeat{Cron: "* * * * * *", Jitter: time.Hour}, 60 * 60 * 24 * 365},
	} {
		table := table(t, tt.repeat)
		o := mustFirst(t, table, epoch)
		now := o.nominal.Add(year)
		s := table.step(o, now, 0)
		if n := s.skipped + int64(len(s.fire)); n != tt.want && n != tt.want+1 || s.next.n != n+1 {
			t.Errorf("%+v: %d passed, next is number %d, want %d", tt.repeat, n, s.next.n, tt.want)
		}
		if s.done || !s.next.due.After(now) || s.next.nominal.Sub(now) > time.Second {
			t.Errorf("%+v: next is at %s, done %v", tt.repeat, s.next.due, s.done)
		}
		next, skipped, ok := table.resume(o, now)
		if !ok || next != s.next || skipped != s.skipped+int64(len(s.fire)) {
			t.Errorf("%+v: resume at %d after %d, %v; step has %d", tt.repeat, next.n, skipped, ok, s.next.n)
		}
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	tt := table(t, Repeat{Every: time.Minute, Max: 5})
	o := mustFirst(t, tt, epoch)
	for _, c := range []struct {
		passed  time.Duration
		next    int64
		skipped int64
	}{{-time.Second, 1, 0}, {0, 2, 1}, {59 * time.Second, 2, 1}, {3 * time.Minute, 5, 4}, {4 * time.Minute, 0, 5}} {
		next, skipped, ok := tt.resume(o, o.due.Add(c.passed))
		if next.n != c.next || skipped != c.skipped || ok != (c.next != 0) {
			t.Errorf("%s after the first: next is %d, %d skipped, %v, want %d, %d", c.passed, next.n, skipped, ok, c.next, c.skipped)
		}
	}
}

func TestJitter(t *testing.T) {
	t.Parallel()
	for _, r := range []Repeat{
		{Every: time.Second, Jitter: time.Second},
		{Every: time.Hour, Jitter: time.Minute},
		{Cron: "0,1,30 * * * *", Jitter: time.Hour},
		{Cron: "0 2,3 * * *", Zone: "Europe/Berlin", Jitter: 24 * time.Hour},
	} {
		tt := table(t, r)
		again := table(t, r)
		other, err := r.timetable("another seed", nil)
		if err != nil {
			t.Fatal(err)
		}
		first := mustFirst(t, tt, epoch)
		var delays, differ int
		for o := first; o.n < 200; {
			next, ok := tt.after(o)
			if !ok || o.due.Before(o.nominal) || o.due.Sub(o.nominal) >= r.Jitter || !o.due.Before(next.nominal) {
				t.Fatalf("%+v: number %d at %s is due at %s, the next one is at %s, %v", r, o.n, o.nominal, o.due, next.nominal, ok)
			}
			if o.due.After(o.nominal) {
				delays++
			}
			if a, ok := again.ahead(first, next.n-1); !ok || a != next {
				t.Fatalf("%+v: number %d is %v, elsewhere %v", r, next.n, next, a)
			}
			if a, _ := other.after(o); !a.due.Equal(next.due) {
				differ++
			}
			o = next
		}
		if delays < 190 || differ < 190 {
			t.Errorf("%+v: %d of 199 are delayed, %d otherwise for another seed", r, delays, differ)
		}
	}
}

// The last that was missed by its nominal time need not be by its jitter.
func TestStepGoesByTheJitter(t *testing.T) {
	t.Parallel()
	tt := table(t, Repeat{Every: time.Minute, Jitter: time.Minute, Missed: SkipMissed})
	first := mustFirst(t, tt, epoch)
	for k := int64(1); k < 100; k++ {
		o, _ := tt.ahead(first, k)
		for _, now := range []time.Time{o.due.Add(-1), o.due, o.due.Add(1)} {
			if now.Before(first.due) {
				continue
			}
			s := tt.step(first, now, 0)
			next, fires := o.n, 0
			if !o.due.After(now) {
				next++
			}
			if o.due.Equal(now) {
				fires = 1
			}
			if s.next.n != next || len(s.fire) != fires || s.skipped != next-1-int64(fires) {
				t.Fatalf("number %d due at %s: at %s next is %d, %d fire, %d skipped", o.n, o.due, now, s.next.n, len(s.fire), s.skipped)
			}
		}
	}
}

// FuzzStep: whatever is missed, each occurrence fires or is skipped once, in order.
func FuzzStep(f *testing.F) {
	f.Add(int64(time.Second), int64(0), int64(time.Hour), int64(time.Second), 3, int64(0), int64(0), false)
	f.Add(int64(time.Minute), int64(time.Minute), int64(100*time.Hour), int64(time.Minute), 0, int64(10), int64(time.Hour), false)
	f.Add(int64(time.Minute), int64(time.Minute), int64(100*time.Hour), int64(time.Minute), 0, int64(10), int64(time.Hour), true)
	f.Fuzz(func(t *testing.T, every, jitter, passed, late int64, catchUp int, last, window int64, cron bool) {
		r := Repeat{Every: time.Duration(every), Jitter: time.Duration(jitter), Missed: CatchUp, CatchUp: catchUp, Max: last, Window: time.Duration(window)}
		if cron {
			r.Every, r.Cron, r.Zone = 0, "*/7 1-3 * * *", "Europe/Berlin"
		}
		if r.check(nil) != nil || passed < 0 || passed > int64(20*365*24*time.Hour) || late < 0 || late > 100*int64(r.Every) {
			return
		}
		tt := table(t, r)
		o := mustFirst(t, tt, epoch)
		now := o.due.Add(time.Duration(passed))
		s := tt.step(o, now, time.Duration(late))
		n := s.skipped + int64(len(s.fire))
		if !s.done && (s.next.n != n+1 || !s.next.due.After(now)) || s.done && last != n && !cron {
			t.Fatalf("%+v: next is %+v, done %v, after %d", r, s.next, s.done, n)
		}
		for i, o := range s.fire {
			if o.due.After(now) || i > 0 && (o.n != s.fire[i-1].n+1 || o.due.Before(s.fire[i-1].due)) {
				t.Fatalf("%+v: fires %+v", r, s.fire)
			}
		}
	})
}

func BenchmarkStep(b *testing.B) {
	zones := new(zones)
	r := Repeat{Cron: "30 2 * * *", Zone: "Europe/Berlin"}
	for _, passed := range []time.Duration{0, 365 * 24 * time.Hour} {
		b.Run(passed.String(), func(b *testing.B) {
			for b.Loop() {
				tt, err := r.timetable("seed", zones)
				if err != nil {
					b.Fatal(err)
				}
				o, _ := tt.first(epoch, time.Time{})
				tt.step(o, o.due.Add(passed), time.Second)
			}
		})
	}
}
