package main

import (
	"context"
	"fmt"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/mirror"
)

// removeSays is how often it is said how far a removal is.
const removeSays = 2 * time.Second

type mirrorRmCmd struct {
	Name  string `arg:"" help:"Which one."`
	Yes   bool   `short:"y" help:"Do not ask whether it is meant." env:"-"`
	Force bool   `help:"Remove it also while a process runs it, and where writes wait for backends or are parked." env:"-"`
}

// Help is shown below the usage.
func (*mirrorRmCmd) Help() string {
	return `Its backends and settings go, the writes that are kept and those that are parked, and what the backends answered. The applications
themselves, and other mirrors, are left alone. Stop its processes first: one that still runs answers reads and writes with 503 until it
is started again, and makes the mirror anew then, with the backends of its file alone.

Examples:

    skybus mirror rm shop
    skybus mirror rm shop --yes -o json
    skybus mirror rm shop --force --yes    # also what no backend has applied yet`
}

// Run removes a mirror.
func (c *mirrorRmCmd) Run(ctx context.Context, app *App) error {
	if err := bus.CheckToken("name", c.Name); err != nil {
		return usagef("%s", message(err))
	}
	which := mirrorName{Mirror: c.Name}
	return which.with(ctx, app, func(ctx context.Context, m *mirror.Mirror) error {
		read, cancel := app.withTimeout(ctx)
		defer cancel()
		found, err := m.Contents(read)
		if err != nil {
			return err
		}
		if err := found.InUse(); err != nil && !c.Force {
			return c.hint(err)
		}
		what := fmt.Sprintf("mirror %s will be removed, with %s, %s and %s", c.Name,
			plural(found.Backends, "backend"), plural(int(found.Writes), "stored write"), plural(int(found.Parked), "parked one")) //nolint:gosec // no stream has as many
		if err := app.confirm(ctx, c.Yes, what); err != nil {
			return err
		}
		if found, err = m.Remove(ctx, c.options(app)...); err != nil {
			return c.hint(err)
		}
		removed := map[string]any{"removed": c.Name, "backends": found.Backends, "writes": found.Writes, "parked": found.Parked}
		return printOne(app, removed, [][]any{{"removed", c.Name}, {"backends", found.Backends}, {"writes", found.Writes}, {"parked", found.Parked}})
	})
}

func (c *mirrorRmCmd) options(app *App) []mirror.RemoveOption {
	said := time.Now()
	opts := []mirror.RemoveOption{mirror.Progress(func(bodies, of int) {
		if time.Since(said) > removeSays {
			said = time.Now()
			app.note("%d of %d large bodies removed", bodies, of)
		}
	})}
	if c.Force {
		opts = append(opts, mirror.Force())
	}
	return opts
}

// hint says what to do about a mirror that is not removed.
func (c *mirrorRmCmd) hint(err error) error {
	switch bus.CodeOf(err) {
	case bus.FailedPrecondition:
		return withHint(err, "`skybus mirror status -m %s` shows it; --force removes it all the same", c.Name)
	case bus.PermissionDenied, bus.Aborted:
		return err
	default:
		return withHint(err, "`skybus mirror rm %s` again removes what is left", c.Name)
	}
}
