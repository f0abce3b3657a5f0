package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/registry"
	"github.com/skybus-io/skybus/micro/route"
)

type routesExplainCmd struct {
	Name string `arg:"" help:"Name of the route."`
	Body string `arg:"" optional:"" help:"Request as JSON, @FILE to read it from a file, or - from standard input. Default: none."`
}

// Help is shown below the usage.
func (*routesExplainCmd) Help() string {
	return `It goes by what is known of the services now, for a request that may take --timeout.

Examples:

    skybus routes explain getwidgets '{"input":"x"}'
    skybus routes explain getwidgets -o json`
}

// Run explains one route.
func (c *routesExplainCmd) Run(ctx context.Context, app *App) error {
	body, err := app.input(ctx, c.Body)
	if err != nil {
		return err
	}
	return routeDocs().withOne(ctx, app, c.Name, func(ctx context.Context, conn *bus.Conn, store *route.Store) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		x := route.Explainer{Namespace: conn.Namespace()}
		all := map[string]route.Stored{}
		for s, err := range store.List(ctx) {
			if err != nil {
				return err
			}
			all[s.Name] = s
		}
		if _, ok := all[c.Name]; !ok {
			return routeDocs().hint(routeDocs().missing(c.Name))
		}
		x.Route = func(name string) (route.Stored, bool) { s, ok := all[name]; return s, ok }
		reg, err := registryOf(ctx, app, conn)
		if err != nil {
			return err
		}
		if reg != nil {
			defer func() { _ = reg.Close() }()
			x.Registry = reg
		}
		return app.printExplanation(x.Explain(c.Name, route.Request{Body: body}, app.Timeout))
	})
}

// registryOf is what is known of the services, nil where no service was ever there.
func registryOf(ctx context.Context, app *App, conn *bus.Conn) (*registry.Registry, error) {
	reg, err := registry.Open(ctx, conn, registry.Config{Bind: true, Logger: app.log})
	if errors.Is(err, kv.ErrNoBucket) {
		return nil, nil
	}
	return reg, err
}

func (a *App) printExplanation(e route.Explanation) error {
	if a.Output != formatTable {
		return encode(a.stdout, a.Output, e)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s  revision %d, the request is %s, within %v\n", e.Route, e.Revision, e.Request, e.Timeout)
	if e.Problem != "" {
		fmt.Fprintf(&b, "  problem    %s\n", e.Problem)
	}
	for _, s := range e.Steps {
		explainStep(&b, s)
	}
	_, err := fmt.Fprint(a.stdout, printable(b.String()))
	return err
}

func explainStep(b *strings.Builder, s route.Explained) {
	indent := strings.Repeat("  ", strings.Count(s.Step, ".")+1)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, "%s  %-10s %s\n", indent, name, value)
		}
	}
	var flags []string
	for _, f := range []struct {
		set  bool
		text string
	}{
		{s.Version != "", "version " + s.Version},
		{s.Async, "asynchronous"},
		{s.Retry, "may be repeated"},
		{!s.Required, "its error does not end the route"},
		{s.Idempotent, "idempotent"},
		{s.Amends, "is given the response so far"},
		{s.OneWay, "takes one-way messages"},
	} {
		if f.set {
			flags = append(flags, f.text)
		}
	}
	fmt.Fprintf(b, "%s%s  %s  within %v\n", indent, s.Step, s.Target, s.Timeout)
	line("flags", strings.Join(flags, ", "))
	line("subject", s.Subject)
	line("goes to", s.Why)
	line("instances", strings.Join(s.Instances, ", "))
	line("others", strings.Join(s.Others, ", "))
	line("problem", s.Problem)
}
