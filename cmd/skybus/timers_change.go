package main

import (
	"context"
	"errors"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

// timerIDs are the timers that a command is for.
type timerIDs struct {
	IDs []string `arg:"" name:"id" help:"Which ones."`
}

// each calls f for each timer, and returns the ids that went well.
func (c *timerIDs) each(ctx context.Context, app *App, f func(context.Context, *scheduler.Scheduler, string) error) (done []string, err error) {
	err = app.withTimer(ctx, c.IDs, func(ctx context.Context, s *scheduler.Scheduler) error {
		var errs []error
		for _, id := range c.IDs {
			one, cancel := app.withTimeout(ctx)
			err := f(one, s, id)
			cancel()
			if err == nil {
				done = append(done, id)
				continue
			}
			errs = append(errs, timerHint(err))
			if ctx.Err() != nil {
				break
			}
		}
		return errors.Join(errs...)
	})
	return done, err
}

type timersCancelCmd struct {
	timerIDs

	Revision uint64 `help:"Cancel it only if it has this revision. Default: any." placeholder:"N" env:"-"`
}

// Help is shown below the usage.
func (*timersCancelCmd) Help() string {
	return `A timer that is due already is being delivered, and cannot be cancelled any more, unless it waits for its next attempt.

Examples:

    skybus timers cancel invoice-7
    skybus timers -o json --prefix invoice- | jq -r '.[].id' | xargs skybus timers cancel`
}

// Run removes timers.
func (c *timersCancelCmd) Run(ctx context.Context, app *App) error {
	if c.Revision != 0 && len(c.IDs) > 1 {
		return usagef("--revision is for one timer")
	}
	done, err := c.each(ctx, app, func(ctx context.Context, s *scheduler.Scheduler, id string) error {
		return s.Cancel(ctx, id, c.Revision)
	})
	return errors.Join(app.printCount("cancelled", done), err)
}

type timersFireCmd struct{ timerIDs }

// Help is shown below the usage.
func (*timersFireCmd) Help() string {
	return `A timer that fires once is gone with it; of one that recurs it is an occurrence beside the schedule. A paused one fires too.

Examples:

    skybus timers fire invoice-7`
}

// Run makes timers due now.
func (c *timersFireCmd) Run(ctx context.Context, app *App) error {
	type fired struct {
		ID       string `json:"id"`
		Delivery string `json:"delivery"`
	}
	var rows []fired
	_, err := c.each(ctx, app, func(ctx context.Context, s *scheduler.Scheduler, id string) error {
		delivery, err := s.FireNow(ctx, id, 0)
		if err == nil {
			rows = append(rows, fired{id, delivery})
		}
		return err
	})
	return errors.Join(printList(app, rows, []string{"id", "delivery"}, func(f fired) []any { return []any{f.ID, f.Delivery} }), err)
}

type timersPauseCmd struct{ timerIDs }

// Help is shown below the usage.
func (*timersPauseCmd) Help() string {
	return `Examples:

    skybus timers pause report`
}

// Run keeps timers from firing.
func (c *timersPauseCmd) Run(ctx context.Context, app *App) error {
	done, err := c.each(ctx, app, func(ctx context.Context, s *scheduler.Scheduler, id string) error {
		_, err := s.Pause(ctx, id, 0)
		return err
	})
	return errors.Join(app.printCount("paused", done), err)
}

type timersResumeCmd struct{ timerIDs }

// Help is shown below the usage.
func (*timersResumeCmd) Help() string {
	return `A timer whose time has passed meanwhile is due at once. One that recurs goes on with its next occurrence: those of the pause do
not happen.

Examples:

    skybus timers resume report`
}

// Run lets paused timers fire.
func (c *timersResumeCmd) Run(ctx context.Context, app *App) error {
	var rows []timerRow
	_, err := c.each(ctx, app, func(ctx context.Context, s *scheduler.Scheduler, id string) error {
		t, err := s.Resume(ctx, id, 0)
		if err == nil {
			rows = append(rows, timerRow{&t})
		}
		if e := bus.AsError(err); err != nil && e.Details["reason"] == "ended" {
			return withHint(err, "`skybus timers update %s` gives it another schedule, `skybus timers cancel %s` removes it", id, id)
		}
		return err
	})
	return errors.Join(printList(app, rows, []string{"id", "due in", "state"}, func(r timerRow) []any { return []any{r.ID, r.dueIn(), r.State} }), err)
}
