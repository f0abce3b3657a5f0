package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/kv"
)

type httpCmd struct {
	Ls      httpLsCmd      `cmd:"" default:"withargs" help:"List the entries of the gateways, and whether they are served."`
	Get     httpGetCmd     `cmd:"" help:"Show an entry."`
	Put     httpPutCmd     `cmd:"" help:"Store an entry from a file. It is live at once."`
	Edit    httpEditCmd    `cmd:"" help:"Edit an entry in $VISUAL or $EDITOR. It is live at once."`
	Rm      httpRmCmd      `cmd:"" help:"Remove an entry. Its history stays."`
	History httpHistoryCmd `cmd:"" help:"List the revisions of an entry."`

	Apply    httpApplyCmd    `cmd:"" help:"Store all entries of a file, and show what that changes."`
	Explain  httpExplainCmd  `cmd:"" help:"Show which entry a request would go to and why, and what it would become. Nothing is sent."`
	Gateways httpGatewaysCmd `cmd:"" help:"List the gateways that run, and which revision they serve."`
}

// entryRow is an entry as it is printed.
type entryRow struct {
	Name     string    `json:"name"`
	State    string    `json:"state,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Revision uint64    `json:"revision"`
	Updated  time.Time `json:"updated"`
	Deleted  bool      `json:"deleted,omitempty"`
	gateway.Entry
}

// The states of an entry.
const (
	entryServed  = "served"
	entryPending = "pending" // not every gateway knows it
	entryRefused = "refused" // by one gateway at least
	entryIdle    = "stored"  // there is no gateway
)

func newEntryRow(s gateway.Stored) entryRow {
	row := entryRow{Name: s.Name, Revision: s.Revision, Updated: s.Updated, Deleted: s.Deleted, Entry: s.Entry}
	if s.Err != nil {
		row.State, row.Reason = entryRefused, message(s.Err)
	}
	return row
}

// judge says how an entry stands: by what is stored, and by what the gateways tell.
func (r *entryRow) judge(refused map[string]error, gateways []gateway.Report) {
	if err := refused[r.Name]; err != nil {
		r.State, r.Reason = entryRefused, message(err)
		return
	}
	behind := 0
	for _, g := range gateways {
		if why, ok := g.Refused[r.Name]; ok {
			r.State, r.Reason = entryRefused, fmt.Sprintf("by gateway %s: %s", g.ID, why)
			return
		}
		if g.Revision < r.Revision {
			behind++
		}
	}
	switch {
	case len(gateways) == 0:
		r.State = entryIdle
	case behind > 0:
		r.State, r.Reason = entryPending, fmt.Sprintf("%d of %d gateways do not know it yet", behind, len(gateways))
	default:
		r.State = entryServed
	}
}

// entryDocs are the entries.
func entryDocs() documents[gateway.Entry, *gateway.Store] {
	return documents[gateway.Entry, *gateway.Store]{
		noun: "entry", article: "an", group: "http", parse: parseEntry,
		open: func(ctx context.Context, _ *App, conn *bus.Conn, bind bool) (*gateway.Store, error) {
			return gateway.OpenStore(ctx, conn, bind)
		},
	}
}

// entries are all that are stored.
func (a *App) entries(ctx context.Context, store *gateway.Store) ([]gateway.Stored, error) {
	ctx, cancel := a.withTimeout(ctx)
	defer cancel()
	var all []gateway.Stored
	for s, err := range store.List(ctx) {
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

type httpLsCmd struct{}

// Help is shown below the usage.
func (*httpLsCmd) Help() string {
	return `An entry is served, pending where a gateway does not know it yet, refused with the reason where a gateway cannot serve it, or only stored
where no gateway runs.

Examples:

    skybus http
    skybus http ls -o json`
}

// Run lists the entries.
func (*httpLsCmd) Run(ctx context.Context, app *App) error {
	var rows []entryRow
	err := entryDocs().with(ctx, app, true, func(ctx context.Context, conn *bus.Conn, store *gateway.Store) error {
		all, err := app.entries(ctx, store)
		if err != nil {
			return err
		}
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		gateways, err := gateway.Gateways(ctx, conn)
		if err != nil {
			return err
		}
		refused := gateway.Refusals(all)
		for _, s := range all {
			row := newEntryRow(s)
			row.judge(refused, gateways)
			rows = append(rows, row)
		}
		return nil
	})
	if err != nil && !errors.Is(err, kv.ErrNoBucket) {
		return err
	}
	if len(rows) == 0 {
		app.noteNone("entries")
	}
	return printList(app, rows, []string{"entry", "state", "matches", "sends to", "revision", "reason"}, func(r entryRow) []any {
		return []any{r.Name, r.State, r.where(), r.String(), r.Revision, r.Reason}
	})
}

// where is what the entry matches, with its listener.
func (r *entryRow) where() string {
	if r.Listener == "" {
		return r.Pattern()
	}
	return r.Pattern() + " at " + r.Listener
}

type httpGetCmd struct {
	Name string `arg:"" help:"Name of the entry."`
}

// Help is shown below the usage.
func (*httpGetCmd) Help() string {
	return `It prints what http put takes, as YAML unless -o json.

Examples:

    skybus http get order
    skybus http get order -o yaml > entry.yaml`
}

// Run shows one entry.
func (c *httpGetCmd) Run(ctx context.Context, app *App) error {
	return entryDocs().withOne(ctx, app, c.Name, func(ctx context.Context, _ *bus.Conn, store *gateway.Store) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		s, err := store.Get(ctx, c.Name)
		if err != nil {
			return entryDocs().hint(err)
		}
		if app.Output != formatTable {
			return encode(app.stdout, app.Output, s.Entry)
		}
		if _, err := fmt.Fprintln(app.stdout, printable(fmt.Sprintf("# %s, revision %d of %s", s.Name, s.Revision, s.Updated.Local().Format(time.DateTime)))); err != nil {
			return err
		}
		return encode(app.stdout, formatYAML, s.Entry)
	})
}

type httpRmCmd struct {
	Name     string `arg:"" help:"Name of the entry."`
	Revision uint64 `help:"Remove it only where it has this revision, so that nobody's edit is lost. Default: any." placeholder:"N" env:"-"`

	waitFlags
}

// Help is shown below the usage.
func (*httpRmCmd) Help() string {
	return `Examples:

    skybus http rm order
    skybus http rm order --revision 17 --wait`
}

// Run removes one entry.
func (c *httpRmCmd) Run(ctx context.Context, app *App) error {
	return entryDocs().withOne(ctx, app, c.Name, func(ctx context.Context, conn *bus.Conn, store *gateway.Store) error {
		rm, cancel := app.withTimeout(ctx)
		defer cancel()
		revision, err := store.Delete(rm, c.Name, c.Revision)
		if err != nil {
			return entryDocs().hint(putEntryHint(c.Name, err))
		}
		if err := c.wait(ctx, app, conn, revision); err != nil {
			return err
		}
		return printOne(app, map[string]any{"removed": c.Name, "revision": revision}, [][]any{{"removed", c.Name}, {"revision", revision}})
	})
}

type httpHistoryCmd struct {
	Name string `arg:"" help:"Name of the entry."`
}

// Help is shown below the usage.
func (*httpHistoryCmd) Help() string {
	return `The last 64 revisions are kept, oldest first. An older one is stored again by giving what -o json prints of it to http put.

Examples:

    skybus http history order
    skybus http history order -o json`
}

// Run lists the revisions of one entry.
func (c *httpHistoryCmd) Run(ctx context.Context, app *App) error {
	return entryDocs().withOne(ctx, app, c.Name, func(ctx context.Context, _ *bus.Conn, store *gateway.Store) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		var rows []entryRow
		for s, err := range store.History(ctx, c.Name) {
			if err != nil {
				return err
			}
			rows = append(rows, newEntryRow(s))
		}
		if len(rows) == 0 {
			return entryDocs().hint(entryDocs().missing(c.Name))
		}
		return printList(app, rows, []string{"revision", "updated", "matches", "sends to"}, func(r entryRow) []any {
			switch {
			case r.Deleted:
				return []any{r.Revision, r.Updated.Local().Format(time.DateTime), "(removed)", ""}
			case r.Reason != "":
				return []any{r.Revision, r.Updated.Local().Format(time.DateTime), "unreadable: " + r.Reason, ""}
			}
			return []any{r.Revision, r.Updated.Local().Format(time.DateTime), r.where(), r.String()}
		})
	})
}

type httpGatewaysCmd struct{}

// Help is shown below the usage.
func (*httpGatewaysCmd) Help() string {
	return `A gateway that ended without saying so is listed for 10 s more.

Examples:

    skybus http gateways`
}

// Run lists the gateways.
func (*httpGatewaysCmd) Run(ctx context.Context, app *App) error {
	all, err := query(ctx, app, gateway.Gateways)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		app.noteNone("gateways")
	}
	return printList(app, all, []string{"gateway", "host", "process", "started", "revision", "entries", "refused"}, func(r gateway.Report) []any {
		var refused []string
		for name := range r.Refused {
			refused = append(refused, name)
		}
		slices.Sort(refused)
		return []any{r.ID, r.Host, r.PID, r.Started.Local().Format(time.DateTime), r.Revision, r.Entries, strings.Join(refused, " ")}
	})
}
