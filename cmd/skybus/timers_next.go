package main

import (
	"context"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

type timersNextCmd struct {
	ID    string `arg:"" optional:"" help:"Of this timer. Default: of one that would be made now with the schedule given."`
	Count int    `help:"How many times at most, 1 to 1000." default:"5" env:"-"`

	scheduleFlags
}

// Help is shown below the usage.
func (*timersNextCmd) Help() string {
	return `Jitter is left out. Of a timer it shows the occurrences from the next one on; without one it asks no server.

Examples:

    skybus timers next report --count 10
    skybus timers next --cron '30 2 * * *' --tz Europe/Berlin
    skybus timers next --every 90m --start '2031-05-01 08:00' -o json`
}

// Run shows the times.
func (c *timersNextCmd) Run(ctx context.Context, app *App) error {
	given := c.After != nil || c.At != nil || c.Every != 0 || c.Cron != ""
	if given == (c.ID != "") {
		return usagef("want a timer, or --after, --at, --every or --cron")
	}
	if given {
		var spec scheduler.Spec
		if err := c.apply(app, &spec); err != nil {
			return err
		}
		return c.print(app, spec)
	}
	return app.withTimer(ctx, []string{c.ID}, func(ctx context.Context, s *scheduler.Scheduler) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		t, err := s.Get(ctx, c.ID)
		if err != nil {
			return timerHint(err)
		}
		if t.State == scheduler.Paused {
			app.note("it is paused: it does not fire before it is resumed")
		}
		spec := t.Spec
		if spec.Repeat != nil && spec.Repeat.Max > 0 {
			rest := *spec.Repeat
			rest.Max = max(rest.Max-t.Occurrence+1, 1) // those before were fired
			spec.Repeat = &rest
		}
		return c.print(app, spec)
	})
}

// nextRow is one time that a timer fires.
type nextRow struct {
	N   int       `json:"n"`
	Due time.Time `json:"due"`
}

func (c *timersNextCmd) print(app *App, spec scheduler.Spec) error {
	times, err := scheduler.Next(spec, time.Now(), c.Count)
	if bus.CodeOf(err) == bus.InvalidArgument {
		return usagef("%s", message(err))
	}
	if err != nil {
		return err
	}
	rows := make([]nextRow, 0, len(times))
	for i, t := range times {
		rows = append(rows, nextRow{i + 1, t})
	}
	if len(rows) == 0 {
		app.note("it never fires")
	}
	return printList(app, rows, []string{"n", "due", "due in"}, func(r nextRow) []any {
		return []any{r.N, r.Due.Format("2006-01-02 15:04:05.000 MST"), span(max(time.Until(r.Due), 0))}
	})
}
