package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

const (
	configBucket  = "skybus_config"
	configHistory = 64
	anyToken      = "_" // in place of a service or a version: for all of them
)

type configCmd struct {
	Ls      configLsCmd      `cmd:"" default:"withargs" help:"List the values."`
	Get     configGetCmd     `cmd:"" help:"Show a value."`
	Put     configPutCmd     `cmd:"" help:"Set a value. It is live at once."`
	Rm      configRmCmd      `cmd:"" help:"Remove a value. Its history stays."`
	History configHistoryCmd `cmd:"" help:"List the revisions of a value."`
	Watch   configWatchCmd   `cmd:"" help:"Show the values and then every change, until Ctrl-C."`
}

// configScope says for whom a value is meant.
type configScope struct {
	Service    string `help:"For this service only. Default: for all." placeholder:"NAME"`
	ForVersion string `help:"For this version of the service only. Default: for all." placeholder:"VERSION"`
}

// key is the key of a value in the bucket: <app>.<env>.<service or _>.<version token or _>.<name...>.
func (s configScope) key(ns bus.Namespace, name string) (string, error) {
	service, version, err := s.tokens()
	if err != nil {
		return "", err
	}
	for token := range strings.SplitSeq(name, ".") {
		if err := bus.CheckToken("key", token); err != nil {
			return "", usagef("key %.80q: %s", name, message(err))
		}
	}
	key := ns.Key(service, version, name)
	if err := kv.CheckKey(key); err != nil {
		return "", usagef("key %.80q: %s", name, message(err))
	}
	return key, nil
}

// pattern matches the values of the scope: of all services and versions where none is named.
func (s configScope) pattern(ns bus.Namespace) (string, error) {
	if s.Service == "" && s.ForVersion == "" {
		return ns.Key(">"), nil
	}
	service, version, err := s.tokens()
	if err != nil {
		return "", err
	}
	if s.ForVersion == "" {
		version = "*"
	}
	return ns.Key(service, version, ">"), nil
}

func (s configScope) tokens() (service, version string, err error) {
	service, version = anyToken, anyToken
	if s.Service != "" {
		if err := bus.CheckToken("service", s.Service); err != nil {
			return "", "", usagef("--service: %s", message(err))
		}
		service = s.Service
	}
	if s.ForVersion != "" {
		if s.Service == "" {
			return "", "", usagef("--for-version needs --service: a version is one of a service")
		}
		if err := bus.CheckVersion(s.ForVersion); err != nil {
			return "", "", usagef("--for-version: %s", message(err))
		}
		version = bus.VersionToken(s.ForVersion)
	}
	return service, version, nil
}

// configRow is a value as it is printed.
type configRow struct {
	Key      string    `json:"key"`
	Service  string    `json:"service,omitempty"`
	Version  string    `json:"version,omitempty"`
	Value    string    `json:"value"`
	Revision uint64    `json:"revision"`
	Updated  time.Time `json:"updated"`
	Deleted  bool      `json:"deleted,omitempty"`
}

func newConfigRow(ns bus.Namespace, e kv.Entry[[]byte]) configRow {
	row := configRow{Value: configText(e.Value), Revision: e.Revision, Updated: e.Created, Deleted: e.Deleted}
	tokens := strings.SplitN(strings.TrimPrefix(e.Key, ns.Key("")), ".", 3)
	if len(tokens) < 3 {
		row.Key = e.Key // not one of ours
		return row
	}
	row.Key = tokens[2]
	if tokens[0] != anyToken {
		row.Service = tokens[0]
	}
	if tokens[1] != anyToken {
		row.Version = strings.NewReplacer("_", ".", "=", "+").Replace(tokens[1])
	}
	return row
}

// configText is a value as text; what is none is written as Go writes bytes.
func configText(value []byte) string {
	if utf8.Valid(value) {
		return string(value)
	}
	return fmt.Sprintf("%q", value)
}

func (r configRow) value() string {
	if r.Deleted {
		return "(removed)"
	}
	return r.Value
}

// withConfig opens the configuration for f.
func (a *App) withConfig(ctx context.Context, f func(context.Context, bus.Namespace, *kv.Table[[]byte]) error) error {
	conn, err := a.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // every write was acknowledged
	open, cancel := a.withTimeout(ctx)
	defer cancel()
	table, err := kv.Open[[]byte](open, conn, configBucket, kv.Config{
		History: configHistory, Codec: bus.Raw{}, Logger: a.log, Description: "skybus: configuration",
	})
	if err != nil {
		return err
	}
	return f(ctx, conn.Namespace(), table)
}

type configLsCmd struct{ configScope }

// Help is shown below the usage.
func (configLsCmd) Help() string {
	return `Examples:

    skybus config
    skybus config --service getwidgets -o json`
}

// Run lists the values.
func (c *configLsCmd) Run(ctx context.Context, app *App) error {
	return app.withConfig(ctx, func(ctx context.Context, ns bus.Namespace, table *kv.Table[[]byte]) error {
		pattern, err := c.pattern(ns)
		if err != nil {
			return err
		}
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		var rows []configRow
		for e, err := range table.List(ctx, pattern) {
			if err != nil {
				return err
			}
			rows = append(rows, newConfigRow(ns, e))
		}
		return printList(app, rows, []string{"key", "service", "version", "value", "revision"}, func(r configRow) []any {
			return []any{r.Key, r.Service, r.Version, r.value(), r.Revision}
		})
	})
}

type configGetCmd struct {
	Key string `arg:"" help:"Key, such as log.level."`
	configScope
}

// Help is shown below the usage.
func (configGetCmd) Help() string {
	return `It shows exactly what is set for the given scope, and looks in no wider one.

Examples:

    skybus config get log.level
    skybus config get client.timeout.total --service getwidgets`
}

// Run prints one value.
func (c *configGetCmd) Run(ctx context.Context, app *App) error {
	return app.withConfig(ctx, func(ctx context.Context, ns bus.Namespace, table *kv.Table[[]byte]) error {
		key, err := c.key(ns, c.Key)
		if err != nil {
			return err
		}
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		e, err := table.Get(ctx, key)
		if err != nil {
			return configError(c.Key, err)
		}
		if app.Output != formatTable {
			return encode(app.stdout, app.Output, newConfigRow(ns, e))
		}
		_, err = fmt.Fprintln(app.stdout, printable(configText(e.Value)))
		return err
	})
}

func configError(key string, err error) error {
	switch {
	case errors.Is(err, kv.ErrNotFound):
		return withHint(bus.Wrap(bus.NotFound, fmt.Sprintf("%q is not set there", key), err), "`skybus config` lists what is set, and where")
	case errors.Is(err, kv.ErrConflict):
		return withHint(bus.Wrap(bus.Aborted, fmt.Sprintf("%q was changed by somebody else meanwhile", key), err), "`skybus config get %s -o json` shows what is there now", key)
	}
	return err
}

type configPutCmd struct {
	Key      string `arg:"" help:"Key, such as log.level."`
	Value    string `arg:"" help:"Value, @FILE to read it from a file, or - from standard input."`
	Revision uint64 `help:"Set it only over this revision, so that nobody's change is lost. Default: over any." placeholder:"N"`
	configScope
}

// Help is shown below the usage.
func (configPutCmd) Help() string {
	return `Examples:

    skybus config put log.level debug
    skybus config put client.timeout.total 5s --service getwidgets
    skybus config put limits @limits.json --service getwidgets --for-version 1.0.0`
}

// Run sets one value.
func (c *configPutCmd) Run(ctx context.Context, app *App) error {
	value, err := app.input(c.Value)
	if err != nil {
		return err
	}
	return app.withConfig(ctx, func(ctx context.Context, ns bus.Namespace, table *kv.Table[[]byte]) error {
		key, err := c.key(ns, c.Key)
		if err != nil {
			return err
		}
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		var revision uint64
		if c.Revision == 0 {
			revision, err = table.Put(ctx, key, value)
		} else {
			revision, err = table.Update(ctx, key, value, c.Revision)
		}
		if err != nil {
			return configError(c.Key, err)
		}
		return printOne(app, map[string]any{"key": c.Key, "revision": revision}, [][]any{{"key", c.Key}, {"revision", revision}})
	})
}

type configRmCmd struct {
	Key string `arg:"" help:"Key, such as log.level."`
	configScope
}

// Help is shown below the usage.
func (configRmCmd) Help() string {
	return `Examples:

    skybus config rm log.level
    skybus config rm client.timeout.total --service getwidgets`
}

// Run removes one value.
func (c *configRmCmd) Run(ctx context.Context, app *App) error {
	return app.withConfig(ctx, func(ctx context.Context, ns bus.Namespace, table *kv.Table[[]byte]) error {
		key, err := c.key(ns, c.Key)
		if err != nil {
			return err
		}
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		e, err := table.Get(ctx, key)
		if err == nil {
			err = table.Delete(ctx, key, kv.IfRevision(e.Revision))
		}
		if err != nil {
			return configError(c.Key, err)
		}
		return printOne(app, map[string]string{"removed": c.Key}, [][]any{{"removed", c.Key}})
	})
}

type configHistoryCmd struct {
	Key string `arg:"" help:"Key, such as log.level."`
	configScope
}

// Help is shown below the usage.
func (configHistoryCmd) Help() string {
	return `The last 64 revisions are kept, oldest first.

Examples:

    skybus config history log.level`
}

// Run lists the revisions of one value.
func (c *configHistoryCmd) Run(ctx context.Context, app *App) error {
	return app.withConfig(ctx, func(ctx context.Context, ns bus.Namespace, table *kv.Table[[]byte]) error {
		key, err := c.key(ns, c.Key)
		if err != nil {
			return err
		}
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		var rows []configRow
		for e, err := range table.History(ctx, key) {
			if err != nil {
				return err
			}
			rows = append(rows, newConfigRow(ns, e))
		}
		if len(rows) == 0 {
			return configError(c.Key, kv.ErrNotFound)
		}
		return printList(app, rows, []string{"revision", "updated", "value"}, func(r configRow) []any {
			return []any{r.Revision, r.Updated.Local().Format(time.DateTime), r.value()}
		})
	})
}

type configWatchCmd struct{ configScope }

// Help is shown below the usage.
func (configWatchCmd) Help() string {
	return `With -o json it prints a line of JSON for each value and each change.

Examples:

    skybus config watch
    skybus config watch --service getwidgets -o json`
}

// Run prints the values and then every change.
func (c *configWatchCmd) Run(ctx context.Context, app *App) error {
	return app.withConfig(ctx, func(ctx context.Context, ns bus.Namespace, table *kv.Table[[]byte]) error {
		pattern, err := c.pattern(ns)
		if err != nil {
			return err
		}
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
}

func (r configRow) line() string {
	scope := ""
	if r.Service != "" {
		scope = " (" + strings.TrimSpace(r.Service+" "+r.Version) + ")"
	}
	value, err := json.Marshal(r.Value)
	if err != nil || r.Deleted {
		value = []byte(r.value())
	}
	return fmt.Sprintf("%s%s = %s", r.Key, scope, value)
}
