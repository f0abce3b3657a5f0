package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

type timersWatchCmd struct {
	ID   string   `arg:"" optional:"" help:"Of one timer. Default: of all."`
	Kind []string `help:"Only events of these kinds." enum:"created,updated,fired,delivered,retried,failed,dead,cancelled,skipped" placeholder:"KIND" env:"-"`
}

// Help is shown below the usage.
func (*timersWatchCmd) Help() string {
	return `Events are told once, to who listens at that moment, and are kept nowhere: for what must not be missed there are
` + "`skybus timers ls`" + ` and ` + "`skybus timers dead`" + `. With -o json it prints a line of JSON for each.

Examples:

    skybus timers watch
    skybus timers watch invoice-7
    skybus timers watch --kind failed,dead -o json`
}

// Run prints the events.
func (c *timersWatchCmd) Run(ctx context.Context, app *App) error {
	if c.ID != "" {
		if err := bus.CheckToken("id", c.ID); err != nil {
			return usagef("%s", message(err))
		}
	}
	filter := scheduler.EventFilter{ID: c.ID}
	for _, k := range c.Kind {
		filter.Kinds = append(filter.Kinds, scheduler.EventKind(k))
	}
	err := app.withTimers(ctx, scheduler.Config{}, func(ctx context.Context, s *scheduler.Scheduler) error {
		for e, err := range s.Watch(ctx, filter) {
			if bus.CodeOf(err) == bus.DataLoss {
				app.warn("%s", message(err))
				continue
			}
			if err != nil {
				return err
			}
			if err := printEvent(app, e, eventLine(e)); err != nil {
				return err
			}
		}
		return context.Cause(ctx)
	})
	return unlessStopped(ctx, err)
}

// eventLine is an event for people.
func eventLine(e scheduler.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %-9s  %s", e.Time.Local().Format("15:04:05.000"), e.Kind, e.ID)
	add := func(given bool, format string, args ...any) {
		if given {
			fmt.Fprintf(&b, "  "+format, args...)
		}
	}
	late := e.Time.Sub(e.Due).Round(100 * time.Microsecond)
	switch e.Kind {
	case scheduler.Created, scheduler.Updated, scheduler.Cancelled:
		add(!e.Due.IsZero(), "due %s", localTime(e.Due))
	case scheduler.Fired, scheduler.Delivered:
		add(!e.Due.IsZero(), "%s after it was due", late)
	default:
	}
	add(e.Occurrence > 1, "occurrence %d", e.Occurrence)
	add(e.Count > 0, "%d occurrences", e.Count)
	add(e.Attempt > 0, "attempt %d", e.Attempt)
	add(e.Status > 0, "status %d", e.Status)
	add(e.Code != "", "%s: %s", e.Code, e.Error)
	add(!e.Next.IsZero(), "next %s", localTime(e.Next))
	return b.String()
}
