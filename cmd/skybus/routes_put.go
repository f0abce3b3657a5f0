package main

import (
	"context"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/route"
)

type routesPutCmd struct {
	Name     string  `arg:"" help:"Name of the route."`
	File     string  `short:"f" required:"" help:"YAML or JSON file with the route, or - for standard input." placeholder:"FILE"`
	Revision *uint64 `help:"Store it only over this revision, 0 for none, so that nobody's edit is lost. Default: over any." placeholder:"N"`
}

// Help is shown below the usage.
func (*routesPutCmd) Help() string {
	return `A route is a list of steps:

    description: what it is for
    steps:
      - service: log          # required, as is endpoint
        endpoint: write
        async: true           # stored, done later, its response is not waited for
      - service: getwidgets
        endpoint: get
        version: 1.0.0        # only instances of this version
        timeout: 2s           # default: what is left of the request's time
        retry: true           # may be done twice: try again when no answer comes in time
        required: false       # an error does not end the route; default: true

Examples:

    skybus routes put getwidgets -f route.yaml
    skybus routes get getwidgets -o yaml | sed s/1.0.0/1.1.0/ | skybus routes put getwidgets -f -`
}

// Run stores one route.
func (c *routesPutCmd) Run(ctx context.Context, app *App) error {
	if err := checkRouteName(c.Name); err != nil {
		return err
	}
	data, err := app.readFile(ctx, c.File)
	if err != nil {
		return err
	}
	file := c.File
	if file == "-" {
		file = "standard input"
	}
	r, err := parseRoute(file, data)
	if err != nil {
		return withHint(err, "`skybus routes put --help` shows what a route looks like")
	}
	return app.withRoutes(ctx, false, func(ctx context.Context, conn *bus.Conn, store *route.Store) error {
		return app.putRoute(ctx, conn, store, c.Name, r, c.Revision)
	})
}

// putRoute stores r over the revision given: any when there is none, no route at all when it is 0.
func (a *App) putRoute(ctx context.Context, conn *bus.Conn, store *route.Store, name string, r route.Route, over *uint64) error {
	put, cancel := a.withTimeout(ctx)
	defer cancel()
	var revision uint64
	var err error
	switch {
	case over == nil:
		revision, err = store.Put(put, name, r, 0)
	case *over == 0:
		revision, err = store.Create(put, name, r)
	default:
		revision, err = store.Put(put, name, r, *over)
	}
	if code := bus.CodeOf(err); code == bus.Aborted || code == bus.AlreadyExists {
		return withHint(err, "`skybus routes get %s` shows what is there now", name)
	}
	if err != nil {
		return err
	}
	a.warnUnserved(ctx, conn, r)
	return a.printRoute(name, revision)
}

// printRoute says which revision of a route is there now.
func (a *App) printRoute(name string, revision uint64) error {
	return printOne(a, map[string]any{"name": name, "revision": revision}, [][]any{{"route", name}, {"revision", revision}})
}
