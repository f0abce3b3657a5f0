package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/registry"
	"github.com/skybus-io/skybus/micro/route"
)

type routesCmd struct {
	Ls      routesLsCmd      `cmd:"" default:"withargs" help:"List the routes."`
	Get     routesGetCmd     `cmd:"" help:"Show a route."`
	Put     routesPutCmd     `cmd:"" help:"Store a route from a file. It is live at once."`
	Edit    routesEditCmd    `cmd:"" help:"Edit a route in $VISUAL or $EDITOR. It is live at once."`
	Rm      routesRmCmd      `cmd:"" help:"Remove a route. Its history stays."`
	History routesHistoryCmd `cmd:"" help:"List the revisions of a route."`

	Rollback routesRollbackCmd `cmd:"" help:"Store an older revision of a route again. It is live at once."`
	Explain  routesExplainCmd  `cmd:"" help:"Show what a route would call and why. Nothing is called."`
	Dead     routesDeadCmd     `cmd:"" help:"List, show, repeat and remove asynchronous steps that were given up."`
}

// routeRow is a route as it is printed.
type routeRow struct {
	Name     string    `json:"name"`
	Revision uint64    `json:"revision"`
	Updated  time.Time `json:"updated"`
	Deleted  bool      `json:"deleted,omitempty"`
	Error    string    `json:"error,omitempty"`
	route.Route
}

func newRouteRow(s route.Stored) routeRow {
	row := routeRow{Name: s.Name, Revision: s.Revision, Updated: s.Updated, Deleted: s.Deleted, Route: s.Route}
	if s.Err != nil {
		row.Error = s.Err.Error()
	}
	return row
}

// summary is the steps in one line; asynchronous ones in parentheses, a question mark on those that may fail.
func (r routeRow) summary() string {
	switch {
	case r.Deleted:
		return "(removed)"
	case r.Error != "":
		return "unreadable: " + r.Error
	}
	var steps []string
	for _, s := range r.Steps {
		text := s.Target()
		if s.Version != "" {
			text += "@" + s.Version
		}
		if !s.IsRequired() {
			text += "?"
		}
		if s.Async {
			text = "(" + text + ")"
		}
		steps = append(steps, text)
	}
	return strings.Join(steps, " -> ")
}

// routeDocs are the routes.
func routeDocs() documents[route.Route, *route.Store] {
	return documents[route.Route, *route.Store]{
		noun: "route", article: "a", group: "routes", parse: parseRoute,
		open: func(ctx context.Context, app *App, conn *bus.Conn, bind bool) (*route.Store, error) {
			return route.OpenStore(ctx, conn, route.StoreConfig{Bind: bind, Logger: app.log})
		},
	}
}

type routesLsCmd struct{}

// Help is shown below the usage.
func (*routesLsCmd) Help() string {
	return `Asynchronous steps are shown in parentheses, steps that may fail with a question mark.

Examples:

    skybus routes
    skybus routes -o yaml`
}

// Run lists the routes.
func (c *routesLsCmd) Run(ctx context.Context, app *App) error {
	var rows []routeRow
	err := routeDocs().with(ctx, app, true, func(ctx context.Context, _ *bus.Conn, store *route.Store) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		for s, err := range store.List(ctx) {
			if err != nil {
				return err
			}
			rows = append(rows, newRouteRow(s))
		}
		return nil
	})
	if err != nil && !errors.Is(err, kv.ErrNoBucket) {
		return err
	}
	if len(rows) == 0 {
		app.noteNone("routes")
	}
	return printList(app, rows, []string{"route", "revision", "updated", "steps"}, func(r routeRow) []any {
		return []any{r.Name, r.Revision, r.Updated.Local().Format(time.DateTime), r.summary()}
	})
}

type routesGetCmd struct {
	Name string `arg:"" help:"Name of the route."`
}

// Help is shown below the usage.
func (*routesGetCmd) Help() string {
	return `With -o yaml or -o json it prints what routes put takes.

Examples:

    skybus routes get getwidgets
    skybus routes get getwidgets -o yaml > route.yaml`
}

// Run shows one route.
func (c *routesGetCmd) Run(ctx context.Context, app *App) error {
	return routeDocs().withOne(ctx, app, c.Name, func(ctx context.Context, _ *bus.Conn, store *route.Store) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		s, err := store.Get(ctx, c.Name)
		if err != nil {
			return routeDocs().hint(err)
		}
		if app.Output != formatTable {
			return encode(app.stdout, app.Output, s.Route)
		}
		row := newRouteRow(s)
		if _, err := fmt.Fprintln(app.stdout, printable(fmt.Sprintf("%s  revision %d of %s  %s",
			row.Name, row.Revision, row.Updated.Local().Format(time.DateTime), row.Description))); err != nil {
			return err
		}
		rows := make([][]any, 0, len(row.Steps))
		for i, st := range row.Steps {
			rows = append(rows, []any{i + 1, st.Target(), st.Version, yes(st.Async), yes(st.Retry), yes(st.IsRequired()), duration(st.Timeout)})
		}
		return app.writeTable([]string{"step", "calls", "version", "async", "retry", "required", "timeout"}, rows)
	})
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func duration(d route.Duration) string {
	if d == 0 {
		return ""
	}
	return time.Duration(d).String()
}

type routesRmCmd struct {
	Name     string `arg:"" help:"Name of the route."`
	Force    bool   `help:"Remove it also when other routes have it as a step."`
	Revision uint64 `help:"Remove it only where it has this revision, so that nobody's edit is lost. Default: any." placeholder:"N" env:"-"`
}

// Help is shown below the usage.
func (*routesRmCmd) Help() string {
	return `Examples:

    skybus routes rm getwidgets
    skybus routes rm getwidgets --revision 17`
}

// Run removes one route.
func (c *routesRmCmd) Run(ctx context.Context, app *App) error {
	return routeDocs().withOne(ctx, app, c.Name, func(ctx context.Context, _ *bus.Conn, store *route.Store) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		opts := []route.WriteOption{route.IfRevision(c.Revision)}
		if c.Force {
			opts = append(opts, route.Force())
		}
		err := store.Delete(ctx, c.Name, opts...)
		if bus.CodeOf(err) == bus.FailedPrecondition {
			return withHint(err, "--force removes it all the same; those routes fail then")
		}
		if err != nil {
			return routeDocs().hint(putHint(c.Name, err))
		}
		return printOne(app, map[string]string{"removed": c.Name}, [][]any{{"removed", c.Name}})
	})
}

type routesHistoryCmd struct {
	Name string `arg:"" help:"Name of the route."`
}

// Help is shown below the usage.
func (*routesHistoryCmd) Help() string {
	return `The last 64 revisions are kept, oldest first.

Examples:

    skybus routes history getwidgets
    skybus routes history getwidgets -o json`
}

// Run lists the revisions of one route.
func (c *routesHistoryCmd) Run(ctx context.Context, app *App) error {
	return routeDocs().withOne(ctx, app, c.Name, func(ctx context.Context, _ *bus.Conn, store *route.Store) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		var rows []routeRow
		for s, err := range store.History(ctx, c.Name) {
			if err != nil {
				return routeDocs().hint(err)
			}
			rows = append(rows, newRouteRow(s))
		}
		if len(rows) == 0 {
			return routeDocs().hint(routeDocs().missing(c.Name))
		}
		return printList(app, rows, []string{"revision", "updated", "steps"}, func(r routeRow) []any {
			return []any{r.Revision, r.Updated.Local().Format(time.DateTime), r.summary()}
		})
	})
}

// unserved tells of steps that nobody serves now. They are only a warning: services come and go, routes stay.
func (a *App) unserved(ctx context.Context, conn *bus.Conn, r route.Route) []string {
	ctx, cancel := a.withTimeout(ctx)
	defer cancel()
	reg, err := registry.Open(ctx, conn, registry.Config{Bind: true, Logger: a.log})
	if errors.Is(err, kv.ErrNoBucket) {
		return []string{"no service was ever there"}
	}
	if err != nil {
		return []string{"whether its services are there could not be checked: " + message(err)}
	}
	defer func() { _ = reg.Close() }()
	return route.Unserved(r, reg)
}

func (a *App) warn(format string, args ...any) {
	fmt.Fprintf(a.stderr, "warning: %s\n", printable(fmt.Sprintf(format, args...)))
}
