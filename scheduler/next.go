package scheduler

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"strconv"
	"time"
)

// occurrence is one time that a recurring timer is due.
type occurrence struct {
	n       int64     // counted from 1; those that do not happen count
	nominal time.Time // without its jitter
	due     time.Time // with it: before the next one's nominal
}

// timetable tells when a Repeat is due. It does not change. Inside it times are Unix nanoseconds.
type timetable struct {
	every      int64
	cron       zoned // where every is 0
	start, end int64 // of nominal times, both included
	max        int64 // the last number
	jitter     int64
	seed       string

	keep   int64 // how many of those missed are made up for
	window int64
}

// timetable is that of r, which must have passed check here or elsewhere. An error means that this process does not know the time zone.
// The jitter comes from seed: record.Gen.
func (r *Repeat) timetable(seed string, zones *zones) (*timetable, error) {
	t := &timetable{
		every: int64(r.Every), start: math.MinInt64, end: maxTime().UnixNano(), max: math.MaxInt64,
		jitter: int64(r.Jitter), seed: seed, window: int64(r.Window),
	}
	if t.every == 0 {
		loc, err := zones.load(r.Zone)
		if err != nil {
			return nil, invalid("repeat.zone", "is no time zone: %w", err)
		}
		e, err := parseCron(r.Cron)
		if err != nil {
			return nil, invalid("repeat.cron", "is %.64q: %w", r.Cron, err)
		}
		t.cron = zoned{e, loc}
	}
	if !r.Start.IsZero() {
		t.start = nanos(r.Start)
	}
	if !r.End.IsZero() {
		t.end = min(t.end, nanos(r.End))
	}
	if r.Max > 0 {
		t.max = r.Max
	}
	if t.window == 0 {
		t.window = int64(defaultWindow)
	}
	switch r.Missed {
	case SkipMissed:
	case CatchUp:
		t.keep = int64(r.CatchUp)
		if t.keep == 0 {
			t.keep = defaultCatchUp
		}
	default:
		t.keep = 1
	}
	return t, nil
}

// nanos is t in Unix nanoseconds: 0 where it is before 1970, and just after maxTime where it is later than that.
func nanos(t time.Time) int64 {
	switch {
	case t.After(maxTime()):
		return maxTime().UnixNano() + 1
	case t.Unix() < 0:
		return 0
	}
	return t.UnixNano()
}

// first is the first occurrence of a timer that is made now. With a start (Spec.At or After) it is the first at or after that.
// False means that there is none.
func (t *timetable) first(now, start time.Time) (occurrence, bool) {
	begin := nanos(now) + 1
	if !start.IsZero() {
		begin = nanos(start)
	}
	begin = max(begin, t.start)
	if t.every == 0 {
		nominal, ok := t.following(begin - 1)
		return t.occurrence(1, nominal, ok)
	}
	var wait int64
	switch {
	case !start.IsZero() || begin == t.start:
	case t.start == math.MinInt64:
		wait = t.every - 1
	default:
		wait = (t.every - (begin-t.start)%t.every) % t.every
	}
	return t.occurrence(1, begin+wait, wait <= t.end-begin)
}

// after is the occurrence that follows o. False means that o was the last.
func (t *timetable) after(o occurrence) (occurrence, bool) { return t.ahead(o, 1) }

// resume is the first of o and those that follow it whose due is after now, and how many come before it. False means that there is none.
func (t *timetable) resume(o occurrence, now time.Time) (next occurrence, skipped int64, ok bool) {
	skipped = t.passed(o, nanos(now)+1)
	next, ok = t.ahead(o, skipped)
	return next, skipped, ok
}

// step is what to do with a recurring timer that is due.
type step struct {
	fire    []occurrence // in order; not overlapping policies, which the caller applies
	made    int          // how many of them, the first ones, were missed and are made up for
	skipped int64        // occurrences that do not happen, by Repeat.Missed
	next    occurrence
	done    bool // there is no next one
}

// step tells what to do when now, at or after o.due, is the time: o and what follows it up to now is due; what was due more than grace ago
// counts as missed. It fires as many as fit into that time, and CatchUp missed ones.
func (t *timetable) step(o occurrence, now time.Time, grace time.Duration) step {
	var s step
	missed := t.passed(o, nanos(now.Add(-grace)))
	s.skipped = missed - min(missed, t.keep)
	oldest := nanos(now) - t.window
	m, ok := t.ahead(o, s.skipped)
	for ok && !m.due.After(now) {
		late := m.n < o.n+missed
		if late && m.due.UnixNano() < oldest {
			s.skipped++
		} else {
			s.fire = append(s.fire, m)
		}
		if late {
			s.made = len(s.fire)
		}
		m, ok = t.after(m)
	}
	s.next, s.done = m, !ok
	return s
}

// passed is how many of o and those that follow it are due before that time.
func (t *timetable) passed(o occurrence, before int64) int64 {
	if o.due.UnixNano() >= before {
		return 0
	}
	k := 1 + t.count(o.nominal.UnixNano(), min(before-1, t.end))
	k = min(k, max(t.max-o.n, 0)+1)
	// What is due before the next one's nominal is due before the time, save perhaps the last.
	if last, ok := t.ahead(o, k-1); ok && last.due.UnixNano() >= before {
		k--
	}
	return k
}

// ahead is the k-th occurrence after o, o itself for 0.
func (t *timetable) ahead(o occurrence, k int64) (occurrence, bool) {
	nominal := o.nominal.UnixNano()
	switch {
	case k == 0:
		return o, true
	case k > t.max-o.n:
		return occurrence{}, false
	case k == 1:
		following, ok := t.following(nominal)
		return t.occurrence(o.n+1, following, ok)
	case t.every != 0:
		return t.occurrence(o.n+k, nominal+k*t.every, k <= (t.end-nominal)/t.every)
	}
	second, ok := t.cron.nth(seconds(nominal), k, seconds(t.end))
	return t.occurrence(o.n+k, second*int64(time.Second), ok)
}

// following is the first nominal time after that one.
func (t *timetable) following(nominal int64) (int64, bool) {
	if t.every != 0 {
		return nominal + t.every, nominal <= t.end-t.every
	}
	s, ok := t.cron.next(seconds(nominal))
	return s * int64(time.Second), ok && s <= seconds(t.end)
}

// count is how many nominal times there are after a, which is one of them, and up to b.
func (t *timetable) count(a, b int64) int64 {
	switch {
	case b <= a:
		return 0
	case t.every != 0:
		return (b - a) / t.every
	}
	return t.cron.count(seconds(a), seconds(b))
}

// seconds is the last whole second at or before that time.
func seconds(nanos int64) int64 { return floorDiv(nanos, int64(time.Second)) }

// occurrence is the n-th one, if ok. Its jitter is the same whoever asks.
func (t *timetable) occurrence(n, nominal int64, ok bool) (occurrence, bool) {
	if !ok {
		return occurrence{}, false
	}
	room := t.jitter
	if room > 0 && t.every == 0 {
		if next, ok := t.cron.next(seconds(nominal)); ok {
			room = min(room, next*int64(time.Second)-nominal)
		}
	}
	due := nominal
	if room > 0 {
		sum := sha256.Sum256([]byte(t.seed + "." + strconv.FormatInt(n, 10)))
		due += int64(binary.BigEndian.Uint64(sum[:8]) % uint64(room))
	}
	return occurrence{n: n, nominal: time.Unix(0, nominal).UTC(), due: time.Unix(0, due).UTC()}, true
}
