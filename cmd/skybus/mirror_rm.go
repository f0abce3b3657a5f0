package main

import (
	"context"
	"fmt"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/mirror"
)

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
			return withHint(err, "`skybus mirror status -m %s` shows it; --force removes it all the same", c.Name)
		}
		what := fmt.Sprintf("mirror %s will be removed, with %s, %s and %s", c.Name,
			plural(found.Backends, "backend"), plural(int(found.Writes), "stored write"), plural(int(found.Parked), "parked one")) //nolint:gosec // no stream has as many
		if err := app.confirm(ctx, c.Yes, what); err != nil {
			return err
		}
		var opts []mirror.RemoveOption
		if c.Force {
			opts = append(opts, mirror.Force())
		}
		write, done := app.withTimeout(ctx)
		defer done()
		if found, err = m.Remove(write, opts...); err != nil {
			return err
		}
		removed := map[string]any{"removed": c.Name, "backends": found.Backends, "writes": found.Writes, "parked": found.Parked}
		return printOne(app, removed, [][]any{{"removed", c.Name}, {"backends", found.Backends}, {"writes", found.Writes}, {"parked", found.Parked}})
	})
}
