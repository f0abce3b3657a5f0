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

	routeWriteFlags
}

// routeWriteFlags are those of commands that store a route.
type routeWriteFlags struct {
	DryRun bool `help:"Check it and show what would change, but store nothing."`
	Force  bool `help:"Store it also when it names routes that do not exist."`
}

func (f routeWriteFlags) options() []route.WriteOption {
	if f.Force {
		return []route.WriteOption{route.Force()}
	}
	return nil
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
      - route: invoice        # another route, in the place of service and endpoint

Examples:

    skybus routes put getwidgets -f route.yaml
    skybus routes put getwidgets -f route.yaml --dry-run
    skybus routes get getwidgets -o yaml | sed s/1.0.0/1.1.0/ | skybus routes put getwidgets -f -`
}

// Run stores one route.
func (c *routesPutCmd) Run(ctx context.Context, app *App) error {
	if err := routeDocs().checkName(c.Name); err != nil {
		return err
	}
	r, err := routeDocs().read(ctx, app, c.File)
	if err != nil {
		return err
	}
	return routeDocs().with(ctx, app, false, func(ctx context.Context, conn *bus.Conn, store *route.Store) error {
		return app.putRoute(ctx, conn, store, routeWrite{c.Name, r, c.Revision, c.routeWriteFlags})
	})
}

// routeWrite is a route to be stored over the revision given: any when there is none, no route at all when it is 0.
type routeWrite struct {
	name  string
	route route.Route
	over  *uint64
	routeWriteFlags
}

func (a *App) putRoute(ctx context.Context, conn *bus.Conn, store *route.Store, w routeWrite) error {
	put, cancel := a.withTimeout(ctx)
	defer cancel()
	if w.DryRun {
		return a.dryRun(put, conn, store, w)
	}
	var revision uint64
	var err error
	switch {
	case w.over == nil:
		revision, err = store.Put(put, w.name, w.route, 0, w.options()...)
	case *w.over == 0:
		revision, err = store.Create(put, w.name, w.route, w.options()...)
	default:
		revision, err = store.Put(put, w.name, w.route, *w.over, w.options()...)
	}
	if err != nil {
		return putHint(w.name, err)
	}
	for _, text := range a.unserved(ctx, conn, w.route) {
		a.warn("%s; the route is stored all the same", text)
	}
	return routeDocs().print(a, w.name, revision)
}

func putHint(name string, err error) error {
	switch bus.CodeOf(err) {
	case bus.Aborted, bus.AlreadyExists:
		return withHint(err, "`skybus routes get %s` shows what is there now", name)
	case bus.Unavailable:
		return withHint(err, "routes run on as they are; start the servers of the cluster that are missing")
	case bus.FailedPrecondition:
		if e := bus.AsError(err); e.Details["missing"] != "" {
			return withHint(err, "--force stores it all the same")
		}
	default:
	}
	return err
}
