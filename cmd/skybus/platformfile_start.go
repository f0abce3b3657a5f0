package main

import (
	"context"
	"fmt"

	"github.com/skybus-io/skybus/bus"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/micro/route"
)

// store puts the routes and entries that the file has in place of those that are there by the same names; others stay.
func (p *platformFile) store(ctx context.Context, app *App, on *platform) error {
	ctx, cancel := app.toStart(ctx)
	defer cancel()
	if len(p.routes) > 0 {
		routes, err := route.OpenStore(ctx, on.conn, route.StoreConfig{Logger: on.conn.Logger()})
		if err != nil {
			return err
		}
		if err := p.storeRoutes(ctx, routes); err != nil {
			return err
		}
	}
	if len(p.entries) == 0 {
		return nil
	}
	entries, err := gateway.OpenStore(ctx, on.conn, false)
	if err != nil {
		return err
	}
	all, err := app.entries(ctx, entries)
	if err != nil {
		return err
	}
	changes, err := planEntries(all, p.entries, false)
	if err != nil {
		return err
	}
	_, left, err := app.applyEntries(ctx, entries, changes)
	for _, why := range left { // somebody stored another one for the same requests, and needs a server to remove it
		details := bus.AsError(why).Details
		app.log.WarnContext(ctx, "an entry of the file is left out: `skybus http rm` makes room for it", "entry", details["entry"], "conflicts_with", details["conflict"], "error", message(why))
	}
	return err
}

func (p *platformFile) storeRoutes(ctx context.Context, store *route.Store) error {
	for _, r := range p.routes {
		if there, err := store.Get(ctx, r.name); err == nil && there.Route.Equal(r.route) {
			continue // it keeps its revision
		}
		// A route may name one that comes later in the file.
		if _, err := store.Put(ctx, r.name, r.route, 0, route.Force()); err != nil {
			return fmt.Errorf("route %q: %w", r.name, err)
		}
	}
	return nil
}

// listen takes the addresses of the listeners for TCP.
func (p *platformFile) listen(ctx context.Context, app *App, on *platform) error {
	if p == nil || p.tcp == nil {
		return nil
	}
	return p.tcp.listen(ctx, app, on)
}

// start starts the initiators, after what they send to.
func (p *platformFile) start(ctx context.Context, app *App, on *platform, runner *route.Runner) error {
	if p.tcp != nil {
		if err := p.tcp.start(ctx, app, on, on.sources(on.client, runner, p.tcp.PublishPrefixes)); err != nil {
			return err
		}
	}
	if p.files == nil {
		return nil
	}
	return p.files.start(ctx, on, on.sources(on.client, runner, p.files.PublishPrefixes), on.conn.Logger(), func(err error) {
		app.log.ErrorContext(ctx, "files that were to be read once are not all read", "error", message(err))
	}, func() {
		app.log.InfoContext(ctx, "all files that were to be read once are read")
	})
}
