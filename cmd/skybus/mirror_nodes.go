package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/mirror"
)

type mirrorNodesCmd struct {
	Ls  mirrorNodesLsCmd  `cmd:"" default:"withargs" help:"List the backends."`
	Add mirrorNodesAddCmd `cmd:"" help:"Add a backend."`
	Set mirrorNodesSetCmd `cmd:"" help:"Change a backend."`
	Rm  mirrorNodesRmCmd  `cmd:"" help:"Delete backends, with all that waits for them."`
}

type mirrorNodesLsCmd struct{ mirrorName }

// Help is shown below the usage.
func (*mirrorNodesLsCmd) Help() string {
	return `They are in the order in which --by-priority reads from them: 1, 2, 3, ..., 0, ..., -1, -2.

Examples:

    skybus mirror nodes
    skybus mirror nodes -m shop -o yaml`
}

// Run lists the backends.
func (c *mirrorNodesLsCmd) Run(ctx context.Context, app *App) error {
	return c.with(ctx, app, func(_ context.Context, m *mirror.Mirror) error {
		all := m.Conditions()
		if len(all) == 0 {
			app.note("mirror %s has no backends; `skybus mirror nodes add NAME URL` adds one", m.Info().Name)
		}
		return printBackends(app, all)
	})
}

// fromFlag is the write with which those of a backend begin: now, or a number.
type fromFlag uint64

// UnmarshalText reads it from a flag.
func (f *fromFlag) UnmarshalText(text []byte) error {
	if string(text) == "now" {
		return nil
	}
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil || n == 0 {
		return fmt.Errorf("%.40q: want now, or the number of a write", text)
	}
	*f = fromFlag(n)
	return nil
}

func (f fromFlag) options() []mirror.SetOption {
	if f == 0 {
		return nil
	}
	return []mirror.SetOption{mirror.From(uint64(f))}
}

type mirrorNodesAddCmd struct {
	mirrorName

	Name        string   `arg:"" help:"A token by which it will be known."`
	URL         string   `arg:"" name:"url" help:"http://host:port or https://host:port."`
	Priority    int      `help:"Place in the order of reads: 1, 2, 3, ..., 0, ..., -1, -2." default:"0" env:"-"`
	From        fromFlag `help:"Which write is the first that is sent to it: now, or the number of one that is kept." default:"now" placeholder:"now|SEQ" env:"-"`
	Maintenance bool     `help:"Keep everything for it and send nothing, until that is ended." env:"-"`
}

// Help is shown below the usage.
func (*mirrorNodesAddCmd) Help() string {
	return `A new backend needs the data that the others have: take the number that one of them has applied from ` + "`skybus mirror status`" + `, then a copy of
its data, and add the new one, with that data, from the number after it. What was not applied then, and written since, is sent to it.

Examples:

    skybus mirror nodes add a http://10.0.0.1:8080 --priority 1
    skybus mirror nodes add d http://10.0.0.4:8080 --from 120394
    skybus mirror nodes add d http://10.0.0.4:8080 --maintenance    # later: skybus mirror nodes set d --no-maintenance`
}

// Run adds a backend.
func (c *mirrorNodesAddCmd) Run(ctx context.Context, app *App) error {
	b := mirror.Backend{Name: c.Name, URL: c.URL, Priority: c.Priority, Active: true, Maintenance: c.Maintenance}
	if err := b.Validate(); err != nil {
		return usagef("%s", message(err))
	}
	return c.with(ctx, app, func(ctx context.Context, m *mirror.Mirror) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		_, err := m.Get(ctx, c.Name)
		if err == nil {
			return withHint(bus.Errorf(bus.AlreadyExists, "there is a backend %q already", c.Name), "`skybus mirror nodes set %s` changes it", c.Name)
		}
		if bus.CodeOf(err) != bus.NotFound {
			return err
		}
		return setBackend(ctx, app, m, b, c.From)
	})
}

// setBackend stores a backend and prints it.
func setBackend(ctx context.Context, app *App, m *mirror.Mirror, b mirror.Backend, from fromFlag) error {
	b, err := m.Set(ctx, b, from.options()...)
	if err != nil {
		return err
	}
	all := slices.DeleteFunc(m.Conditions(), func(c mirror.Condition) bool { return c.Name != b.Name })
	if len(all) == 0 {
		return nil // somebody else deletes it
	}
	first := "the next"
	if b.From > 0 {
		first = strconv.FormatUint(b.From+1, 10)
	}
	return printOne(app, all[0], [][]any{
		{"name", b.Name}, {"url", b.URL}, {"priority", b.Priority}, {"active", b.Active}, {"maintenance", b.Maintenance}, {"first write", first},
	})
}

type mirrorNodesSetCmd struct {
	mirrorName

	Name        string    `arg:"" help:"Which one."`
	URL         string    `name:"url" help:"Where it is now: it keeps what waits for it." placeholder:"URL" env:"-"`
	Priority    *int      `help:"Place in the order of reads." placeholder:"N" env:"-"`
	Active      *bool     `help:"Whether it gets anything. When it ends, what waits is dropped, and nothing is kept." negatable:"" env:"-"`
	Maintenance *bool     `help:"Whether everything is kept for it, and nothing sent." negatable:"" env:"-"`
	From        *fromFlag `help:"Send it the writes from this one on, also those that it has: see skybus mirror repair." placeholder:"now|SEQ" env:"-"`
	Yes         bool      `short:"y" help:"Do not ask whether what waits for it is to be dropped." env:"-"`
}

// Help is shown below the usage.
func (*mirrorNodesSetCmd) Help() string {
	return `Examples:

    skybus mirror nodes set b --maintenance       # b is shut down for a while: nothing is lost
    skybus mirror nodes set b --no-maintenance    # it is brought level, then it serves reads again
    skybus mirror nodes set b --url http://10.0.0.9:8080 --priority 2
    skybus mirror nodes set b --no-active         # b is gone: what waits for it is dropped`
}

// Validate finds what is missing.
func (c *mirrorNodesSetCmd) Validate() error {
	if c.URL == "" && c.Priority == nil && c.Active == nil && c.Maintenance == nil && c.From == nil {
		return errors.New("want something to change: --url, --priority, --active, --maintenance or --from")
	}
	return nil
}

// Run changes a backend.
func (c *mirrorNodesSetCmd) Run(ctx context.Context, app *App) error {
	return c.with(ctx, app, func(ctx context.Context, m *mirror.Mirror) error {
		read, cancel := app.withTimeout(ctx)
		defer cancel()
		old, err := m.Get(read, c.Name)
		if err != nil {
			return mirrorHint(err)
		}
		seed := mirrorSeed{Name: old.Name, URL: old.URL, Priority: c.Priority, Active: c.Active, Maintenance: c.Maintenance}
		if c.URL != "" {
			seed.URL = c.URL
		}
		b := seed.apply(old)
		if err := b.Validate(); err != nil {
			return usagef("%s", message(err))
		}
		if old.Active && !b.Active {
			if err := app.confirm(ctx, c.Yes, dropped(m, old.Name)); err != nil {
				return err
			}
		}
		write, done := app.withTimeout(ctx)
		defer done()
		from := fromFlag(0)
		if c.From != nil {
			from = *c.From
		}
		if c.From != nil && from == 0 {
			last, err := m.LastSeq(write)
			if err != nil {
				return err
			}
			from = fromFlag(last + 1)
		}
		return setBackend(write, app, m, b, from)
	})
}

// dropped says what is lost when these backends get nothing any more.
func dropped(m *mirror.Mirror, names ...string) string {
	var n uint64
	for _, b := range m.Conditions() {
		if slices.Contains(names, b.Name) {
			n += b.Waiting
		}
	}
	return fmt.Sprintf("what waits for %s will be dropped (%s)", strings.Join(names, ", "), plural(int(n), "write")) //nolint:gosec // no stream has as many
}

type mirrorNodesRmCmd struct {
	mirrorName

	Names []string `arg:"" name:"name" help:"Which ones."`
	Yes   bool     `short:"y" help:"Do not ask whether they are meant." env:"-"`
}

// Help is shown below the usage.
func (*mirrorNodesRmCmd) Help() string {
	return `What is kept for later use is a backend in maintenance: see ` + "`skybus mirror nodes set`" + `.

Examples:

    skybus mirror nodes rm c
    skybus mirror nodes rm c d --yes`
}

// Run deletes backends.
func (c *mirrorNodesRmCmd) Run(ctx context.Context, app *App) error {
	return c.with(ctx, app, func(ctx context.Context, m *mirror.Mirror) error {
		read, cancel := app.withTimeout(ctx)
		defer cancel()
		for _, name := range c.Names { // before the first is deleted
			if _, err := m.Get(read, name); err != nil {
				return mirrorHint(err)
			}
		}
		if err := app.confirm(ctx, c.Yes, dropped(m, c.Names...)); err != nil {
			return err
		}
		var gone []string
		var errs []error
		for _, name := range c.Names {
			one, done := app.withTimeout(ctx)
			err := m.Delete(one, name)
			done()
			if err == nil {
				gone = append(gone, name)
				continue
			}
			errs = append(errs, mirrorHint(err))
		}
		return errors.Join(append(errs, app.printCount("deleted", gone))...)
	})
}
