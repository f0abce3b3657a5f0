package scheduler

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
)

func TestRepeatCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		repeat Repeat
	}{
		{"every", Repeat{Every: MinEvery}},
		{"the longest", Repeat{Every: maxEvery, Jitter: maxJitter}},
		{"all jitter", Repeat{Every: MinEvery, Jitter: MinEvery}},
		{"cron", Repeat{Cron: "*/5 9-17 * * MON-FRI", Zone: "Europe/Berlin", Overlap: BufferOne, Missed: CatchUp, CatchUp: 1000, Window: minWindow}},
		{"cron with seconds", Repeat{Cron: "59 59 23 31 12 *", Jitter: maxJitter, Max: 1, Missed: SkipMissed, Overlap: Allow}},
		{"one day", Repeat{Cron: "0 0 29 2 *", Start: epoch, End: epoch, Missed: Once, Window: maxWindow, Overlap: Skip}},
		{"@yearly", Repeat{Cron: "@yearly"}},
		{"@annually", Repeat{Cron: "@annually"}},
		{"@monthly", Repeat{Cron: "@monthly"}},
		{"@weekly", Repeat{Cron: "@weekly"}},
		{"@daily", Repeat{Cron: "@daily"}},
		{"@midnight", Repeat{Cron: "@midnight"}},
		{"@hourly", Repeat{Cron: "@hourly"}},
		{"end of all time", Repeat{Every: time.Hour, End: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := tt.repeat.check(new(zones)); err != nil {
				t.Errorf("check = %v", err)
			}
		})
	}
}

type refusal struct {
	name   string
	repeat Repeat
	field  string
	text   string // in the message
}

func TestRepeatCheckRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range slices.Concat(refusedTimes(), refusedRest()) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.repeat.check(new(zones))
			if bus.CodeOf(err) != bus.InvalidArgument || bus.AsError(err).Details["field"] != tt.field || !strings.Contains(err.Error(), tt.text) || !strings.Contains(err.Error(), tt.field) {
				t.Errorf("check = %v, details %v; want the field %s and %q", err, bus.AsError(err), tt.field, tt.text)
			}
		})
	}
}

func refusedTimes() []refusal {
	return []refusal{
		{"nothing", Repeat{}, "repeat", "every or cron"},
		{"both", Repeat{Every: time.Hour, Cron: "@daily"}, "repeat", "one of them"},
		{"too often", Repeat{Every: MinEvery - 1}, "repeat.every", "100ms to"},
		{"negative", Repeat{Every: -1}, "repeat.every", "100ms to"},
		{"too seldom", Repeat{Every: maxEvery + 1}, "repeat.every", "100ms to"},
		{"four fields", Repeat{Cron: "* * * *"}, "repeat.cron", "5 fields"},
		{"seven fields", Repeat{Cron: "* * * * * * *"}, "repeat.cron", "5 fields"},
		{"no such minute", Repeat{Cron: "60 * * * *"}, "repeat.cron", "0-59"},
		{"Sunday is 0", Repeat{Cron: "* * * * 7"}, "repeat.cron", "0-6"},
		{"no such word", Repeat{Cron: "@reboot"}, "repeat.cron", "@daily"},
		{"an interval", Repeat{Cron: "@every 1s"}, "repeat.cron", "belongs in every"},
		{"a zone", Repeat{Cron: "TZ=UTC"}, "repeat.cron", "belongs in zone"},
		{"another zone", Repeat{Cron: "CRON_TZ=Europe/Berlin * * * * *"}, "repeat.cron", "belongs in zone"},
		{"an empty field", Repeat{Cron: ", * * * *"}, "repeat.cron", "names nothing"},
		{"no such day", Repeat{Cron: "0 0 30 2 *"}, "repeat.cron", "no such day"},
		{"nor in another month", Repeat{Cron: "0 0 31 2,4,6,9,11 ?"}, "repeat.cron", "no such day"},
		{"too long", Repeat{Cron: strings.Repeat("1,", 200) + "1 * * * *"}, "repeat.cron", "at most 256"},
	}
}

func refusedRest() []refusal {
	return []refusal{
		{"zone of an interval", Repeat{Every: time.Hour, Zone: "Europe/Berlin"}, "repeat.zone", "for cron"},
		{"no such zone", Repeat{Cron: "@daily", Zone: "Europe/Nowhere"}, "repeat.zone", "time/tzdata"},
		{"the machine's zone", Repeat{Cron: "@daily", Zone: "Local"}, "repeat.zone", "IANA"},
		{"another file", Repeat{Cron: "@daily", Zone: "right/Europe/Berlin"}, "repeat.zone", "IANA"},
		{"out of the directory", Repeat{Cron: "@daily", Zone: "../../etc/passwd"}, "repeat.zone", "IANA"},
		{"very long zone", Repeat{Cron: "@daily", Zone: strings.Repeat("E", 65)}, "repeat.zone", "IANA"},
		{"end before start", Repeat{Every: time.Hour, Start: epoch, End: epoch.Add(-1)}, "repeat.end", "before repeat.start"},
		{"start long ago", Repeat{Every: time.Hour, Start: time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC)}, "repeat.start", "1970"},
		{"start after all time", Repeat{Every: time.Hour, Start: maxTime().Add(1)}, "repeat.start", "2262"},
		{"end long ago", Repeat{Every: time.Hour, End: time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC)}, "repeat.end", "1970"},
		{"end that cannot be written", Repeat{Every: time.Hour, End: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, "repeat.end", "9999"},
		{"negative max", Repeat{Every: time.Hour, Max: -1}, "repeat.max", "negative"},
		{"negative jitter", Repeat{Every: time.Hour, Jitter: -1}, "repeat.jitter", "0 to 24h"},
		{"long jitter", Repeat{Cron: "@monthly", Jitter: maxJitter + 1}, "repeat.jitter", "0 to 24h"},
		{"jitter beyond the interval", Repeat{Every: time.Second, Jitter: time.Second + 1}, "repeat.jitter", "0 to the interval, 1s"},
		{"overlap", Repeat{Every: time.Hour, Overlap: "cancel"}, "repeat.overlap", "buffer_one"},
		{"missed", Repeat{Every: time.Hour, Missed: "all"}, "repeat.missed", "catch_up"},
		{"too many", Repeat{Every: time.Hour, Missed: CatchUp, CatchUp: 1001}, "repeat.catch_up", "1 to 1000"},
		{"negative catch-up", Repeat{Every: time.Hour, Missed: CatchUp, CatchUp: -1}, "repeat.catch_up", "1 to 1000"},
		{"catch-up without the policy", Repeat{Every: time.Hour, CatchUp: 1}, "repeat.catch_up", "policy catch_up"},
		{"small window", Repeat{Every: time.Hour, Window: minWindow - 1}, "repeat.window", "10s to"},
		{"large window", Repeat{Every: time.Hour, Window: maxWindow + 1}, "repeat.window", "10s to"},
		{"window of nothing", Repeat{Every: time.Hour, Missed: SkipMissed, Window: time.Hour}, "repeat.window", "policies once"},
	}
}
