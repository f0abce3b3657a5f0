package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

type timersCmd struct {
	Ls     timersLsCmd     `cmd:"" default:"withargs" help:"List the timers."`
	Get    timersGetCmd    `cmd:"" help:"Show a timer."`
	Create timersCreateCmd `cmd:"" help:"Make a timer."`
	Update timersUpdateCmd `cmd:"" help:"Change a timer that is not due yet."`
	Cancel timersCancelCmd `cmd:"" aliases:"rm" help:"Remove timers that are not due yet."`
	Fire   timersFireCmd   `cmd:"" help:"Make timers due now."`
	Pause  timersPauseCmd  `cmd:"" help:"Keep timers from firing."`
	Resume timersResumeCmd `cmd:"" help:"Let paused timers fire again."`
	Next   timersNextCmd   `cmd:"" help:"Show when a timer, or one with the schedule given, fires next."`
	Watch  timersWatchCmd  `cmd:"" help:"Show what happens to timers, as it happens, until Ctrl-C."`

	Dead    timersDeadCmd    `cmd:"" help:"List, show, repeat and remove deliveries that were given up."`
	Import  timersImportCmd  `cmd:"" help:"Make timers from a file, one a line."`
	Export  timersExportCmd  `cmd:"" help:"Write timers as import takes them, one a line."`
	Bench   timersBenchCmd   `cmd:"" help:"Measure how many timers a server takes, and how late they fire."`
	Secrets timersSecretsCmd `cmd:"" help:"Make, list and remove the keys that sign webhooks."`
}

// firstShard is the stream that is there once anybody has used timers.
const firstShard = "SKYBUS_TMR_0"

// errNoTimers says that nobody has used timers yet.
var errNoTimers = errors.New("there are no timers")

// withTimers opens the timers for f, and makes what holds them where it is not there.
func (a *App) withTimers(ctx context.Context, cfg scheduler.Config, f func(context.Context, *scheduler.Scheduler) error) error {
	return a.openTimers(ctx, cfg, false, f)
}

// withKnownTimers opens the timers for f, unless there never were any: then it is errNoTimers. To look for timers must not decide
// how they are kept.
func (a *App) withKnownTimers(ctx context.Context, f func(context.Context, *scheduler.Scheduler) error) error {
	return a.openTimers(ctx, scheduler.Config{}, true, f)
}

func (a *App) openTimers(ctx context.Context, cfg scheduler.Config, known bool, f func(context.Context, *scheduler.Scheduler) error) error {
	cfg.Logger = a.log
	return a.withConn(ctx, func(open context.Context, conn *bus.Conn) error {
		if known {
			if err := findTimers(open, conn); err != nil {
				return err
			}
		}
		s, err := scheduler.Open(open, conn, cfg)
		if err != nil {
			return timersFlagError(err)
		}
		defer func() { _ = s.Close() }() // it delivers nothing
		return f(ctx, s)
	})
}

// findTimers is errNoTimers where there never were any.
func findTimers(ctx context.Context, conn *bus.Conn) error {
	err := conn.Permitted(ctx, bus.Access{Publish: []string{"$JS.API.STREAM.INFO." + firstShard}}, func(ctx context.Context) error {
		_, err := conn.JetStream().Stream(ctx, firstShard)
		return err
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return errNoTimers
	}
	return err
}

// withTimer is withKnownTimers for a command about timers with these ids.
func (a *App) withTimer(ctx context.Context, ids []string, f func(context.Context, *scheduler.Scheduler) error) error {
	for _, id := range ids {
		if err := bus.CheckToken("id", id); err != nil {
			return usagef("%s", message(err))
		}
	}
	err := a.withKnownTimers(ctx, f)
	if errors.Is(err, errNoTimers) {
		return timerHint(bus.Wrap(bus.NotFound, fmt.Sprintf("there is no timer %q", ids[0]), err))
	}
	return err
}

// timerHint says what to do next about an error of a timer that there is, or not.
func timerHint(err error) error {
	switch e := bus.AsError(err); {
	case err == nil:
		return nil
	case e.Code == bus.NotFound:
		return withHint(err, "`skybus timers` lists them; what was given up is in `skybus timers dead`")
	case e.Code == bus.Aborted:
		return withHint(err, "`skybus timers get ID` shows what is there now")
	case e.Code == bus.FailedPrecondition && e.Details["reason"] == "already_due":
		return withHint(err, "it is being delivered; `skybus timers get ID` shows its attempts")
	case e.Code == bus.DataLoss:
		return withHint(err, "`skybus timers cancel ID` removes it")
	case e.Code == bus.ResourceExhausted && e.HTTPStatus() == http.StatusInsufficientStorage:
		return withHint(err, "`skybus timers cancel` and `skybus timers dead rm` make room, also where there is none left, and `skybus server --max-store` gives more; "+
			"`skybus scheduler --store-size` says how much there is, so that timers leave room to fire")
	}
	return err
}

// timerRow is a timer as it is printed: with -o json and yaml as the HTTP API shows it.
type timerRow struct{ *scheduler.Timer }

// MarshalJSON is the form of the HTTP API.
func (r timerRow) MarshalJSON() ([]byte, error) { return httpapi.FormatTimer(r.Timer) }

var _ json.Marshaler = timerRow{}

// dueIn is how long it takes until the timer fires, or is tried again, with a minus how long ago that should have been.
func (r timerRow) dueIn() string {
	at := r.Due
	if r.State == scheduler.Retrying && !r.NextAttempt.IsZero() {
		at = r.NextAttempt
	}
	left := time.Until(at)
	if left < 0 {
		return "-" + span(-left)
	}
	return span(left)
}

// target is what the timer calls, in a few words.
func (r timerRow) target() string { return targetText(r.Target) }

func targetText(t scheduler.Target) string {
	if t.Transport == "http" {
		if t.Method != "" && t.Method != "POST" {
			return t.Method + " " + redact(t.URI)
		}
		return redact(t.URI)
	}
	return t.Transport + " " + redact(t.URI)
}

// schedule is what makes the timer recur, in the words of the flags.
func (r timerRow) schedule() string {
	p := r.Repeat
	if p == nil {
		return "once"
	}
	words := []string{}
	add := func(given bool, format string, args ...any) {
		if given {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(p.Every != 0, "every %s", p.Every)
	add(p.Cron != "", "cron %q", p.Cron)
	add(p.Zone != "", "in %s", p.Zone)
	add(!p.Start.IsZero(), "from %s", localTime(p.Start))
	add(!p.End.IsZero(), "until %s", localTime(p.End))
	add(p.Max != 0, "%d times", p.Max)
	add(p.Jitter != 0, "jitter %s", p.Jitter)
	add(p.Overlap != "", "overlap %s", p.Overlap)
	add(p.Missed != "", "missed %s", p.Missed)
	return strings.Join(words, ", ")
}

// span is a duration in two units at most.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 24*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// localTime is a time for people.
func localTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05.000") }

func pairs(m map[string]string, sep string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		all = append(all, name+sep+m[name])
	}
	return strings.Join(all, " ")
}

type timersGetCmd struct {
	ID string `arg:"" help:"Which one."`
}

// Help is shown below the usage.
func (*timersGetCmd) Help() string {
	return `Of a recurring timer that is being delivered it shows the next occurrence, with the attempts of the delivery.

Examples:

    skybus timers get invoice-7
    skybus timers get invoice-7 -o json`
}

// Run shows one timer.
func (c *timersGetCmd) Run(ctx context.Context, app *App) error {
	return app.withTimer(ctx, []string{c.ID}, func(ctx context.Context, s *scheduler.Scheduler) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		t, err := s.Get(ctx, c.ID)
		if err != nil {
			return timerHint(err)
		}
		row := timerRow{&t}
		if err := printOne(app, row, row.details()); err != nil || app.Output != formatTable || len(t.Attempts) == 0 {
			return err
		}
		return printAttempts(app, t.Attempts)
	})
}

// details are the timer's rows of a table.
func (r timerRow) details() [][]any {
	rows := [][]any{
		{"id", r.ID},
		{"state", r.State},
		{"due", localTime(r.Due)},
		{"due in", r.dueIn()},
		{"schedule", r.schedule()},
		{"target", r.target()},
	}
	add := func(name string, given bool, v any) {
		if given {
			rows = append(rows, []any{name, v})
		}
	}
	add("occurrence", r.Repeat != nil, r.Occurrence)
	add("secret", r.Target.Secret != "", r.Target.Secret)
	add("key", r.Key != "", r.Key)
	add("labels", len(r.Labels) > 0, pairs(r.Labels, "="))
	add("headers", len(r.Header) > 0, strings.Join(slices.Sorted(maps.Keys(r.Header)), " "))
	add("content type", r.ContentType != "", r.ContentType)
	add("payload", len(r.Payload) > 0, fmt.Sprintf("%.200s", r.Payload))
	add("next attempt", !r.NextAttempt.IsZero(), localTime(r.NextAttempt))
	return append(rows, []any{"created", localTime(r.Created)}, []any{"revision", r.Revision})
}

// printAttempts prints the attempts of a delivery as a table of their own.
func printAttempts(app *App, attempts []scheduler.Attempt) error {
	if _, err := fmt.Fprintln(app.stdout); err != nil {
		return err
	}
	rows := make([][]any, 0, len(attempts))
	for i, a := range attempts {
		result, status := "delivered", any(nil)
		if a.Code != "" {
			result = fmt.Sprintf("%s: %s", a.Code, a.Error)
		}
		if a.Status != 0 {
			status = a.Status
		}
		rows = append(rows, []any{i + 1, localTime(a.At), a.Took.Round(time.Microsecond), status, result})
	}
	return app.writeTable([]string{"attempt", "at", "took", "status", "result"}, rows)
}
