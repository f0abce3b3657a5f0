package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/robfig/cron/v3"
)

// TestCronWhenClocksChange is the policy that Repeat documents.
func TestCronWhenClocksChange(t *testing.T) {
	t.Parallel()
	for _, tt := range slices.Concat(changesInBerlin(), changesElsewhere()) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			z := zonedCron(t, tt.cron, tt.zone)
			from, to := wall(t, tt.from, z.loc), wall(t, tt.to, z.loc)
			var got []string
			for s, ok := z.next(from - 1); ok && s < to; s, ok = z.next(s) {
				got = append(got, time.Unix(s, 0).In(z.loc).Format("2006-01-02T15:04-07:00"))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q in %s comes\n%s, want\n%s", tt.cron, tt.zone, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
			if n := z.count(from-1, to-1); n != int64(len(tt.want)) {
				t.Errorf("count is %d, want %d", n, len(tt.want))
			}
		})
	}
}

// change is when an expression comes about a change of clocks.
type change struct {
	name, cron, zone string
	from, to         string   // on the zone's clock, the second one not included
	want             []string // on the zone's clock, with its offset
}

func changesInBerlin() []change {
	return []change{
		// Berlin: at 02:00 +01:00 it becomes 03:00 +02:00.
		{
			"fixed hour that is jumped over", "30 2 * * *", "Europe/Berlin", "2026-03-28T00:00", "2026-03-31T00:00",
			[]string{"2026-03-28T02:30+01:00", "2026-03-29T03:30+02:00", "2026-03-30T02:30+02:00"},
		},
		{
			"and is there anyway", "0,30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00", "2026-03-30T00:00",
			[]string{"2026-03-29T03:00+02:00", "2026-03-29T03:30+02:00"},
		},
		{
			"the moment of the jump", "0 2 * * *", "Europe/Berlin", "2026-03-29T00:00", "2026-03-30T00:00",
			[]string{"2026-03-29T03:00+02:00"},
		},
		{
			"in order", "45 1-3 * * *", "Europe/Berlin", "2026-03-29T00:00", "2026-03-30T00:00",
			[]string{"2026-03-29T01:45+01:00", "2026-03-29T03:45+02:00"},
		},
		{
			"every hour, forward", "*/30 * * * *", "Europe/Berlin", "2026-03-29T01:00", "2026-03-29T04:30",
			[]string{"2026-03-29T01:00+01:00", "2026-03-29T01:30+01:00", "2026-03-29T03:00+02:00", "2026-03-29T03:30+02:00", "2026-03-29T04:00+02:00"},
		},
		// At 03:00 +02:00 it becomes 02:00 +01:00.
		{
			"fixed hour that comes twice", "30 2 * * *", "Europe/Berlin", "2026-10-24T00:00", "2026-10-27T00:00",
			[]string{"2026-10-24T02:30+02:00", "2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"},
		},
		{
			"and what follows it", "0 2,3 * * *", "Europe/Berlin", "2026-10-25T00:00", "2026-10-26T00:00",
			[]string{"2026-10-25T02:00+02:00", "2026-10-25T03:00+01:00"},
		},
		{
			"every hour, back", "*/30 * * * *", "Europe/Berlin", "2026-10-25T01:30", "2026-10-25T03:30",
			[]string{"2026-10-25T01:30+02:00", "2026-10-25T02:00+02:00", "2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00", "2026-10-25T02:30+01:00", "2026-10-25T03:00+01:00"},
		},
		{
			"a range of all hours is every hour", "0 0-23 * * *", "Europe/Berlin", "2026-10-25T01:30", "2026-10-25T04:00",
			[]string{"2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"},
		},
	}
}

func changesElsewhere() []change {
	return []change{
		// New York: at 02:00 -05:00 it becomes 03:00 -04:00, at 02:00 -04:00 it becomes 01:00 -05:00.
		{
			"New York forward", "15 2 * * *", "America/New_York", "2026-03-07T00:00", "2026-03-10T00:00",
			[]string{"2026-03-07T02:15-05:00", "2026-03-08T03:15-04:00", "2026-03-09T02:15-04:00"},
		},
		{
			"New York back", "15 1 * * *", "America/New_York", "2026-10-31T00:00", "2026-11-03T00:00",
			[]string{"2026-10-31T01:15-04:00", "2026-11-01T01:15-04:00", "2026-11-02T01:15-05:00"},
		},
		{
			"New York every hour, forward", "@hourly", "America/New_York", "2026-03-08T01:00", "2026-03-08T05:00",
			[]string{"2026-03-08T01:00-05:00", "2026-03-08T03:00-04:00", "2026-03-08T04:00-04:00"},
		},
		{
			"New York every hour, back", "@hourly", "America/New_York", "2026-11-01T00:00", "2026-11-01T03:00",
			[]string{"2026-11-01T00:00-04:00", "2026-11-01T01:00-04:00", "2026-11-01T01:00-05:00", "2026-11-01T02:00-05:00"},
		},
		// Lord Howe: at 02:00 +10:30 it becomes 02:30 +11:00, at 02:00 +11:00 it becomes 01:30 +10:30.
		{
			"half an hour forward", "15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00", "2026-10-06T00:00",
			[]string{"2026-10-03T02:15+10:30", "2026-10-04T02:45+11:00", "2026-10-05T02:15+11:00"},
		},
		{
			"half an hour forward, after it", "45 2 * * *", "Australia/Lord_Howe", "2026-10-04T00:00", "2026-10-05T00:00",
			[]string{"2026-10-04T02:45+11:00"},
		},
		{
			"half an hour forward, every hour", "0,30 * * * *", "Australia/Lord_Howe", "2026-10-04T01:00", "2026-10-04T04:00",
			[]string{"2026-10-04T01:00+10:30", "2026-10-04T01:30+10:30", "2026-10-04T02:30+11:00", "2026-10-04T03:00+11:00", "2026-10-04T03:30+11:00"},
		},
		{
			"half an hour back", "45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00", "2026-04-07T00:00",
			[]string{"2026-04-04T01:45+11:00", "2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30"},
		},
		{
			"half an hour back, every hour", "*/30 * * * *", "Australia/Lord_Howe", "2026-04-05T01:00", "2026-04-05T03:00",
			[]string{"2026-04-05T01:00+11:00", "2026-04-05T01:30+11:00", "2026-04-05T01:30+10:30", "2026-04-05T02:00+10:30", "2026-04-05T02:30+10:30"},
		},
		// Cairo has no midnight on that Friday; it jumps from Thursday's last minute to 01:00.
		{
			"no midnight", "@daily", "Africa/Cairo", "2026-04-23T00:00", "2026-04-26T00:00",
			[]string{"2026-04-23T00:00+02:00", "2026-04-24T01:00+03:00", "2026-04-25T00:00+03:00"},
		},
		{
			"no midnight, by weekday", "0 0 * * FRI", "Africa/Cairo", "2026-04-18T00:00", "2026-05-02T00:00",
			[]string{"2026-04-24T01:00+03:00", "2026-05-01T00:00+03:00"},
		},
		// Apia had no 30 December 2011.
		{
			"no such day", "0 9 * * *", "Pacific/Apia", "2011-12-29T00:00", "2012-01-02T00:00",
			[]string{"2011-12-29T09:00-10:00", "2011-12-31T09:00+14:00", "2012-01-01T09:00+14:00"},
		},
	}
}

// TestCronAgainstTheDefinition compares with what the policy's words say, minute by minute around changes of many clocks.
func TestCronAgainstTheDefinition(t *testing.T) {
	t.Parallel()
	expressions := []string{
		"* * * * *", "*/15 * * * *", "7 * * * *", "0 * 29 3 *", "30 2 * * *", "*/20 1-3 * * *", "* 2 * * *", "0 */2 * * *", "59 23 * * *",
		"0 0 * * *", "30 0,23 * * SUN", "0 1 1 * 1", "15 0-22 * * *", "45 1 25 10,4 *",
	}
	changes := map[string][]string{
		"Europe/Berlin":       {"2026-03-29", "2026-10-25"},
		"America/New_York":    {"2026-03-08", "2026-11-01"},
		"Australia/Lord_Howe": {"2026-10-04", "2026-04-05"},
		"Africa/Cairo":        {"2026-04-24", "2026-10-30"},
		"America/Sao_Paulo":   {"2018-11-04", "2018-02-18"},
		"Africa/Casablanca":   {"2026-02-15", "2026-03-22"},
		"Pacific/Apia":        {"2011-12-30"},
		"Asia/Pyongyang":      {"2018-05-05"},
		"Antarctica/Troll":    {"2026-03-29", "2026-10-25"},
		"UTC":                 {"2026-03-29"},
	}
	for zone, days := range changes {
		for _, text := range expressions {
			z := zonedCron(t, text, zone)
			for _, day := range days {
				from := wall(t, day+"T00:00", time.UTC) - aDay
				to := from + 3*aDay
				want := byDefinition(t, text, z.loc, from, to)
				var got []int64
				for s, ok := z.next(from - 1); ok && s < to; s, ok = z.next(s) {
					got = append(got, s)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%q in %s about %s comes %d times, want %d; first difference: %s", text, zone, day, len(got), len(want), difference(got, want, z.loc))
					continue
				}
				checkCounts(t, z, got, from, to)
			}
		}
	}
}

// checkCounts tries count and nth between any two seconds.
func checkCounts(t *testing.T, z zoned, all []int64, from, to int64) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, uint64(from)))
	for range 20 {
		a := from + random.Int64N(to-from)
		b := a + random.Int64N(to-a)
		i, _ := slices.BinarySearch(all, a+1)
		j, _ := slices.BinarySearch(all, b+1)
		if n := z.count(a, b); n != int64(j-i) {
			t.Errorf("count(%d, %d) is %d, want %d", a, b, n, j-i)
		}
		k := 1 + random.IntN(10)
		at, ok := z.nth(a, int64(k), to-1)
		if want := i+k-1 < len(all); ok != want || ok && at != all[i+k-1] {
			t.Errorf("nth(%d, %d) is %d, %v, want %v", a, k, at, ok, want)
		}
	}
}

// byDefinition is when the expression, whose second is 0, comes from from on and before to.
func byDefinition(t *testing.T, text string, loc *time.Location, from, to int64) []int64 {
	t.Helper()
	parsed, err := cron.ParseStandard(text)
	if err != nil {
		t.Fatal(err)
	}
	matching := map[int64]bool{} // what a clock on the wall shows
	for at := time.Unix(from-5*aDay, 0).UTC(); at.Unix() < to+5*aDay; {
		if at = parsed.Next(at); at.IsZero() {
			break
		}
		matching[at.Unix()] = true
	}
	everyHour := strings.Fields(text)[1] == "*"
	offset := func(s int64) int64 {
		_, o := time.Unix(s, 0).In(loc).Zone()
		return int64(o)
	}
	all := map[int64]bool{}
	shown := map[int64]bool{}
	for s := from - 2*aDay; s < to; s += 60 {
		before, after := offset(s-60), offset(s)
		for w := s + before; w < s+after && !everyHour; w += 60 { // jumped over
			if matching[w] {
				all[w-before] = true
			}
		}
		if w := s + after; matching[w] && (everyHour || !shown[w]) {
			all[s] = true
		}
		shown[s+after] = true
	}
	var times []int64
	for s := range all {
		if s >= from && s < to {
			times = append(times, s)
		}
	}
	slices.Sort(times)
	return times
}

func difference(got, want []int64, loc *time.Location) string {
	at := func(times []int64, i int) string {
		if i >= len(times) {
			return "none"
		}
		return time.Unix(times[i], 0).In(loc).Format(time.RFC3339)
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	return fmt.Sprintf("%s, want %s", at(got, i), at(want, i))
}

func zonedCron(t testing.TB, text, zone string) zoned {
	t.Helper()
	e, err := parseCron(text)
	if err != nil {
		t.Fatal(err)
	}
	loc, err := new(zones).load(zone)
	if err != nil {
		t.Fatal(err)
	}
	return zoned{e, loc}
}

// wall is the second that a clock of loc shows so.
func wall(t testing.TB, text string, loc *time.Location) int64 {
	t.Helper()
	at, err := time.ParseInLocation("2006-01-02T15:04", text, loc)
	if err != nil {
		t.Fatal(err)
	}
	return at.Unix()
}

// The 29th of February that a century leaves out is eight years from the last.
func TestCronLeapDay(t *testing.T) {
	t.Parallel()
	z := zonedCron(t, "0 0 29 2 *", "Europe/Berlin")
	s, ok := z.next(wall(t, "2096-03-01T00:00", z.loc))
	if want := wall(t, "2104-02-29T00:00", z.loc); !ok || s != want {
		t.Errorf("next is %d, %v, want %d", s, ok, want)
	}
}

// FuzzCron: whatever is accepted comes as the parser's own schedule says in UTC, one after the other, and is counted right.
func FuzzCron(f *testing.F) {
	for _, text := range []string{
		"30 2 * * *", "*/5 1-3,7 1 JAN-mar MON", "1 2 3 4 5 6", "0 0 29 2 *", "0 0 31 */2 ?", "@weekly", "@every 1s", "TZ=UTC", "CRON_TZ=UTC * * * * *",
		", * * * *", "* * 30 2 *", "* * 30 2 1", "0-59/61 * * * *", "* * * * * * *", "\x00", "* * * * 7",
	} {
		f.Add(text, int64(1_770_000_000), int64(1000))
	}
	f.Fuzz(func(t *testing.T, text string, from, width int64) {
		e, err := parseCron(text)
		if err != nil {
			return
		}
		from = (from%forever + forever) % maxTime().Unix()
		width = (width%(10*aDay) + 10*aDay) % (10 * aDay)
		parsed, err := cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor).Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, loc := range []*time.Location{time.UTC, zonedCron(t, "@daily", "Australia/Lord_Howe").loc} {
			z := zoned{e, loc}
			var n int64
			last := from
			for range 200 {
				s, ok := z.next(last)
				if !ok || s <= last {
					t.Fatalf("%q: next(%d) is %d, %v", text, last, s, ok)
				}
				if want := parsed.Next(time.Unix(last, 0).UTC()); loc == time.UTC && !want.IsZero() && want.Unix() != s {
					t.Fatalf("%q: next(%d) is %s, want %s", text, last, time.Unix(s, 0).UTC(), want)
				}
				if s > from+width {
					break
				}
				n++
				last = s
			}
			if got := z.count(from, last); got != n {
				t.Fatalf("%q: count(%d, %d) is %d, want %d", text, from, last, got, n)
			}
			if at, ok := z.nth(from, max(n, 1), last); ok != (n > 0) || ok && at != last {
				t.Fatalf("%q: nth(%d, %d) is %d, %v, want %d", text, from, n, at, ok, last)
			}
		}
	})
}
