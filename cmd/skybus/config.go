package main

import (
	"context"
	"errors"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/config"
)

type configCmd struct {
	Ls      configLsCmd      `cmd:"" default:"withargs" help:"List the values."`
	Get     configGetCmd     `cmd:"" help:"Show a value."`
	Put     configPutCmd     `cmd:"" aliases:"set" help:"Set a value. It is live at once."`
	Rm      configRmCmd      `cmd:"" help:"Remove a value. Its history stays."`
	History configHistoryCmd `cmd:"" help:"List the revisions of a value."`
	Watch   configWatchCmd   `cmd:"" help:"Show the values and then every change, until Ctrl-C."`
	Check   configCheckCmd   `cmd:"" help:"Look for mistakes in a file for skybus up."`
	Schema  configSchemaCmd  `cmd:"" help:"Print the JSON Schema of such files, for editors."`
}

// withConfig opens the configuration for f.
func (a *App) withConfig(ctx context.Context, bind bool, f func(context.Context, *kv.Table[[]byte]) error) error {
	return a.withConn(ctx, func(open context.Context, conn *bus.Conn) error {
		table, err := config.Table(open, conn, bind)
		if err != nil {
			return err
		}
		return f(ctx, table)
	})
}

type configLsCmd struct{ configScope }

// Help is shown below the usage.
func (*configLsCmd) Help() string {
	return `Examples:

    skybus config
    skybus config --service getwidgets -o json`
}

// Run lists the values.
func (c *configLsCmd) Run(ctx context.Context, app *App) error {
	ns, pattern, err := c.pattern(app)
	if err != nil {
		return err
	}
	var rows []configRow
	err = app.withConfig(ctx, true, func(ctx context.Context, table *kv.Table[[]byte]) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		for e, err := range table.List(ctx, pattern) {
			if err != nil {
				return err
			}
			rows = append(rows, newConfigRow(ns, e))
		}
		return nil
	})
	if err != nil && !errors.Is(err, kv.ErrNoBucket) {
		return err
	}
	if len(rows) == 0 {
		app.noteNone("values")
	}
	return printList(app, rows, []string{"key", "service", "version", "value", "revision"}, func(r configRow) []any {
		return []any{r.Key, r.Service, r.Version, r.text(), r.Revision}
	})
}

type configGetCmd struct{ configKey }

// Help is shown below the usage.
func (*configGetCmd) Help() string {
	return `It shows exactly what is set for the given scope, and looks in no wider one. With -o json a value that is no text
is in value_base64.

Examples:

    skybus config get log.level
    skybus config get client.timeout.total --service getwidgets
    skybus config get limits > limits.json`
}

// Run prints one value.
func (c *configGetCmd) Run(ctx context.Context, app *App) error {
	return c.with(ctx, app, true, func(ctx context.Context, table *kv.Table[[]byte], key string) error {
		e, err := table.Get(ctx, key)
		if err != nil {
			return err
		}
		if app.Output != formatTable {
			return encode(app.stdout, app.Output, c.row(e))
		}
		return app.writeValue(e.Value)
	})
}

type configPutCmd struct {
	configKey
	Value    string  `arg:"" help:"Value, @FILE to read it from a file, or - from standard input."`
	Revision *uint64 `help:"Set it only over this revision, 0 for none, so that nobody's change is lost. Default: over any." placeholder:"N"`
}

// Help is shown below the usage.
func (*configPutCmd) Help() string {
	return `A value that begins with a dash goes after --, one that begins with @ goes by standard input. Any key can be set; those that
skybus reads itself are log.level, region, host, service.register, client.timeout.retry, client.timeout.total and client.canary
(weights of versions), and take only values of their kind.

Examples:

    skybus config put log.level debug
    skybus config put client.timeout.total 5s --service getwidgets
    skybus config put client.canary '{"1.2.0": 95, "1.3.0": 5}' --service getwidgets
    skybus config put limits @limits.json --service getwidgets --for-version 1.0.0
    skybus config put offset -- -5`
}

// Run sets one value.
func (c *configPutCmd) Run(ctx context.Context, app *App) error {
	if _, err := c.bucketKey(app); err != nil {
		return err
	}
	value, err := app.input(ctx, c.Value)
	if err != nil {
		return err
	}
	if err := config.CheckValue(c.Key, value); err != nil {
		return usagef("%s", message(err))
	}
	return c.with(ctx, app, false, func(ctx context.Context, table *kv.Table[[]byte], key string) error {
		var revision uint64
		var err error
		switch {
		case c.Revision == nil:
			revision, err = table.Put(ctx, key, value)
		case *c.Revision == 0:
			revision, err = table.Create(ctx, key, value)
		default:
			revision, err = table.Update(ctx, key, value, *c.Revision)
		}
		if err != nil {
			return err
		}
		return printOne(app, map[string]any{"key": c.Key, "revision": revision}, [][]any{{"key", c.Key}, {"revision", revision}})
	})
}

type configRmCmd struct{ configKey }

// Help is shown below the usage.
func (*configRmCmd) Help() string {
	return `Examples:

    skybus config rm log.level
    skybus config rm client.timeout.total --service getwidgets`
}

// Run removes one value.
func (c *configRmCmd) Run(ctx context.Context, app *App) error {
	return c.with(ctx, app, true, func(ctx context.Context, table *kv.Table[[]byte], key string) error {
		e, err := table.Get(ctx, key)
		if err == nil {
			err = table.Delete(ctx, key, kv.IfRevision(e.Revision))
		}
		if err != nil {
			return err
		}
		return printOne(app, map[string]string{"removed": c.Key}, [][]any{{"removed", c.Key}})
	})
}

type configHistoryCmd struct{ configKey }

// Help is shown below the usage.
func (*configHistoryCmd) Help() string {
	return `The last 64 revisions are kept, oldest first.

Examples:

    skybus config history log.level`
}

// Run lists the revisions of one value.
func (c *configHistoryCmd) Run(ctx context.Context, app *App) error {
	return c.with(ctx, app, true, func(ctx context.Context, table *kv.Table[[]byte], key string) error {
		var rows []configRow
		for e, err := range table.History(ctx, key) {
			if err != nil {
				return err
			}
			rows = append(rows, c.row(e))
		}
		if len(rows) == 0 {
			return kv.ErrNotFound
		}
		return printList(app, rows, []string{"revision", "updated", "value"}, func(r configRow) []any {
			return []any{r.Revision, r.Updated.Local().Format(time.DateTime), r.text()}
		})
	})
}

type configWatchCmd struct{ configScope }

// Help is shown below the usage.
func (*configWatchCmd) Help() string {
	return `With -o json it prints a line of JSON for each value and each change.

Examples:

    skybus config watch
    skybus config watch --service getwidgets -o json`
}

// Run prints the values and then every change.
func (c *configWatchCmd) Run(ctx context.Context, app *App) error {
	ns, pattern, err := c.pattern(app)
	if err != nil {
		return err
	}
	err = app.withConfig(ctx, false, func(ctx context.Context, table *kv.Table[[]byte]) error {
		for e, err := range table.Watch(ctx, pattern) {
			if err != nil {
				return err
			}
			if e.Key == "" {
				continue // what follows are changes
			}
			row := newConfigRow(ns, e)
			if err := printEvent(app, row, row.line()); err != nil {
				return err
			}
		}
		return nil
	})
	return unlessStopped(ctx, err)
}
