package scheduler

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	maxZone = 64      // characters
	forever = 1 << 40 // seconds: longer than all times of timers
)

// zones keeps time zones that were loaded: to load one takes a file. Nil works, and keeps none.
type zones struct {
	byName sync.Map // of *time.Location
}

// load is the zone of that IANA name; empty means UTC. Names that mean one zone here and another one, or none, elsewhere
// are refused: Local, and those of files beside the zones, which begin with a small letter.
func (z *zones) load(name string) (*time.Location, error) {
	if name == "" || name == "UTC" {
		return time.UTC, nil
	}
	if z != nil {
		if loc, ok := z.byName.Load(name); ok {
			return loc.(*time.Location), nil
		}
	}
	if name == "Local" || len(name) > maxZone || strings.ToUpper(name[:1]) != name[:1] {
		return nil, fmt.Errorf("%q is not one of IANA, such as Europe/Berlin", name)
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%q is not one of IANA that this machine knows (a program can bring them along: import _ %q)", name, "time/tzdata")
	}
	if z != nil {
		z.byName.Store(name, loc)
	}
	return loc, nil
}

// zoned is when an expression comes in a time zone, in Unix seconds. What it does when clocks change is told at Repeat.
type zoned struct {
	*expression

	loc *time.Location
}

// period is a time during which a clock is not changed.
type period struct {
	from, to int64 // Unix seconds
	offset   int64 // of the clock from UTC
	jump     int64 // how far the clock was put forward at from; negative: back
}

// period is the one that the second is in.
func (z zoned) period(second int64) period {
	t := time.Unix(second, 0).In(z.loc)
	_, offset := t.Zone()
	p := period{from: -forever, to: forever, offset: int64(offset)}
	from, to := t.ZoneBounds()
	if !from.IsZero() {
		p.from = from.Unix()
		_, before := from.Add(-time.Second).Zone()
		p.jump = int64(offset - before)
	}
	if !to.IsZero() {
		p.to = to.Unix()
	}
	if p.to <= second {
		// Package time takes every year to have 365 days where a zone's rule has no end: on the last day of a leap
		// year its bounds end before that day.
		p.to = (floorDiv(second, aDay) + 1) * aDay
	}
	return p
}

// begin is the first second at or after s, within p, that is not the second time that the clock shows it.
func (z zoned) begin(p period, s int64) int64 {
	if z.everyHour {
		return s
	}
	return min(max(s, p.from-p.jump), p.to) // where it jumped forward p.from-p.jump is before p
}

// made is where the time of p ends that takes in what the clock jumped over.
func (z zoned) made(p period) int64 {
	if z.everyHour || p.jump < 0 {
		return p.from
	}
	return min(p.from+p.jump, p.to)
}

// next is the first second after s.
func (z zoned) next(s int64) (int64, bool) {
	for s++; s < forever; {
		p := z.period(s)
		if s = z.begin(p, s); s < p.to {
			w, ok := z.expression.next(s + p.offset)
			if !ok {
				return 0, false
			}
			found := w - p.offset
			if made := z.made(p); s < made {
				if w, ok := z.expression.next(s + p.offset - p.jump); ok && w-p.offset+p.jump < made {
					found = min(found, w-p.offset+p.jump)
				}
			}
			if found < p.to {
				return found, true
			}
		}
		s = p.to
	}
	return 0, false
}

// count is how many seconds there are after a and up to b.
func (z zoned) count(a, b int64) int64 {
	var n int64
	for s := a + 1; s <= b; {
		p := z.period(s)
		end := min(p.to, b+1)
		s = min(z.begin(p, s), end)
		if made := min(z.made(p), end); s < made {
			for at, ok := z.next(s - 1); ok && at < made; at, ok = z.next(at) {
				n++
			}
			s = made
		}
		n += z.expression.count(s+p.offset, end+p.offset)
		s = end
	}
	return n
}

// nth is the k-th second after a, k being 1 or more. False means that there are fewer up to end.
func (z zoned) nth(a, k, end int64) (int64, bool) {
	b := min(a+aDay, end)
	for width := int64(aDay); ; b = min(a+width, end) {
		n := z.count(a, b)
		if n >= k {
			break
		}
		if b == end {
			return 0, false
		}
		a, k, width = b, k-n, 2*width
	}
	for b-a > 1 { // it is after a, and b or before
		middle := a + (b-a)/2
		if n := z.count(a, middle); n >= k {
			b = middle
		} else {
			a, k = middle, k-n
		}
	}
	return b, true
}
