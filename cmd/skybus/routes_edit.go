package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/route"
)

type routesEditCmd struct {
	Name string `arg:"" help:"Name of the route."`

	routeWriteFlags
}

// Help is shown below the usage.
func (*routesEditCmd) Help() string {
	return `The route is stored when the editor exits and the route was changed, unless somebody else stored another one meanwhile.
What cannot be stored is kept in a file, whose name is told. To give up, leave the file as it is or empty, or have the
editor fail.

Examples:

    skybus routes edit getwidgets
    EDITOR="code --wait" skybus routes edit getwidgets`
}

// Run edits one route.
func (c *routesEditCmd) Run(ctx context.Context, app *App) error {
	return routeDocs().withOne(ctx, app, c.Name, func(ctx context.Context, conn *bus.Conn, store *route.Store) error {
		get, cancel := app.withTimeout(ctx)
		defer cancel()
		s, err := store.Get(get, c.Name)
		if err != nil {
			return routeDocs().hint(err)
		}
		return routeDocs().edit(ctx, app, kept[route.Route]{c.Name, s.Revision, &s.Route}, c.DryRun, func(ctx context.Context, r route.Route) error {
			return app.putRoute(ctx, conn, store, routeWrite{c.Name, r, &s.Revision, c.routeWriteFlags})
		})
	})
}

// draft is a file with a text that is edited, in a directory of its own.
type draft struct {
	path          string
	before, after []byte
}

func newDraft(name string, text []byte) (*draft, error) {
	dir, err := os.MkdirTemp("", "skybus-edit-")
	if err != nil {
		return nil, fmt.Errorf("edit: %w", err)
	}
	d := &draft{path: filepath.Join(dir, name), before: text}
	if err := os.WriteFile(d.path, text, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("edit: %w", err), d.remove())
	}
	return d, nil
}

// edit runs the editor. A draft that was given up is removed.
func (d *draft) edit(app *App) error {
	name, args := editor(d.path)
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // it ends when its user ends it
	cmd.Stdin, cmd.Stdout, cmd.Stderr = app.stdin, app.stdout, app.stderr
	failed := cmd.Run()
	var err error
	d.after, err = os.ReadFile(d.path)
	if failed != nil {
		failed = fmt.Errorf("editor %q: %w", name, failed)
		if err == nil && !bytes.Equal(d.before, d.after) && len(d.after) > 0 {
			return d.keep(failed, "nothing was stored")
		}
		return withHint(errors.Join(failed, d.remove()), "VISUAL or EDITOR name the editor to use")
	}
	if err == nil && len(bytes.TrimSpace(d.after)) > 0 {
		return nil
	}
	return errors.Join(errors.New("the edited file is empty or gone: nothing was stored"), d.remove())
}

// keep says where the draft is beside why it was not stored.
func (d *draft) keep(err error, format string, args ...any) error {
	return withHint(err, "your edit is in %s: %s", d.path, fmt.Sprintf(format, args...))
}

func (d *draft) remove() error { return os.RemoveAll(filepath.Dir(d.path)) }

// holdInterrupts keeps interrupts from ending the program until release is called. A terminal sends them to the programs
// in it, too.
func holdInterrupts() (release func()) {
	held := make(chan os.Signal, 1)
	signal.Notify(held, os.Interrupt)
	return func() { signal.Stop(held) }
}
