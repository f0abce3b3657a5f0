package main

import (
	"context"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

type timersCreateCmd struct {
	ID     string `help:"Its id. Default: a new one." placeholder:"ID" env:"-"`
	Key    string `help:"Refuse it while another one with the same key is pending." placeholder:"TEXT" env:"-"`
	Paused bool   `help:"It does not fire before it is resumed." env:"-"`

	scheduleFlags
	targetFlags
	guardFlags
}

// Help is shown below the usage.
func (*timersCreateCmd) Help() string {
	return `Once it has answered the timer is stored, and survives the end of every process. A target that is not allowed is refused at once;
the networks, ports and subjects that are allowed are those of this command's flags, and the schedulers go by their own. With
--every or --cron, --after or --at say when the first one is due.

Examples:

    skybus timers create --after 30s --http https://example.org/hook --data '{"invoice":7}'
    skybus timers create --at 2031-05-01T12:00:00Z --call invoices.remind --data @invoice.json --id invoice-7
    skybus timers create --cron '0 9 * * MON-FRI' --tz Europe/Berlin --route report --key daily-report
    skybus timers create --every 10s --publish default.dev.pub.tick --max 6
    skybus timers create --after 5s --http http://127.0.0.1:8888/ --data hello    # beside: skybus listen`
}

// Run makes the timer.
func (c *timersCreateCmd) Run(ctx context.Context, app *App) error {
	spec := scheduler.Spec{ID: c.ID, Key: c.Key, Paused: c.Paused}
	if c.After == nil && c.At == nil && c.Every == 0 && c.Cron == "" {
		return usagef("want when it is due: --after, --at, --every or --cron")
	}
	if _, uri, err := c.target(); err != nil || uri == "" {
		return either(err, usagef("want what it calls: --http, --call, --route, --publish, --tcp or --to"))
	}
	if err := c.scheduleFlags.apply(app, &spec); err != nil {
		return err
	}
	if err := c.targetFlags.apply(ctx, app, &spec); err != nil {
		return err
	}
	cfg := c.config(c.Transport)
	return app.withTimers(ctx, cfg, func(ctx context.Context, s *scheduler.Scheduler) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		t, err := s.Create(ctx, spec)
		if err != nil {
			return createHint(err)
		}
		return printTimer(app, &t)
	})
}

func either(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// printTimer says what is stored now.
func printTimer(app *App, t *scheduler.Timer) error {
	row := timerRow{t}
	return printOne(app, row, [][]any{
		{"id", row.ID}, {"state", row.State}, {"due", localTime(row.Due)}, {"due in", row.dueIn()}, {"target", row.target()},
	})
}

// createHint makes what is wrong with the flags an error of usage, and says what to do next about others.
func createHint(err error) error {
	e := bus.AsError(err)
	switch {
	case e.Code == bus.InvalidArgument && e.Details["field"] != "":
		return usagef("%s", message(err))
	case e.Code == bus.PermissionDenied && e.Details["field"] != "":
		return withHint(err, "--allow-network, --allow-port and --publish-prefix allow it, here and for those who deliver it, `skybus up` and `skybus scheduler`: "+
			"SKYBUS_ALLOW_NETWORK and the like say it to all of them")
	case e.Code == bus.AlreadyExists:
		return withHint(err, "`skybus timers get %s` shows it, `skybus timers update` changes it", e.Details["id"])
	}
	return timerHint(err)
}

type timersUpdateCmd struct {
	ID       string `arg:"" help:"Which one."`
	Revision uint64 `help:"Change it only if it has this revision, so that nobody's change is lost. Default: any." placeholder:"N" env:"-"`
	Once     bool   `help:"It no longer recurs: want --after or --at too." env:"-"`

	scheduleFlags
	targetFlags
	guardFlags
}

// Help is shown below the usage.
func (*timersUpdateCmd) Help() string {
	return `What is not given stays as it is; all headers, and all labels, are replaced where one is given. --after counts from now.

Examples:

    skybus timers update invoice-7 --after 1h
    skybus timers update report --cron '0 10 * * *' --tz Europe/Berlin
    skybus timers update invoice-7 --http https://example.org/other --revision 17`
}

// updateTries is how often an update is made anew when the timer changes meanwhile.
const updateTries = 5

// Run changes the timer.
func (c *timersUpdateCmd) Run(ctx context.Context, app *App) error {
	if c.Once && (c.Every != 0 || c.Cron != "" || c.After == nil && c.At == nil) {
		return usagef("--once: want --after or --at, and neither --every nor --cron")
	}
	if c.Data != nil && *c.Data == "-" {
		data, err := app.input(ctx, "-") // it cannot be read again
		if err != nil {
			return err
		}
		c.Data = nil
		return c.run(ctx, app, func(spec *scheduler.Spec) {
			guessed := ""
			if spec.Payload, guessed = payloadOf(data, spec.Target.Transport); !app.given["content-type"] {
				spec.ContentType = guessed
			}
		})
	}
	return c.run(ctx, app, func(*scheduler.Spec) {})
}

func (c *timersUpdateCmd) run(ctx context.Context, app *App, edit func(*scheduler.Spec)) error {
	own := "" // the transport that it has, which may be one of the schedulers' own
	if err := app.withTimer(ctx, []string{c.ID}, func(ctx context.Context, s *scheduler.Scheduler) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		t, err := s.Get(ctx, c.ID)
		own = t.Target.Transport
		return timerHint(err)
	}); err != nil {
		return err
	}
	return app.withTimers(ctx, c.config(c.Transport, own), func(ctx context.Context, s *scheduler.Scheduler) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		for tries := 1; ; tries++ {
			t, err := c.update(ctx, app, s, edit)
			if err == nil {
				return printTimer(app, &t)
			}
			if bus.CodeOf(err) != bus.Aborted || c.Revision != 0 || tries == updateTries {
				return createHint(err)
			}
		}
	})
}

// update changes the timer as it is now.
func (c *timersUpdateCmd) update(ctx context.Context, app *App, s *scheduler.Scheduler, edit func(*scheduler.Spec)) (scheduler.Timer, error) {
	t, err := s.Get(ctx, c.ID)
	if err != nil {
		return t, err
	}
	spec := t.Spec
	if c.Once {
		spec.Repeat = nil
	} else if c.Every != 0 || c.Cron != "" {
		spec.At = time.Time{} // of the schedule that is replaced
	}
	if err := c.scheduleFlags.apply(app, &spec); err != nil {
		return t, err
	}
	if err := c.targetFlags.apply(ctx, app, &spec); err != nil {
		return t, err
	}
	edit(&spec)
	revision := t.Revision
	if c.Revision != 0 {
		revision = c.Revision
	}
	return s.Update(ctx, c.ID, revision, spec)
}
