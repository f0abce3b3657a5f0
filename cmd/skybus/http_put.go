package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	gateway "github.com/skybus-io/skybus/initiators/http"
)

// waitFlags are those of commands that change what gateways serve.
type waitFlags struct {
	Wait        bool          `help:"Return when every gateway that runs serves it, and fail where one refuses it."`
	WaitTimeout time.Duration `help:"How long to wait for the gateways." default:"15s"`
}

// wait returns when every gateway serves by the revision; names are the entries that none may refuse.
func (f *waitFlags) wait(ctx context.Context, app *App, conn *bus.Conn, revision uint64, names ...string) error {
	if !f.Wait {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.WaitTimeout)
	defer cancel()
	all, err := gateway.Wait(ctx, conn, revision)
	if err != nil {
		return withHint(err, "it is stored, and is served as soon as they know it; --wait-timeout waits longer than %v", f.WaitTimeout)
	}
	if len(all) == 0 {
		app.warn("no gateway runs that could serve it")
	}
	var refused []string
	for _, g := range all {
		for _, name := range names {
			if why, ok := g.Refused[name]; ok {
				refused = append(refused, fmt.Sprintf("gateway %v refuses %s: %s", g, name, why))
			}
		}
	}
	if len(refused) > 0 {
		return bus.Errorf(bus.FailedPrecondition, "it is stored, but not served everywhere: %s", strings.Join(refused, "; "))
	}
	return nil
}

// Validate finds what does not go together.
func (f *waitFlags) Validate() error {
	if f.WaitTimeout <= 0 {
		return usagef("--wait-timeout %v: want more than 0", f.WaitTimeout)
	}
	return nil
}

type httpPutCmd struct {
	Name     string  `arg:"" help:"Name of the entry."`
	File     string  `short:"f" required:"" help:"YAML or JSON file with the entry, or - for standard input." placeholder:"FILE"`
	Revision *uint64 `help:"Store it only over this revision, 0 for none, so that nobody's edit is lost. Default: over any." placeholder:"N"`
	DryRun   bool    `help:"Check it and show what would change, but store nothing."`

	waitFlags
}

// Help is shown below the usage.
func (*httpPutCmd) Help() string {
	return `An entry says which requests it is for, and what they are sent to:

    method: GET               # or methods: [GET, POST]; neither means all
    path: /orders/{id}        # {rest...} takes all that follows, {$} nothing
    call: orders.get          # or route, publish, stream, timer
    timeout: 2s               # default: the gateway's

docs/gateway.md has all fields.

Examples:

    skybus http put order -f entry.yaml --wait
    skybus http put order -f entry.yaml --dry-run
    skybus http get order -o yaml | sed s/2s/5s/ | skybus http put order -f -`
}

// Run stores one entry.
func (c *httpPutCmd) Run(ctx context.Context, app *App) error {
	if err := entryDocs().checkName(c.Name); err != nil {
		return err
	}
	e, err := entryDocs().read(ctx, app, c.File)
	if err != nil {
		return err
	}
	return entryDocs().with(ctx, app, false, func(ctx context.Context, conn *bus.Conn, store *gateway.Store) error {
		return app.putEntry(ctx, conn, store, entryWrite{c.Name, e, c.Revision, c.DryRun, c.waitFlags})
	})
}

// entryWrite is an entry to be stored over the revision given: any when there is none, no entry at all when it is 0.
type entryWrite struct {
	name   string
	entry  gateway.Entry
	over   *uint64
	dryRun bool
	waitFlags
}

func (a *App) putEntry(ctx context.Context, conn *bus.Conn, store *gateway.Store, w entryWrite) error {
	put, cancel := a.withTimeout(ctx)
	defer cancel()
	if w.dryRun {
		return a.dryRunEntry(put, store, w)
	}
	var revision uint64
	var err error
	switch {
	case w.over == nil:
		revision, err = store.Put(put, w.name, w.entry, 0)
	case *w.over == 0:
		revision, err = store.Create(put, w.name, w.entry)
	default:
		revision, err = store.Put(put, w.name, w.entry, *w.over)
	}
	if err != nil {
		return putEntryHint(w.name, err)
	}
	if err := w.wait(ctx, a, conn, revision, w.name); err != nil {
		return err
	}
	return entryDocs().print(a, w.name, revision)
}

func putEntryHint(name string, err error) error {
	switch bus.CodeOf(err) {
	case bus.Aborted, bus.AlreadyExists:
		return withHint(err, "`skybus http get %s` shows what is there now", name)
	case bus.FailedPrecondition:
		if other := bus.AsError(err).Details["conflict"]; other != "" {
			return withHint(err, "`skybus http get %s` shows the other one; make one of the two more specific, or remove it", other)
		}
	default:
	}
	return err
}

// dryRunEntry checks an entry as storing it would, and shows what would change.
func (a *App) dryRunEntry(ctx context.Context, store *gateway.Store, w entryWrite) error {
	if err := store.Check(ctx, w.name, w.entry); err != nil {
		return putEntryHint(w.name, err)
	}
	s, err := store.Get(ctx, w.name)
	there := kept[gateway.Entry]{name: w.name, revision: s.Revision}
	switch {
	case err == nil:
		there.value = &s.Entry
	case s.Err == nil && bus.CodeOf(err) != bus.NotFound:
		return err
	}
	if err := entryDocs().checkOver(there, w.over); err != nil {
		return putEntryHint(w.name, err)
	}
	return entryDocs().dryRun(a, there, w.entry, nil)
}

type httpEditCmd struct {
	Name   string `arg:"" help:"Name of the entry."`
	DryRun bool   `help:"Check it and show what would change, but store nothing."`

	waitFlags
}

// Help is shown below the usage.
func (*httpEditCmd) Help() string {
	return `The entry is stored when the editor exits and the entry was changed, unless somebody else stored another one meanwhile.
What cannot be stored is kept in a file, whose name is told. To give up, leave the file as it is or empty, or have the
editor fail.

Examples:

    skybus http edit order
    EDITOR="code --wait" skybus http edit order`
}

// Run edits one entry.
func (c *httpEditCmd) Run(ctx context.Context, app *App) error {
	return entryDocs().withOne(ctx, app, c.Name, func(ctx context.Context, conn *bus.Conn, store *gateway.Store) error {
		get, cancel := app.withTimeout(ctx)
		defer cancel()
		s, err := store.Get(get, c.Name)
		if err != nil {
			return entryDocs().hint(err)
		}
		return entryDocs().edit(ctx, app, kept[gateway.Entry]{c.Name, s.Revision, &s.Entry}, c.DryRun, func(ctx context.Context, e gateway.Entry) error {
			return app.putEntry(ctx, conn, store, entryWrite{c.Name, e, &s.Revision, c.DryRun, c.waitFlags})
		})
	})
}
