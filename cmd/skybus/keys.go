package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/http/auth"
	"github.com/skybus-io/skybus/kv"
)

type keysCmd struct {
	Ls      keysLsCmd      `cmd:"" default:"withargs" help:"List the keys, without their secrets."`
	New     keysNewCmd     `cmd:"" help:"Make a key, and print it: once."`
	Disable keysDisableCmd `cmd:"" help:"Have a key refused, until it is enabled again."`
	Enable  keysEnableCmd  `cmd:"" help:"Have a key taken again that was disabled."`
	Rm      keysRmCmd      `cmd:"" help:"Remove a key for good."`
}

// keyRow is a key as it is printed.
type keyRow struct {
	auth.Key

	State string `json:"state"` // live, disabled, expired, or unreadable
	Error string `json:"error,omitempty"`
}

func newKeyRow(k auth.Key, err error) keyRow {
	row := keyRow{Key: k, State: "live"}
	switch {
	case err != nil:
		row.State, row.Error = "unreadable", message(err)
	case k.Disabled:
		row.State = "disabled"
	case !k.Expires.IsZero() && !time.Now().Before(k.Expires):
		row.State = "expired"
	}
	return row
}

// cells are the row in a table.
func (r keyRow) cells() []any {
	expires, created := "never", ""
	if !r.Expires.IsZero() {
		expires = r.Expires.Local().Format(time.DateTime)
	}
	if !r.Created.IsZero() {
		created = r.Created.Local().Format(time.DateTime)
	}
	return []any{r.ID, r.Name, strings.Join(r.Scopes, " "), r.State, created, expires}
}

// withKeys opens the keys for f. With bind, keys that were never made are not created to look for them.
func (a *App) withKeys(ctx context.Context, bind bool, f func(context.Context, *auth.Keys) error) error {
	return a.withConn(ctx, func(ctx context.Context, conn *bus.Conn) error {
		keys, err := auth.OpenKeys(ctx, conn, bind)
		if err != nil {
			return err
		}
		return f(ctx, keys)
	})
}

// withKey is withKeys for a command about one key.
func (a *App) withKey(ctx context.Context, id string, f func(context.Context, *auth.Keys) error) error {
	if err := auth.CheckKeyID(id); err != nil {
		return usagef("%s", message(err))
	}
	err := a.withKeys(ctx, true, f)
	if errors.Is(err, kv.ErrNoBucket) {
		err = bus.Wrap(bus.NotFound, "there is no key "+id, err)
	}
	if bus.CodeOf(err) == bus.NotFound {
		return withHint(err, "`skybus keys` lists them, `skybus keys new` makes one")
	}
	return err
}

type keysLsCmd struct{}

// Help is shown below the usage.
func (*keysLsCmd) Help() string {
	return `Examples:

    skybus keys
    skybus keys -o json`
}

// Run lists the keys.
func (c *keysLsCmd) Run(ctx context.Context, app *App) error {
	var rows []keyRow
	err := app.withKeys(ctx, true, func(ctx context.Context, keys *auth.Keys) error {
		for k, err := range keys.List(ctx) {
			if err != nil && k.ID == "" {
				return err
			}
			rows = append(rows, newKeyRow(k, err))
		}
		return nil
	})
	if err != nil && !errors.Is(err, kv.ErrNoBucket) {
		return err
	}
	if len(rows) == 0 {
		app.noteNone("keys")
	}
	return printList(app, rows, []string{"key", "name", "scopes", "state", "created", "expires"}, keyRow.cells)
}

type keysNewCmd struct {
	Name    string   `help:"Name, for people." placeholder:"TEXT" env:"-"`
	Scope   []string `help:"Scope that the key has: what entries ask for. May be given several times." placeholder:"SCOPE" env:"-"`
	Expires *dueTime `help:"When it stops being taken: a time, or a duration from now. Default: never." placeholder:"TIME" env:"-"`
}

// Help is shown below the usage.
func (*keysNewCmd) Help() string {
	return `The key is printed and nowhere stored: only a hash of it is. Who has it sends it to the gateway in a header, Authorization: Bearer KEY or
X-Api-Key: KEY. Gateways that take keys know it at once.

Examples:

    skybus keys new --name billing --scope orders:read --scope orders:write
    skybus keys new --name ci --expires 720h -o json
    skybus keys new --name partner --expires 2031-05-01`
}

// Run makes a key.
func (c *keysNewCmd) Run(ctx context.Context, app *App) error {
	return app.withKeys(ctx, false, func(ctx context.Context, keys *auth.Keys) error {
		k, secret, err := keys.New(ctx, auth.NewKey{Name: c.Name, Scopes: c.Scope, Expires: c.Expires.time()})
		if bus.CodeOf(err) == bus.InvalidArgument {
			return usagef("--%s", message(err))
		}
		if err != nil {
			return err
		}
		v := struct {
			keyRow

			Secret string `json:"key"`
		}{newKeyRow(k, nil), secret}
		rows := [][]any{{"id", k.ID}}
		for i, name := range []string{"name", "scopes", "state", "created", "expires"} {
			if cell := v.cells()[i+1]; cell != "" {
				rows = append(rows, []any{name, cell})
			}
		}
		if err := printOne(app, v, append(rows, []any{"key", secret})); err != nil {
			return err
		}
		app.note("keep the key: it is not shown again")
		return nil
	})
}

type keyArg struct {
	ID string `arg:"" help:"Id of the key, the part between sbk_ and the next _." name:"id"`
}

// able disables or enables the key.
func (c *keyArg) able(ctx context.Context, app *App, disabled bool) error {
	return app.withKey(ctx, c.ID, func(ctx context.Context, keys *auth.Keys) error {
		k, err := keys.Disable(ctx, c.ID, disabled)
		if err != nil {
			return err
		}
		row := newKeyRow(k, nil)
		return printOne(app, row, [][]any{{"key", k.ID}, {"state", row.State}})
	})
}

type keysDisableCmd struct{ keyArg }

// Help is shown below the usage.
func (*keysDisableCmd) Help() string {
	return `Gateways refuse it some milliseconds later. Requests that are under way finish.

Examples:

    skybus keys disable mfrggzdfmztwq2lk`
}

// Run disables the key.
func (c *keysDisableCmd) Run(ctx context.Context, app *App) error { return c.able(ctx, app, true) }

type keysEnableCmd struct{ keyArg }

// Help is shown below the usage.
func (*keysEnableCmd) Help() string {
	return `Examples:

    skybus keys enable mfrggzdfmztwq2lk`
}

// Run enables the key.
func (c *keysEnableCmd) Run(ctx context.Context, app *App) error { return c.able(ctx, app, false) }

type keysRmCmd struct {
	keyArg

	Yes bool `short:"y" help:"Do not ask." env:"-"`
}

// Help is shown below the usage.
func (*keysRmCmd) Help() string {
	return `Gateways refuse it some milliseconds later. Requests that are under way finish. To have it refused for a while, disable it.

Examples:

    skybus keys rm mfrggzdfmztwq2lk --yes`
}

// Run removes the key.
func (c *keysRmCmd) Run(ctx context.Context, app *App) error {
	if err := auth.CheckKeyID(c.ID); err != nil {
		return usagef("%s", message(err))
	}
	if err := app.confirm(ctx, c.Yes, "the key "+c.ID+" will be removed"); err != nil {
		return err
	}
	return app.withKey(ctx, c.ID, func(ctx context.Context, keys *auth.Keys) error {
		if err := keys.Remove(ctx, c.ID); err != nil {
			return err
		}
		return printOne(app, map[string]string{"removed": c.ID}, [][]any{{"removed", c.ID}})
	})
}
