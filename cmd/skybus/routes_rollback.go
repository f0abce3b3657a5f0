package main

import (
	"context"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/route"
)

type routesRollbackCmd struct {
	Name string `arg:"" help:"Name of the route."`
	To   uint64 `help:"Revision to store again. Default: the one before the present one, or the last one of a route that was removed." placeholder:"REV"`

	routeWriteFlags
}

// Help is shown below the usage.
func (*routesRollbackCmd) Help() string {
	return `The older revision becomes a new one, unless somebody else stores another one meanwhile.

Examples:

    skybus routes history getwidgets
    skybus routes rollback getwidgets --dry-run
    skybus routes rollback getwidgets --to 7`
}

// Run rolls one route back.
func (c *routesRollbackCmd) Run(ctx context.Context, app *App) error {
	return routeDocs().withOne(ctx, app, c.Name, func(ctx context.Context, conn *bus.Conn, store *route.Store) error {
		roll, cancel := app.withTimeout(ctx)
		defer cancel()
		old, err := store.At(roll, c.Name, c.To)
		if err != nil {
			return c.hint(err)
		}
		if c.DryRun {
			return app.dryRun(roll, conn, store, routeWrite{c.Name, old.Route, nil, c.routeWriteFlags})
		}
		revision, err := store.Rollback(roll, c.Name, old.Revision, c.options()...)
		if err != nil {
			return putHint(c.Name, err)
		}
		for _, text := range app.unserved(ctx, conn, old.Route) {
			app.warn("%s; the route is stored all the same", text)
		}
		return routeDocs().print(app, c.Name, revision)
	})
}

func (c *routesRollbackCmd) hint(err error) error {
	switch bus.CodeOf(err) {
	case bus.NotFound:
		if bus.AsError(err).Details["revision"] == "" {
			return routeDocs().hint(err)
		}
	case bus.FailedPrecondition, bus.DataLoss:
	default:
		return err
	}
	return withHint(err, "`skybus routes history %s` lists its revisions", c.Name)
}
