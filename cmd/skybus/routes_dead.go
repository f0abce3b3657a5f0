package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/route"
)

type routesDeadCmd struct {
	Ls      deadLsCmd      `cmd:"" default:"withargs" help:"List the asynchronous steps that were given up."`
	Show    deadShowCmd    `cmd:"" help:"Show one, with its request."`
	Redrive deadRedriveCmd `cmd:"" help:"Have them done again, and forget them."`
	Rm      deadRmCmd      `cmd:"" help:"Forget them."`
}

func (a *App) withDead(ctx context.Context, f func(context.Context, *route.DeadLetters) error) error {
	return a.withConn(ctx, func(_ context.Context, conn *bus.Conn) error { return f(ctx, route.NewDeadLetters(conn)) })
}

// deadIDs are the letters that a command is for.
type deadIDs struct {
	IDs    []string `arg:"" optional:"" name:"id" help:"Which ones."`
	All    bool     `help:"All of them."`
	Target string   `help:"All of an endpoint, service.endpoint, or of a route, as in \"route NAME\"." placeholder:"TARGET"`
}

// Validate finds what does not go together.
func (d *deadIDs) Validate() error {
	ways := 0
	for _, given := range []bool{len(d.IDs) > 0, d.All, d.Target != ""} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return errors.New("want ids, --all or --target")
	}
	for _, id := range d.IDs {
		if err := bus.CheckToken("id", id); err != nil {
			return errors.New(message(err))
		}
	}
	return nil
}

// each calls f for each letter and returns the ids that went well. Of letters that are not named, sure is told how many there are, and its error ends it.
func (d *deadIDs) each(ctx context.Context, app *App, sure func(context.Context, int) error,
	f func(context.Context, *route.DeadLetters, string) error,
) (done []string, err error) {
	err = app.withDead(ctx, func(ctx context.Context, dead *route.DeadLetters) error {
		ids := d.IDs
		if len(ids) == 0 {
			list, err := app.deadLetters(ctx, dead, d.Target)
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
			err := f(one, dead, id)
			cancel()
			if err == nil {
				done = append(done, id)
				continue
			}
			errs = append(errs, deadHint(err))
			if ctx.Err() != nil || bus.CodeOf(err) == bus.ResourceExhausted {
				break
			}
		}
		return errors.Join(errs...)
	})
	return done, err
}

func (a *App) deadLetters(ctx context.Context, dead *route.DeadLetters, target string) ([]route.DeadLetter, error) {
	var list []route.DeadLetter
	for l, err := range dead.List(ctx) {
		if err != nil {
			return nil, err
		}
		if target == "" || l.Target == target {
			list = append(list, l)
		}
	}
	return list, nil
}

func deadHint(err error) error {
	if bus.CodeOf(err) == bus.NotFound {
		return withHint(err, "`skybus routes dead` lists them")
	}
	return err
}

type deadLsCmd struct {
	Target string `help:"Only those of an endpoint, service.endpoint, or of a route, as in \"route NAME\"." placeholder:"TARGET"`
}

// Help is shown below the usage.
func (*deadLsCmd) Help() string {
	return `A step is given up after 20 attempts and an hour, or at once when its service says that the request itself is bad.

Examples:

    skybus routes dead
    skybus routes dead --target log.write -o json`
}

// Run lists them.
func (c *deadLsCmd) Run(ctx context.Context, app *App) error {
	var list []route.DeadLetter
	err := app.withDead(ctx, func(ctx context.Context, dead *route.DeadLetters) (err error) {
		list, err = app.deadLetters(ctx, dead, c.Target)
		return err
	})
	if err != nil {
		return err
	}
	if len(list) == 0 {
		app.note("no asynchronous step was given up")
	}
	return printList(app, list, []string{"id", "died", "calls", "attempts", "error"}, func(l route.DeadLetter) []any {
		return []any{l.ID, l.Died.Local().Format(time.DateTime), l.Target, l.Attempts, fmt.Sprintf("%.100s", l.Error)}
	})
}

type deadShowCmd struct {
	ID string `arg:"" help:"Which one."`
}

// Run shows one.
func (c *deadShowCmd) Run(ctx context.Context, app *App) error {
	if err := bus.CheckToken("id", c.ID); err != nil {
		return usagef("%s", message(err))
	}
	return app.withDead(ctx, func(ctx context.Context, dead *route.DeadLetters) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		l, err := dead.Get(ctx, c.ID)
		if err != nil {
			return deadHint(err)
		}
		body := string(l.Body)
		if l.Truncated {
			body = fmt.Sprintf("(%d bytes, too large to keep)", l.Size)
		}
		shown := struct {
			route.DeadLetter
			Body any `json:"body"`
		}{l, shownBody(l.Body)}
		return printOne(app, shown, [][]any{
			{"id", l.ID},
			{"calls", l.Target},
			{"version", l.Version},
			{"died", l.Died.Local().Format(time.DateTime)},
			{"attempts", l.Attempts},
			{"error", l.Error},
			{"request id", l.RequestID},
			{"origin", l.Origin},
			{"content type", l.ContentType},
			{"body", body},
		})
	})
}

// shownBody is a body as JSON shows it best: itself, as text, or in base64.
func shownBody(body []byte) any {
	switch {
	case json.Valid(body):
		return json.RawMessage(body)
	case utf8.Valid(body):
		return string(body)
	}
	return body
}

type deadRedriveCmd struct{ deadIDs }

// Help is shown below the usage.
func (*deadRedriveCmd) Help() string {
	return `They go back into the queue of asynchronous steps as if they were new. Interrupted, it may do that twice with one of them.

Examples:

    skybus routes dead redrive --all
    skybus routes dead redrive --target log.write`
}

// Run has them done again.
func (c *deadRedriveCmd) Run(ctx context.Context, app *App) error {
	done, err := c.each(ctx, app, func(context.Context, int) error { return nil }, func(ctx context.Context, dead *route.DeadLetters, id string) error {
		return dead.Redrive(ctx, id)
	})
	return errors.Join(app.printCount("redriven", done), err)
}

type deadRmCmd struct {
	deadIDs

	Yes bool `short:"y" help:"Do not ask whether all of them are meant." env:"-"`
}

// Help is shown below the usage.
func (*deadRmCmd) Help() string {
	return `Examples:

    skybus routes dead rm Hh3kq0w2Zr1vX7cH5tK9bL
    skybus routes dead rm --target log.write --yes`
}

// Run forgets them.
func (c *deadRmCmd) Run(ctx context.Context, app *App) error {
	sure := func(ctx context.Context, n int) error {
		if n == 0 {
			return nil
		}
		return app.confirm(ctx, c.Yes, plural(n, "dead letter")+" will be removed")
	}
	done, err := c.each(ctx, app, sure, func(ctx context.Context, dead *route.DeadLetters, id string) error { return dead.Remove(ctx, id) })
	if _, usage := errors.AsType[*usageError](err); usage || errors.Is(err, errDeclined) {
		return err
	}
	return errors.Join(app.printCount("removed", done), err)
}

// printCount says what was done with how many.
func (a *App) printCount(what string, ids []string) error {
	if ids == nil {
		ids = []string{}
	}
	return printOne(a, map[string]any{what: ids}, [][]any{{what, len(ids)}})
}
