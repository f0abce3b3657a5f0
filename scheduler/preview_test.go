package scheduler_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

func ExampleNext() {
	spec := scheduler.Spec{Repeat: &scheduler.Repeat{Cron: "30 2 * * *", Zone: "Europe/Berlin"}}
	now := time.Date(2026, time.March, 28, 0, 0, 0, 0, time.UTC)
	times, err := scheduler.Next(spec, now, 3)
	if err != nil {
		panic(err)
	}
	for _, t := range times {
		fmt.Println(t.Format(time.RFC3339))
	}
	// There is no 02:30 on the day that the clocks are put forward.
	// Output:
	// 2026-03-28T02:30:00+01:00
	// 2026-03-29T03:30:00+02:00
	// 2026-03-30T02:30:00+02:00
}

func TestNext(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.March, 28, 0, 0, 0, 0, time.UTC)
	minutes := func(m ...int) []time.Time {
		var times []time.Time
		for _, m := range m {
			times = append(times, now.Add(time.Duration(m)*time.Minute))
		}
		return times
	}
	tests := []struct {
		name string
		spec scheduler.Spec
		want []time.Time
	}{
		{"after", scheduler.Spec{After: time.Minute}, minutes(1)},
		{"at", scheduler.Spec{At: now.Add(time.Minute)}, minutes(1)},
		{"at, past", scheduler.Spec{At: now.Add(-time.Minute)}, minutes(0)},
		{"every", scheduler.Spec{Repeat: &scheduler.Repeat{Every: time.Minute, Jitter: time.Minute}}, minutes(1, 2, 3)},
		{"every, after", scheduler.Spec{After: 5 * time.Minute, Repeat: &scheduler.Repeat{Every: time.Minute}}, minutes(5, 6, 7)},
		{"every, max", scheduler.Spec{Repeat: &scheduler.Repeat{Every: time.Minute, Max: 2}}, minutes(1, 2)},
		{"every, at a time that is past", scheduler.Spec{At: now.Add(-90 * time.Second), Repeat: &scheduler.Repeat{Every: time.Hour}}, append(minutes(0), now.Add(3510*time.Second), now.Add(7110*time.Second))},
		{"over before it begins", scheduler.Spec{Repeat: &scheduler.Repeat{Every: time.Minute, End: now}}, nil},
		{"hourly", scheduler.Spec{Repeat: &scheduler.Repeat{Cron: "@hourly"}}, minutes(60, 120, 180)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := scheduler.Next(tt.spec, now, 3)
			if err != nil || !slices.EqualFunc(got, tt.want, time.Time.Equal) {
				t.Errorf("Next = %v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestNextRefuses(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.March, 28, 0, 0, 0, 0, time.UTC)
	hourly := &scheduler.Repeat{Cron: "@hourly"}
	tests := []struct {
		name  string
		spec  scheduler.Spec
		n     int
		field string
	}{
		{"none", scheduler.Spec{Repeat: hourly}, 0, ""},
		{"too many", scheduler.Spec{Repeat: hourly}, 1001, ""},
		{"no time", scheduler.Spec{}, 1, "after"},
		{"two times", scheduler.Spec{At: now, After: time.Second}, 1, "after"},
		{"negative", scheduler.Spec{After: -time.Second}, 1, "after"},
		{"too far", scheduler.Spec{After: 1<<63 - 1}, 1, "after"},
		{"too late", scheduler.Spec{At: now.AddDate(300, 0, 0)}, 1, "at"},
		{"too long ago", scheduler.Spec{At: now.AddDate(-1, 0, -1)}, 1, "at"},
		{"no repeat", scheduler.Spec{Repeat: &scheduler.Repeat{}}, 1, "repeat"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := scheduler.Next(tt.spec, now, tt.n)
			if bus.CodeOf(err) != bus.InvalidArgument || bus.AsError(err).Details["field"] != tt.field {
				t.Errorf("Next = %v, details %v; want the field %q", err, bus.AsError(err), tt.field)
			}
		})
	}
}
