package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/route"
)

type routesPutCmd struct {
	Name     string `arg:"" help:"Name of the route."`
	File     string `short:"f" required:"" help:"YAML or JSON file with the route, or - for standard input." placeholder:"FILE"`
	Revision uint64 `help:"Store it only over this revision, so that nobody's edit is lost. Default: over any." placeholder:"N"`
}

// Help is shown below the usage.
func (routesPutCmd) Help() string {
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
	arg := "@" + c.File
	if c.File == "-" {
		arg = "-"
	}
	data, err := app.input(arg)
	if err != nil {
		return err
	}
	r, err := parseRoute(c.File, data)
	if err != nil {
		return err
	}
	return app.withRoutes(ctx, func(ctx context.Context, conn *bus.Conn, store *route.Store) error {
		return app.putRoute(ctx, conn, store, c.Name, r, c.Revision)
	})
}

func (a *App) putRoute(ctx context.Context, conn *bus.Conn, store *route.Store, name string, r route.Route, over uint64) error {
	put, cancel := a.withTimeout(ctx)
	defer cancel()
	revision, err := store.Put(put, name, r, over)
	if bus.CodeOf(err) == bus.Aborted {
		return withHint(err, "`skybus routes get %s` shows what is there now", name)
	}
	if err != nil {
		return err
	}
	a.warnUnserved(ctx, conn, r)
	return printOne(a, map[string]any{"name": name, "revision": revision}, [][]any{{"route", name}, {"revision", revision}})
}

type routesEditCmd struct {
	Name string `arg:"" help:"Name of the route."`
}

// Help is shown below the usage.
func (routesEditCmd) Help() string {
	return `The route is stored when the editor exits and the file was changed, unless somebody else stored another one meanwhile.
What does not parse is kept in the file, whose name is told.

Examples:

    skybus routes edit getwidgets
    EDITOR="code --wait" skybus routes edit getwidgets`
}

// Run edits one route.
func (c *routesEditCmd) Run(ctx context.Context, app *App) error {
	return app.withRoutes(ctx, func(ctx context.Context, conn *bus.Conn, store *route.Store) error {
		get, cancel := app.withTimeout(ctx)
		defer cancel()
		s, err := store.Get(get, c.Name)
		if err != nil {
			return routeHint(err)
		}
		var before bytes.Buffer
		if err := encode(&before, formatYAML, s.Route); err != nil {
			return err
		}
		path, after, err := app.edit(ctx, c.Name+".yaml", before.Bytes())
		if err != nil {
			return err
		}
		if bytes.Equal(before.Bytes(), after) {
			_, err := fmt.Fprintln(app.stdout, "nothing was changed")
			return errors.Join(err, os.RemoveAll(filepath.Dir(path)))
		}
		r, err := parseRoute(path, after)
		if err == nil {
			err = app.putRoute(ctx, conn, store, c.Name, r, s.Revision)
		}
		if err != nil {
			return withHint(err, "your edit is in %s: mend it and store it by `skybus routes put %s -f %s`", path, c.Name, path)
		}
		return os.RemoveAll(filepath.Dir(path))
	})
}

// edit has text edited and returns what became of it, and the file that still holds it.
func (a *App) edit(ctx context.Context, name string, text []byte) (path string, after []byte, err error) {
	dir, err := os.MkdirTemp("", "skybus-edit-")
	if err != nil {
		return "", nil, fmt.Errorf("edit: %w", err)
	}
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return "", nil, fmt.Errorf("edit: %w", err)
	}
	command := editor(path)
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stdout, a.stderr
	if err := cmd.Run(); err != nil {
		return "", nil, withHint(errors.Join(fmt.Errorf("editor %q: %w", command[0], err), os.RemoveAll(dir)),
			"VISUAL or EDITOR name the editor to use")
	}
	after, err = os.ReadFile(path)
	if err != nil {
		return "", nil, fmt.Errorf("edit: %w", err)
	}
	return path, after, nil
}
