package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/skybus-io/skybus/bus"
	gateway "github.com/skybus-io/skybus/initiators/http"
)

type httpApplyCmd struct {
	File   string `short:"f" required:"" help:"YAML or JSON file with the entries, or - for standard input." placeholder:"FILE"`
	DryRun bool   `help:"Check it and show what would change, but store nothing."`
	Prune  bool   `help:"Remove the entries that the file does not have."`

	waitFlags
}

// Help is shown below the usage.
func (*httpApplyCmd) Help() string {
	return `The file has entries by their names:

    entries:
      order:
        method: GET
        path: /orders/{id}
        call: orders.get
      new-order:
        method: POST
        path: /orders
        route: new-order

Nothing is stored where one of them is wrong or conflicts with another. What is stored already stays as it is, with its revision.

Examples:

    skybus http apply -f gateway.yaml --dry-run
    skybus http apply -f gateway.yaml --prune --wait`
}

// What apply does with an entry.
const (
	changeCreate = "create"
	changeUpdate = "update"
	changeRemove = "remove"
	changeNone   = "unchanged"
)

// entryChange is what a file does to one entry.
type entryChange struct {
	Name     string         `json:"name"`
	Change   string         `json:"change"`
	Revision uint64         `json:"revision,omitempty"` // that it is stored as, or was
	Before   *gateway.Entry `json:"before,omitempty"`
	After    *gateway.Entry `json:"after,omitempty"`
	diff     string
}

// Run stores the entries.
func (c *httpApplyCmd) Run(ctx context.Context, app *App) error {
	data, err := app.readFile(ctx, c.File)
	if err != nil {
		return err
	}
	wanted, err := parseEntries(fileName(c.File), data)
	if err != nil {
		return withHint(err, "`skybus http apply --help` shows what the file looks like")
	}
	return entryDocs().with(ctx, app, false, func(ctx context.Context, conn *bus.Conn, store *gateway.Store) error {
		all, err := app.entries(ctx, store)
		if err != nil {
			return err
		}
		if err := clash(all, wanted, c.Prune); err != nil {
			return err
		}
		changes, err := planEntries(all, wanted, c.Prune)
		if err != nil {
			return err
		}
		if c.DryRun {
			return app.printChanges(changes, true)
		}
		last, left, err := app.applyEntries(ctx, store, changes)
		if err != nil {
			return err
		}
		if len(left) > 0 {
			return withHint(left[0], "entries of the file take each other's place in a circle: remove one of them first")
		}
		var names []string
		for _, ch := range changes {
			if ch.Change == changeCreate || ch.Change == changeUpdate {
				names = append(names, ch.Name)
			}
		}
		if last > 0 {
			if err := c.wait(ctx, app, conn, last, names...); err != nil {
				return err
			}
		}
		return app.printChanges(changes, false)
	})
}

// clash is why an entry of a file cannot be served beside the others of it and those that stay.
func clash(all []gateway.Stored, wanted []namedEntry, prune bool) error {
	var then []gateway.Stored
	if !prune {
		for _, s := range all {
			if s.Err == nil && !slices.ContainsFunc(wanted, func(w namedEntry) bool { return w.name == s.Name }) {
				s.Revision = 0 // before those of the file, so that these are told of
				then = append(then, s)
			}
		}
	}
	for i, w := range wanted {
		then = append(then, gateway.Stored{Name: w.name, Entry: w.entry, Revision: uint64(i + 1)})
	}
	refused := gateway.Refusals(then)
	for _, w := range wanted {
		if err := refused[w.name]; err != nil {
			return err
		}
	}
	return nil
}

// planEntries finds out what there is to do.
func planEntries(all []gateway.Stored, wanted []namedEntry, prune bool) ([]entryChange, error) {
	stored := map[string]gateway.Stored{}
	for _, s := range all {
		stored[s.Name] = s
	}
	var changes []entryChange
	for _, w := range wanted {
		s, there := stored[w.name]
		delete(stored, w.name)
		ch := entryChange{Name: w.name, Change: changeCreate, Revision: s.Revision, After: &w.entry}
		before := ""
		var err error
		if there && s.Err == nil {
			ch.Before = &s.Entry
			if before, err = entryDocs().text(s.Entry); err != nil {
				return nil, err
			}
		}
		after, err := entryDocs().text(w.entry)
		if err != nil {
			return nil, err
		}
		switch {
		case there && before == after:
			ch.Change = changeNone
		case there:
			ch.Change = changeUpdate
		}
		ch.diff = diff(lines(before), lines(after))
		changes = append(changes, ch)
	}
	for _, s := range all {
		if _, left := stored[s.Name]; !left || !prune {
			continue
		}
		ch := entryChange{Name: s.Name, Change: changeRemove, Revision: s.Revision}
		if s.Err == nil {
			text, err := entryDocs().text(s.Entry)
			if err != nil {
				return nil, err
			}
			ch.Before, ch.diff = &s.Entry, diff(lines(text), nil)
		}
		changes = append(changes, ch)
	}
	return changes, nil
}

// applyEntries makes the changes and returns the revision of the last one. Where entries swap what they match, one is stored after the other has
// made room for it. Left is why those were not stored that conflict with others all the same.
func (a *App) applyEntries(ctx context.Context, store *gateway.Store, changes []entryChange) (last uint64, left []error, err error) {
	todo := make([]*entryChange, 0, len(changes))
	for i := range changes {
		if changes[i].Change == changeRemove {
			todo = append(todo, &changes[i])
		}
	}
	for i := range changes {
		if c := changes[i].Change; c == changeCreate || c == changeUpdate {
			todo = append(todo, &changes[i])
		}
	}
	for len(todo) > 0 {
		var later []*entryChange
		left = nil
		for _, c := range todo {
			revision, err := a.applyEntry(ctx, store, c)
			switch {
			case err == nil:
				c.Revision, last = revision, revision
			case bus.CodeOf(err) == bus.FailedPrecondition:
				later, left = append(later, c), append(left, err)
			default:
				return last, nil, putEntryHint(c.Name, err)
			}
		}
		if len(later) == len(todo) {
			break
		}
		todo = later
	}
	return last, left, nil
}

func (a *App) applyEntry(ctx context.Context, store *gateway.Store, c *entryChange) (uint64, error) {
	ctx, cancel := a.withTimeout(ctx)
	defer cancel()
	switch c.Change {
	case changeRemove:
		return store.Delete(ctx, c.Name, c.Revision)
	case changeCreate:
		return store.Create(ctx, c.Name, *c.After)
	}
	return store.Put(ctx, c.Name, *c.After, c.Revision)
}

// printChanges tells what was done, or would be.
func (a *App) printChanges(changes []entryChange, dryRun bool) error {
	if a.Output != formatTable {
		if changes == nil {
			changes = []entryChange{}
		}
		return encode(a.stdout, a.Output, map[string]any{"dry_run": dryRun, "changes": changes})
	}
	counts := map[string]int{}
	var b strings.Builder
	for _, c := range changes {
		counts[c.Change]++
		if c.Change == changeNone {
			continue
		}
		fmt.Fprintf(&b, "%s %s\n", c.Change, c.Name)
		if dryRun {
			b.WriteString(c.diff)
		}
	}
	if dryRun {
		a.note("this would be stored; nothing was")
	}
	fmt.Fprintf(&b, "%d created, %d updated, %d removed, %d unchanged\n",
		counts[changeCreate], counts[changeUpdate], counts[changeRemove], counts[changeNone])
	_, err := fmt.Fprint(a.stdout, printable(b.String()))
	return err
}
