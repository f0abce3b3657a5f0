package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

type timersDeadCmd struct {
	Ls      timersDeadLsCmd      `cmd:"" default:"withargs" help:"List the deliveries that were given up."`
	Show    timersDeadShowCmd    `cmd:"" help:"Show one, with its attempts."`
	Redrive timersDeadRedriveCmd `cmd:"" help:"Have them delivered once more, and forget them."`
	Rm      timersDeadRmCmd      `cmd:"" help:"Forget them."`
}

// deadTimerRow is a letter as it is printed.
type deadTimerRow struct{ scheduler.DeadLetter }

// MarshalJSON is the form of the HTTP API.
func (r deadTimerRow) MarshalJSON() ([]byte, error) { return httpapi.FormatDead(&r.DeadLetter) }

func deadTimerHint(err error) error {
	if bus.CodeOf(err) == bus.NotFound {
		return withHint(err, "`skybus timers dead` lists them")
	}
	return err
}

// deadTimers are the letters that f chooses.
func deadTimers(ctx context.Context, s *scheduler.Scheduler, f scheduler.DeadFilter, limit int) (list []deadTimerRow, more bool, err error) {
	for l, err := range s.DeadLetters().List(ctx, f) {
		if err != nil {
			return nil, false, err
		}
		if limit > 0 && len(list) == limit {
			return list, true, nil
		}
		list = append(list, deadTimerRow{l})
	}
	return list, false, nil
}

type timersDeadLsCmd struct {
	Timer  string `help:"Only those of this timer." placeholder:"ID" env:"-"`
	Prefix string `help:"Only those of timers whose id begins so." placeholder:"TEXT" env:"-"`
	Limit  int    `help:"How many at most, the oldest; 0 means all." default:"1000" env:"-"`
}

// Help is shown below the usage.
func (*timersDeadLsCmd) Help() string {
	return `A delivery is given up when its timer's attempts or time are spent, or at once when the target says that it will never take it.

Examples:

    skybus timers dead
    skybus timers dead --timer invoice-7 -o json`
}

// Run lists them.
func (c *timersDeadLsCmd) Run(ctx context.Context, app *App) error {
	var list []deadTimerRow
	more := false
	err := app.withKnownTimers(ctx, func(ctx context.Context, s *scheduler.Scheduler) (err error) {
		list, more, err = deadTimers(ctx, s, scheduler.DeadFilter{TimerID: c.Timer, Prefix: c.Prefix}, c.Limit)
		return err
	})
	if err != nil && !errors.Is(err, errNoTimers) {
		return err
	}
	if len(list) == 0 {
		app.note("no delivery of a timer was given up")
	}
	err = printList(app, list, []string{"id", "died", "target", "attempts", "error"}, func(r deadTimerRow) []any {
		return []any{r.ID, r.Died.Local().Format(time.DateTime), targetText(r.Timer.Target), r.Attempts, fmt.Sprintf("%.100s", r.Error)}
	})
	if more {
		app.note("there are more; --limit 0 lists all")
	}
	return err
}

type timersDeadShowCmd struct {
	ID string `arg:"" help:"Which one."`
}

// Help is shown below the usage.
func (*timersDeadShowCmd) Help() string {
	return `Examples:

    skybus timers dead show invoice-7-Hh3kq0-1`
}

// Run shows one.
func (c *timersDeadShowCmd) Run(ctx context.Context, app *App) error {
	err := app.withKnownTimers(ctx, func(ctx context.Context, s *scheduler.Scheduler) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		l, err := s.DeadLetters().Get(ctx, c.ID)
		if err != nil {
			return err
		}
		row := timerRow{&l.Timer}
		rows := [][]any{
			{"id", l.ID},
			{"timer", l.Timer.ID},
			{"target", row.target()},
			{"due", localTime(l.Timer.Due)},
			{"died", localTime(l.Died)},
			{"attempts", l.Attempts},
			{"code", l.Code},
			{"error", l.Error},
			{"content type", l.Timer.ContentType},
			{"payload", fmt.Sprintf("%.200s", l.Timer.Payload)},
		}
		if err := printOne(app, deadTimerRow{l}, rows); err != nil || app.Output != formatTable || len(l.Timer.Attempts) == 0 {
			return err
		}
		return printAttempts(app, l.Timer.Attempts)
	})
	if errors.Is(err, errNoTimers) {
		err = bus.Wrap(bus.NotFound, fmt.Sprintf("there is no dead letter %q", c.ID), err)
	}
	return deadTimerHint(err)
}

// deadTimerIDs are the letters that a command is for.
type deadTimerIDs struct {
	IDs   []string `arg:"" optional:"" name:"id" help:"Which ones."`
	All   bool     `help:"All of them." env:"-"`
	Timer string   `help:"All of this timer." placeholder:"ID" env:"-"`
}

// Validate finds what does not go together.
func (d *deadTimerIDs) Validate() error {
	ways := 0
	for _, given := range []bool{len(d.IDs) > 0, d.All, d.Timer != ""} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return errors.New("want ids, --all or --timer")
	}
	return nil
}

// each calls f for each letter and returns the ids that went well. sure is asked before letters are touched that nobody named one
// by one.
func (d *deadTimerIDs) each(ctx context.Context, app *App, sure func(context.Context, int) error,
	f func(context.Context, *scheduler.DeadLetters, string) error,
) (done []string, err error) {
	err = app.withKnownTimers(ctx, func(ctx context.Context, s *scheduler.Scheduler) error {
		ids := d.IDs
		if len(ids) == 0 {
			list, _, err := deadTimers(ctx, s, scheduler.DeadFilter{TimerID: d.Timer}, 0)
			if err != nil {
				return err
			}
			for _, l := range list {
				ids = append(ids, l.ID)
			}
			if err := sure(ctx, len(ids)); err != nil {
				return err
			}
		}
		var errs []error
		for _, id := range ids {
			one, cancel := app.withTimeout(ctx)
			err := f(one, s.DeadLetters(), id)
			cancel()
			if err == nil {
				done = append(done, id)
				continue
			}
			errs = append(errs, deadTimerHint(err))
			if ctx.Err() != nil || bus.CodeOf(err) == bus.ResourceExhausted {
				break
			}
		}
		return errors.Join(errs...)
	})
	if errors.Is(err, errNoTimers) {
		err = nil
		if len(d.IDs) > 0 {
			err = deadTimerHint(bus.Wrap(bus.NotFound, fmt.Sprintf("there is no dead letter %q", d.IDs[0]), errNoTimers))
		}
	}
	return done, err
}

type timersDeadRedriveCmd struct{ deadTimerIDs }

// Help is shown below the usage.
func (*timersDeadRedriveCmd) Help() string {
	return `They are delivered with new attempts and under the same id, so that a receiver who has it already knows it.

Examples:

    skybus timers dead redrive --all
    skybus timers dead redrive --timer invoice-7`
}

// Run has them delivered once more.
func (c *timersDeadRedriveCmd) Run(ctx context.Context, app *App) error {
	done, err := c.each(ctx, app, func(context.Context, int) error { return nil }, func(ctx context.Context, dead *scheduler.DeadLetters, id string) error {
		return dead.Redrive(ctx, id)
	})
	return errors.Join(app.printCount("redriven", done), err)
}

type timersDeadRmCmd struct {
	deadTimerIDs

	Yes bool `short:"y" help:"Do not ask whether all of them are meant." env:"-"`
}

// Help is shown below the usage.
func (*timersDeadRmCmd) Help() string {
	return `Examples:

    skybus timers dead rm invoice-7-Hh3kq0-1
    skybus timers dead rm --all --yes`
}

// Run forgets them.
func (c *timersDeadRmCmd) Run(ctx context.Context, app *App) error {
	sure := func(ctx context.Context, n int) error {
		if n == 0 {
			return nil
		}
		return app.confirm(ctx, c.Yes, plural(n, "dead letter")+" will be removed")
	}
	done, err := c.each(ctx, app, sure, func(ctx context.Context, dead *scheduler.DeadLetters, id string) error { return dead.Remove(ctx, id) })
	if errors.Is(err, errDeclined) {
		return err
	}
	return errors.Join(app.printCount("removed", done), err)
}
