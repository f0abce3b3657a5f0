package main

import (
	"context"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/mirror"
)

type mirrorCmd struct {
	Ls     mirrorLsCmd     `cmd:"" default:"withargs" help:"List the mirrors."`
	Run    mirrorRunCmd    `cmd:"" help:"Run a mirror: it takes writes, brings them to all backends, and serves reads."`
	Rm     mirrorRmCmd     `cmd:"" help:"Remove a mirror, with all that is stored of it."`
	Status mirrorStatusCmd `cmd:"" help:"Show who sends, and how far each backend is."`
	Nodes  mirrorNodesCmd  `cmd:"" aliases:"backends" help:"List, add, change and delete the backends of a mirror."`
	Parked mirrorParkedCmd `cmd:"" help:"List, show, repeat and drop writes that a backend answered otherwise than the others."`
	Diff   mirrorDiffCmd   `cmd:"" help:"List the writes that backends answered differently."`
	Repair mirrorRepairCmd `cmd:"" help:"Send a backend writes again."`
	Drain  mirrorDrainCmd  `cmd:"" help:"Wait until backends have applied all that is stored now."`
}

// mirrorName is the flag of the commands about one mirror.
type mirrorName struct {
	Mirror string `short:"m" help:"Which mirror. Default: the one called default, or the only one there is." placeholder:"NAME"`
}

// with opens the mirror for f, which may look at it and change backends. A mirror that nobody has run is not made: that would decide for good
// how its writes are kept in order.
func (c *mirrorName) with(ctx context.Context, app *App, f func(context.Context, *mirror.Mirror) error) error {
	if c.Mirror != "" {
		if err := bus.CheckToken("--mirror", c.Mirror); err != nil {
			return usagef("%s", message(err))
		}
	}
	return app.withConn(ctx, func(open context.Context, conn *bus.Conn) error {
		known, err := mirror.List(open, conn)
		if err != nil {
			return err
		}
		name, err := c.choose(app, known)
		if err != nil {
			return err
		}
		m, err := mirror.Open(open, conn, mirror.Config{Name: name, Observe: true, Logger: app.log})
		if err != nil {
			return err
		}
		defer func() { _ = m.Close() }() // it sends nothing
		return f(ctx, m)
	})
}

func (c *mirrorName) choose(app *App, known []mirror.Info) (string, error) {
	want := c.Mirror
	if want == "" && len(known) == 1 {
		return known[0].Name, nil
	}
	names := make([]string, 0, len(known))
	for _, info := range known {
		if info.Name == want || want == "" && info.Name == mirror.DefaultName {
			return info.Name, nil
		}
		names = append(names, info.Name)
	}
	switch {
	case len(known) == 0:
		return "", withHint(bus.Errorf(bus.NotFound, "there are no mirrors in %s", app.shownNamespace()), "`skybus mirror run -f mirror.yaml` makes one")
	case want == "":
		return "", usagef("there are several mirrors: --mirror names one of %s", strings.Join(names, ", "))
	}
	return "", withHint(bus.Errorf(bus.NotFound, "there is no mirror %q in %s", want, app.shownNamespace()), "there are: %s", strings.Join(names, ", "))
}

// mirrorHint says what to do next about an error of a mirror.
func mirrorHint(err error) error {
	switch bus.CodeOf(err) {
	case bus.NotFound:
		return withHint(err, "`skybus mirror nodes` lists the backends")
	default:
		return err
	}
}

type mirrorLsCmd struct{}

// Help is shown below the usage.
func (*mirrorLsCmd) Help() string {
	return `The number of lanes and the key are for a mirror's life: they say which writes stay in order.

Examples:

    skybus mirror
    skybus mirror ls -o json`
}

// Run lists the mirrors.
func (*mirrorLsCmd) Run(ctx context.Context, app *App) error {
	all, err := query(ctx, app, mirror.List)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		app.noteNone("mirrors")
	}
	for _, info := range all {
		if info.Removing {
			app.note("%s was removed by half, or is being removed: `skybus mirror rm %s` removes the rest", info.Name, info.Name)
		}
	}
	return printList(app, all, []string{"name", "lanes", "key"}, func(i mirror.Info) []any { return []any{i.Name, i.Lanes, i.Key} })
}
