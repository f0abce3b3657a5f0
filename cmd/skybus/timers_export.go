package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

type timersExportCmd struct {
	timerFilter
}

// Help is shown below the usage.
func (*timersExportCmd) Help() string {
	return `It writes timers that wait for their time, and paused ones, one a line as JSON, whatever --output says. What is being delivered is
left out, and told on stderr: somewhere else it would be delivered again. Keys that sign webhooks are not part of it.

Examples:

    skybus timers export > timers.ndjson
    skybus timers export --label customer=17 | skybus timers import - --namespace shop.test`
}

// Run writes the timers.
func (c *timersExportCmd) Run(ctx context.Context, app *App) error {
	filter, err := c.filter()
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(app.stdout, 64<<10)
	bar := newProgress(app, "timers", 0)
	left, unreadable := 0, 0
	err = app.withKnownTimers(ctx, func(ctx context.Context, s *scheduler.Scheduler) error {
		for t, err := range s.List(ctx, filter) {
			if bus.CodeOf(err) == bus.DataLoss {
				bar.clear()
				app.warn("left out, as it is not readable: %s", message(err))
				unreadable++
				continue
			}
			if err != nil {
				return err
			}
			if t.State != scheduler.Scheduled && t.State != scheduler.Paused {
				left++
				continue
			}
			line, err := httpapi.FormatSpec(&t)
			if err != nil {
				return err
			}
			if _, err := out.Write(append(line, '\n')); err != nil {
				return err
			}
			bar.add(1)
		}
		return nil
	})
	bar.end()
	if errors.Is(err, errNoTimers) {
		err = nil
	}
	if err = errors.Join(err, out.Flush()); err != nil {
		return err
	}
	if left > 0 {
		app.warn("left out: %s being delivered", plural(left, "timer"))
	}
	if unreadable > 0 {
		return fmt.Errorf("%s not readable", plural(unreadable, "timer"))
	}
	return nil
}
