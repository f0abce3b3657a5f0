package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

// documents are what is stored by name, with a history, and edited as text: routes, and entries of gateways. T is one of them, and S where they
// are stored.
type documents[T, S any] struct {
	noun, article string // what one is called
	group         string // of commands
	open          func(ctx context.Context, app *App, conn *bus.Conn, bind bool) (S, error)
	parse         func(file string, data []byte) (T, error)
}

// with opens the store for f. With bind, what was never written is not created to look for them.
func (d documents[T, S]) with(ctx context.Context, app *App, bind bool, f func(context.Context, *bus.Conn, S) error) error {
	return app.withConn(ctx, func(open context.Context, conn *bus.Conn) error {
		store, err := d.open(open, app, conn, bind)
		if err != nil {
			return err
		}
		return f(ctx, conn, store)
	})
}

// withOne is with for a command about the document of that name.
func (d documents[T, S]) withOne(ctx context.Context, app *App, name string, f func(context.Context, *bus.Conn, S) error) error {
	if err := d.checkName(name); err != nil {
		return err
	}
	err := d.with(ctx, app, true, f)
	if errors.Is(err, kv.ErrNoBucket) {
		return d.hint(bus.Wrap(bus.NotFound, message(d.missing(name)), err))
	}
	return err
}

func (d documents[T, S]) checkName(name string) error {
	if err := bus.CheckToken(d.noun, name); err != nil {
		return usagef("%s", message(err))
	}
	return nil
}

// missing says that there is no document of that name.
func (d documents[T, S]) missing(name string) error {
	return bus.Errorf(bus.NotFound, "there is no %s %q", d.noun, name)
}

// hint says what to do where there is none.
func (d documents[T, S]) hint(err error) error {
	if bus.CodeOf(err) == bus.NotFound {
		return withHint(err, "`skybus %s` lists them, `skybus %[1]s put NAME -f FILE` makes one", d.group)
	}
	return err
}

// read reads a document from a file, or from standard input.
func (d documents[T, S]) read(ctx context.Context, app *App, file string) (T, error) {
	data, err := app.readFile(ctx, file)
	if err != nil {
		var none T
		return none, err
	}
	v, err := d.parse(fileName(file), data)
	if err != nil {
		return v, withHint(err, "`skybus %s put --help` shows what %s %s looks like", d.group, d.article, d.noun)
	}
	return v, nil
}

func fileName(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}

// text is a document as its file would have it.
func (d documents[T, S]) text(v T) (string, error) {
	var text strings.Builder
	err := encode(&text, formatYAML, v)
	return text.String(), err
}

// print says which revision of a document is there now.
func (d documents[T, S]) print(app *App, name string, revision uint64) error {
	return printOne(app, map[string]any{"name": name, "revision": revision}, [][]any{{d.noun, name}, {"revision", revision}})
}

// kept is a document as it is stored; nil where it cannot be read.
type kept[T any] struct {
	name     string
	revision uint64 // 0 for one that is not there
	value    *T
}

// dryRunReport is what storing a document would do.
type dryRunReport[T any] struct {
	Name     string   `json:"name"`
	DryRun   bool     `json:"dry_run"`
	Over     uint64   `json:"over"` // the revision that is there now, 0 for none
	Changed  bool     `json:"changed"`
	Before   *T       `json:"before,omitempty"`
	After    T        `json:"after"`
	Warnings []string `json:"warnings,omitempty"`
}

// checkOver tells whether a document could be stored over the revision that is asked for: any where there is none, no document at all where
// it is 0.
func (d documents[T, S]) checkOver(there kept[T], over *uint64) error {
	switch {
	case over == nil:
	case *over == 0 && there.revision > 0:
		return bus.Errorf(bus.AlreadyExists, "there is %s %s %q already, of revision %d", d.article, d.noun, there.name, there.revision)
	case *over != 0 && *over != there.revision:
		return bus.Errorf(bus.Aborted, "%s %q has revision %d by now, not %d", d.noun, there.name, there.revision, *over)
	}
	return nil
}

// dryRun shows what storing a document would change.
func (d documents[T, S]) dryRun(app *App, there kept[T], after T, warnings []string) error {
	r := dryRunReport[T]{Name: there.name, DryRun: true, Over: there.revision, Before: there.value, After: after, Warnings: warnings}
	before := ""
	var err error
	if there.value != nil {
		if before, err = d.text(*there.value); err != nil {
			return err
		}
	}
	now, err := d.text(after)
	if err != nil {
		return err
	}
	r.Changed = before != now
	if app.Output != formatTable {
		return encode(app.stdout, app.Output, r)
	}
	for _, text := range warnings {
		app.warn("%s", text)
	}
	if !r.Changed {
		app.note("nothing would change")
		return nil
	}
	app.note("this would be stored; nothing was")
	_, err = fmt.Fprint(app.stdout, printable(diff(lines(before), lines(now))))
	return err
}

// edit has the user edit a document, and store it. The draft stays where that does not work, and where nothing is to be stored.
func (d documents[T, S]) edit(ctx context.Context, app *App, there kept[T], dryRun bool, store func(context.Context, T) error) error {
	before, err := d.text(*there.value)
	if err != nil {
		return err
	}
	draft, err := newDraft(there.name+".yaml", []byte(before))
	if err != nil {
		return err
	}
	// Ctrl-C is for the editor, or for what runs in it.
	defer holdInterrupts()()
	if err := draft.edit(app); err != nil {
		return err
	}
	v, err := d.parse(draft.path, draft.after)
	if err != nil {
		return draft.keep(err, "mend it and store it by `skybus %s put %s --revision %d -f %s`", d.group, there.name, there.revision, draft.path)
	}
	after, err := d.text(v)
	if err != nil {
		return err
	}
	if bytes.Equal([]byte(after), draft.before) { // comments are not kept
		app.note("unchanged")
		return errors.Join(d.print(app, there.name, there.revision), draft.remove())
	}
	if err := store(context.WithoutCancel(ctx), v); err != nil {
		return draft.keep(err, "`skybus %s get %s` shows what is there now, `skybus %[1]s put %[2]s -f %[3]s` stores yours over it", d.group, there.name, draft.path)
	}
	if dryRun {
		app.note("your edit is in %s", draft.path)
		return nil
	}
	return draft.remove()
}
