//go:build unix

package whole_test

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// timerStory is all that was asked of a timer, and what it did.
type timerStory struct {
	create     operation
	steps      int         // that may have made it
	changes    []operation // moves and the cancel, in order
	deliveries []record
	written    bool // by the receiver, for good
}

func (g *judgement) timerStories() map[string]*timerStory {
	all := map[string]*timerStory{}
	of := func(id string) *timerStory {
		if all[id] == nil {
			all[id] = &timerStory{}
		}
		return all[id]
	}
	for _, o := range g.e.ops {
		switch o.kind {
		case created:
			of(o.timer).create = o
		case moved, canceled:
			of(o.timer).changes = append(of(o.timer).changes, o)
		default:
		}
	}
	g.e.each(stepped, func(_ string, r record) { // a step that is done again may make the timer again
		if s := all[r.ID]; s != nil && r.Step == "stock.remind" {
			s.steps++
			s.create.tries = max(s.create.tries, s.steps)
		}
	})
	g.e.each(delivered, func(_ string, r record) { of(r.ID).deliveries = append(of(r.ID).deliveries, r) })
	g.e.each(wrote, func(_ string, r record) { of(r.ID).written = true })
	for _, s := range all {
		slices.SortFunc(s.changes, func(a, b operation) int { return a.begin.Compare(b.begin) })
		slices.SortFunc(s.deliveries, func(a, b record) int { return int(a.At - b.At) })
	}
	return all
}

// sure tells whether the operation was done once or not at all: the first try was answered, so that no other can come late.
func (o operation) sure() bool { return o.tries == 1 && o.outcome != failed }

// sure tells whether all that was asked of the timer was done once or not at all.
func (s *timerStory) sure() bool {
	return s.create.sure() && !slices.ContainsFunc(s.changes, func(o operation) bool { return !o.sure() })
}

// timers looks whether each timer did what it was asked for.
func (g *judgement) timers() {
	for id, s := range g.timerStories() {
		if s.create.id == "" {
			g.wrong(ruleForeign, "timer %s fired, and nobody made it", id)
			continue
		}
		cancelled, perhaps := s.cancelled()
		switch {
		case s.create.outcome != acked:
		case cancelled && len(s.deliveries) > 0 && s.create.sure():
			g.timerCancelled(id, s)
		case !cancelled && !perhaps && !s.written:
			g.wrong(ruleTimer, "%s: %s", id, s)
		}
		g.timerDeliveries(id, s)
		g.timerDenied(id, s)
	}
}

// timerCancelled looks at what was delivered of a timer whose cancel was acknowledged. It may have ended the retries of what had fired before: then
// an attempt failed, by a fault.
func (g *judgement) timerCancelled(id string, s *timerStory) {
	cancel := s.changes[slices.IndexFunc(s.changes, func(o operation) bool { return o.kind == canceled && o.outcome == acked })]
	first, last := s.deliveries[0].At, s.deliveries[len(s.deliveries)-1].At
	if last > cancel.end.UnixNano() || !g.e.disturbed(first, cancel.end.UnixNano()) {
		g.wrong(ruleCancelled, "%s, %v after it: %s", id, time.Unix(0, last).Sub(cancel.end), s)
		return
	}
	g.counts["timer cancelled between two attempts"]++
}

// String is what happened, in order.
func (s *timerStory) String() string {
	var b strings.Builder
	for _, o := range append([]operation{s.create}, s.changes...) {
		fmt.Fprintf(&b, "%s %s to %s, due after %v, outcome %d in %d tries %s; ", o.kind, o.begin.Format(clock), o.end.Format(clock), o.after, o.outcome, o.tries, o.err)
	}
	for _, r := range s.deliveries {
		fmt.Fprintf(&b, "delivered %s as %s; ", time.Unix(0, r.At).Format(clock), r.Key)
	}
	return fmt.Sprintf("%swritten: %v", b.String(), s.written)
}

// cancelled tells whether a cancel was acknowledged, or else may have happened.
func (s *timerStory) cancelled() (yes, perhaps bool) {
	for _, o := range s.changes {
		if o.kind == canceled {
			yes = yes || o.outcome == acked
			perhaps = perhaps || !o.sure()
		}
	}
	return yes, perhaps
}

// dueFrom is when the timer is due at the soonest, by what was acknowledged and by what nobody knows.
func (s *timerStory) dueFrom() time.Time {
	due := s.create.dueFrom()
	for _, o := range s.changes {
		switch {
		case o.kind != moved || o.outcome == refused && o.sure():
		case o.outcome == acked && s.create.sure() && o.sure():
			due = o.dueFrom()
		case o.dueFrom().Before(due):
			due = o.dueFrom()
		}
	}
	return due
}

func (o operation) dueFrom() time.Time {
	if !o.due.IsZero() && o.sure() {
		return o.due
	}
	return o.begin.Add(o.after)
}

// timerDeliveries looks at each delivery: not early, and again only under the same id.
func (g *judgement) timerDeliveries(id string, s *timerStory) {
	due := s.dueFrom()
	for i, r := range s.deliveries {
		if r.At < r.Due || time.Unix(0, r.Due).Before(due) {
			g.wrong(ruleEarly, "%s %v before the time it says, which is %v after the time acknowledged", id, time.Duration(r.Due-r.At), time.Unix(0, r.Due).Sub(due))
		}
		if i == 0 {
			continue
		}
		g.counts["timer delivered again"]++
		switch {
		case r.Key == s.deliveries[0].Key:
		case s.sure():
			g.wrong(ruleTwice, "timer %s: %s", id, s)
		default: // a try came late, when the timer had fired, or nobody knew whether it was in time
			g.counts["timer made again by a repeat of its client"]++
		}
	}
}

// dueMargin is how far the clocks of two schedulers, of the servers and of clients may be apart.
const dueMargin = 250 * time.Millisecond

// timerDenied looks for changes that were refused though the timer was there and not due.
func (g *judgement) timerDenied(id string, s *timerStory) {
	if s.create.outcome != acked || !s.create.sure() {
		return
	}
	due := s.create.dueFrom()
	for _, o := range s.changes {
		switch {
		case !o.sure():
			return // what follows is anybody's guess
		case o.outcome == refused && o.end.Before(due.Add(-dueMargin)):
			g.wrong(ruleDenied, "%s: %s was answered %s, %v before it was due", id, o.kind, o.err, due.Sub(o.end))
		case o.kind == moved && o.outcome == acked:
			due = o.dueFrom()
		}
	}
}
