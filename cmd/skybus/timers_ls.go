package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

// timerFilter are the flags that choose timers.
type timerFilter struct {
	Prefix    string    `help:"Only those whose id begins so." placeholder:"TEXT" env:"-"`
	State     []string  `help:"Only those in these states: scheduled, paused, firing, retrying." enum:"scheduled,paused,firing,retrying" placeholder:"STATE" env:"-"`
	DueBefore *dueTime  `help:"Only those due before this time, or within this duration." placeholder:"TIME" env:"-"`
	DueAfter  *dueTime  `help:"Only those due at this time or later, or later than this duration from now." placeholder:"TIME" env:"-"`
	Label     labelFlag `help:"Only those with this label; may be repeated." placeholder:"KEY=VALUE" sep:"none" env:"-"`
}

func (f *timerFilter) filter() (scheduler.Filter, error) {
	labels, err := f.Label.pairs()
	if err != nil {
		return scheduler.Filter{}, err
	}
	chosen := scheduler.Filter{Prefix: f.Prefix, DueBefore: f.DueBefore.time(), DueFrom: f.DueAfter.time(), Labels: labels}
	for _, s := range f.State {
		chosen.States = append(chosen.States, scheduler.State(s))
	}
	return chosen, nil
}

// String is the filter as it can be given.
func (f *timerFilter) String() string {
	var flags []string
	add := func(name, value string) {
		if value != "" {
			flags = append(flags, name+" "+value)
		}
	}
	add("--prefix", f.Prefix)
	add("--state", strings.Join(f.State, ","))
	add("--due-before", f.DueBefore.String())
	add("--due-after", f.DueAfter.String())
	for _, l := range f.Label {
		add("--label", l)
	}
	return strings.Join(flags, " ")
}

// dueTime is a time on the command line: as RFC 3339 has it, as people write it here, or so long from now.
type dueTime struct {
	at    time.Time
	given string
}

// UnmarshalText reads it from a flag.
func (d *dueTime) UnmarshalText(text []byte) error {
	d.given = string(text)
	if after, err := time.ParseDuration(d.given); err == nil {
		d.at = time.Now().Add(after)
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, d.given)
	for _, layout := range []string{time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", time.DateOnly} {
		if err == nil {
			break
		}
		at, err = time.ParseInLocation(layout, d.given, time.Local)
	}
	if err != nil {
		return fmt.Errorf("%.40q: want a time such as 2031-05-01T12:00:00Z, or \"2031-05-01 14:00\" of this machine's time zone, or a duration from now such as 90s", d.given)
	}
	d.at = at
	return nil
}

func (d *dueTime) time() time.Time {
	if d == nil {
		return time.Time{}
	}
	return d.at
}

// String is what was given.
func (d *dueTime) String() string {
	if d == nil {
		return ""
	}
	return d.given
}

// labelFlag are labels as they are given.
type labelFlag []string

func (l labelFlag) pairs() (map[string]string, error) {
	if len(l) == 0 {
		return nil, nil
	}
	m := map[string]string{}
	for _, text := range l {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, usagef("--label %.80q: want KEY=VALUE", text)
		}
		m[name] = value
	}
	return m, nil
}

type timersLsCmd struct {
	timerFilter

	Limit int `help:"How many at most; 0 means all." default:"1000" env:"-"`
}

// Help is shown below the usage.
func (*timersLsCmd) Help() string {
	return `They are sorted by when they are due, those that are listed: with more than --limit, some are. A recurring timer that is being
delivered comes twice, for itself and for the delivery.

Examples:

    skybus timers
    skybus timers --state retrying
    skybus timers --prefix invoice- --due-before 1h -o json
    skybus timers --label customer=17 --limit 0`
}

// Run lists the timers.
func (c *timersLsCmd) Run(ctx context.Context, app *App) error {
	if c.Limit < 0 {
		return usagef("--limit %d: want 0 or more", c.Limit)
	}
	filter, err := c.filter()
	if err != nil {
		return err
	}
	var rows []timerRow
	more := false
	err = app.withKnownTimers(ctx, func(ctx context.Context, s *scheduler.Scheduler) error {
		for t, err := range s.List(ctx, filter) {
			if bus.CodeOf(err) == bus.DataLoss {
				app.warn("left out, as it is not readable: %s", message(err))
				continue
			}
			if err != nil {
				return err
			}
			if more = c.Limit > 0 && len(rows) == c.Limit; more {
				return nil
			}
			rows = append(rows, timerRow{&t})
		}
		return nil
	})
	if err != nil && !errors.Is(err, errNoTimers) {
		return err
	}
	slices.SortStableFunc(rows, func(a, b timerRow) int { return a.Due.Compare(b.Due) })
	if len(rows) == 0 {
		c.noteNone(app)
	}
	err = printList(app, rows, []string{"id", "due in", "target", "state", "attempts"}, func(r timerRow) []any {
		return []any{r.ID, r.dueIn(), r.target(), r.State, len(r.Attempts)}
	})
	if more {
		app.note("there are more; --limit 0 lists all")
	}
	return err
}

func (c *timersLsCmd) noteNone(app *App) {
	if chosen := c.String(); chosen != "" {
		app.note("there are no timers in %s with %s", app.shownNamespace(), chosen)
		return
	}
	app.noteNone("timers")
}

// shownNamespace is the one to work in, also where nobody names it.
func (a *App) shownNamespace() string {
	if a.Namespace != "" {
		return a.Namespace
	}
	return bus.DefaultNamespace
}
