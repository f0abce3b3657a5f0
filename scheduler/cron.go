package scheduler

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

const (
	maxCron = 256 // characters
	aDay    = 24 * 60 * 60
	// Within so many months a day comes that is in the expression: from one 29 February to the next it is 8 years at most.
	cronMonths = 9 * 12
	star       = 1 << 63 // the parser's mark of a field that is not restricted
)

// expression is a cron expression as sets of bits. It knows the calendar and no time zone: its seconds are those a clock on the
// wall shows, counted from 1970 as if there were none but UTC.
type expression struct {
	second, minute, hour, month uint64
	dom, dow                    uint64
	// everyHour: the clock's hour does not matter. See Repeat for what that means when clocks change.
	everyHour bool
}

// parseCron takes what the parser takes, less what Repeat has fields for, and what never comes.
func parseCron(text string) (*expression, error) {
	switch {
	case len(text) > maxCron:
		return nil, fmt.Errorf("it has %d characters, at most %d are allowed", len(text), maxCron)
	case strings.HasPrefix(text, "TZ=") || strings.HasPrefix(text, "CRON_TZ="):
		return nil, errors.New("the time zone belongs in zone")
	case strings.HasPrefix(text, "@every"):
		return nil, errors.New("an interval belongs in every")
	}
	parser := cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)
	parsed, err := parser.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w: it must have 5 fields (minute 0-59, hour 0-23, day 1-31, month 1-12, weekday 0-6 from Sunday on), "+
			"6 with the second 0-59 first, or be one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly", err)
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, errors.New("it is no expression of fields")
	}
	e := &expression{
		second: spec.Second &^ star, minute: spec.Minute &^ star, hour: spec.Hour &^ star, month: spec.Month &^ star,
		dom: spec.Dom, dow: spec.Dow,
		everyHour: bits.OnesCount64(spec.Hour&^star) == 24,
	}
	if e.second == 0 || e.minute == 0 || e.hour == 0 || e.month == 0 || e.dom == 0 || e.dow == 0 {
		return nil, errors.New("a field names nothing")
	}
	if _, ok := e.next(0); !ok {
		return nil, errors.New("there is no such day in any year")
	}
	return e, nil
}

// next is the first second at or after w that is in the expression.
func (e *expression) next(w int64) (int64, bool) {
	day := floorDiv(w, aDay)
	year, month, date := time.Unix(day*aDay, 0).UTC().Date()
	days := e.days(year, month)
	if has(days, date) {
		if s, ok := e.nextInDay(int(w - day*aDay)); ok {
			return day*aDay + int64(s), true
		}
	}
	first, _ := e.nextInDay(0)
	for range cronMonths {
		if d, ok := nextBit(days, date+1); ok {
			return time.Date(year, month, d, 0, 0, first, 0, time.UTC).Unix(), true
		}
		date = 0
		if month++; month > time.December {
			year, month = year+1, time.January
		}
		days = e.days(year, month)
	}
	return 0, false
}

// count is how many seconds from a on and before b are in the expression.
func (e *expression) count(a, b int64) int64 {
	if b <= a {
		return 0
	}
	first, last := floorDiv(a, aDay), floorDiv(b, aDay)
	n := e.countDays(first, last)*int64(e.countInDay(aDay)) - e.countDays(first, first+1)*int64(e.countInDay(int(a-first*aDay)))
	return n + e.countDays(last, last+1)*int64(e.countInDay(int(b-last*aDay)))
}

// countDays is how many days from a on and before b, counted from 1970, are in the expression.
func (e *expression) countDays(a, b int64) int64 {
	n := 0
	year, month, date := time.Unix(a*aDay, 0).UTC().Date()
	for a < b {
		days := e.days(year, month) >> date
		left := time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC).Unix()/aDay - a
		if left > b-a {
			left = b - a
			days &= 1<<left - 1
		}
		n += bits.OnesCount64(days)
		a += left
		date = 1
		if month++; month > time.December {
			year, month = year+1, time.January
		}
	}
	return int64(n)
}

// days is the days of a month that are in the expression. Where both day and weekday are restricted, either is enough.
func (e *expression) days(year int, month time.Month) uint64 {
	if !has(e.month, int(month)) {
		return 0
	}
	first := time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
	length := first.AddDate(0, 1, -1).Day()
	var byWeekday uint64
	for d := range length {
		if has(e.dow, (int(first.Weekday())+d)%7) {
			byWeekday |= 1 << (d + 1)
		}
	}
	byDay := e.dom & (1<<(length+1) - 1)
	if (e.dom|e.dow)&star != 0 {
		return byDay & byWeekday
	}
	return byDay | byWeekday
}

// nextInDay is the first second at or after s of a day that is in the expression.
func (e *expression) nextInDay(s int) (int, bool) {
	h, m := s/3600, s/60%60
	if has(e.hour, h) {
		if has(e.minute, m) {
			if second, ok := nextBit(e.second, s%60); ok {
				return h*3600 + m*60 + second, true
			}
		}
		if minute, ok := nextBit(e.minute, m+1); ok {
			return h*3600 + minute*60 + bits.TrailingZeros64(e.second), true
		}
	}
	if hour, ok := nextBit(e.hour, h+1); ok {
		return hour*3600 + bits.TrailingZeros64(e.minute)*60 + bits.TrailingZeros64(e.second), true
	}
	return 0, false
}

// countInDay is how many of the first s seconds of a day are in the expression.
func (e *expression) countInDay(s int) int {
	h, m := s/3600, s/60%60
	n := below(e.hour, h) * bits.OnesCount64(e.minute) * bits.OnesCount64(e.second)
	if has(e.hour, h) {
		n += below(e.minute, m) * bits.OnesCount64(e.second)
		if has(e.minute, m) {
			n += below(e.second, s%60)
		}
	}
	return n
}

func has(set uint64, i int) bool { return set>>i&1 != 0 }

// below is how many are in the set before i.
func below(set uint64, i int) int { return bits.OnesCount64(set & (1<<i - 1)) }

// nextBit is the first one at or after i.
func nextBit(set uint64, i int) (int, bool) {
	set = set >> i << i
	return bits.TrailingZeros64(set), set != 0
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
