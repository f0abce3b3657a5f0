package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/mirror"
	"github.com/skybus-io/skybus/mirror/adminapi"
)

type mirrorParkedCmd struct {
	Ls    mirrorParkedLsCmd    `cmd:"" default:"withargs" help:"List the parked writes."`
	Show  mirrorParkedShowCmd  `cmd:"" help:"Show one, with its request and the backend's answer."`
	Retry mirrorParkedRetryCmd `cmd:"" help:"Send them to their backend once more."`
	Drop  mirrorParkedDropCmd  `cmd:"" aliases:"rm" help:"Let go of them: the backend goes without."`
}

// parkedRow is a parked write as it is printed.
type parkedRow struct{ mirror.ParkedWrite }

// MarshalJSON is the form of the HTTP API.
func (r parkedRow) MarshalJSON() ([]byte, error) { return adminapi.FormatParked(&r.ParkedWrite) }

var _ json.Marshaler = parkedRow{}

func parkedHint(err error) error {
	switch bus.CodeOf(err) {
	case bus.NotFound:
		return withHint(err, "`skybus mirror parked` lists them")
	case bus.FailedPrecondition:
		return withHint(err, "`skybus mirror parked show BACKEND SEQ` shows what it said; `skybus mirror parked drop` lets go of it")
	default:
		return err
	}
}

// parkedWrites are those of a backend, of all where it is empty.
func parkedWrites(ctx context.Context, m *mirror.Mirror, backend string, limit int) (list []parkedRow, more bool, err error) {
	for p, err := range m.Parked().List(ctx, mirror.ParkedFilter{Backend: backend}) {
		if err != nil {
			return nil, false, err
		}
		if limit > 0 && len(list) == limit {
			return list, true, nil
		}
		list = append(list, parkedRow{p})
	}
	return list, false, nil
}

type mirrorParkedLsCmd struct {
	mirrorName

	Backend string `help:"Only those of this backend." placeholder:"NAME" env:"-"`
	Limit   int    `help:"How many at most, those parked first; 0 means all." default:"1000" env:"-"`
}

// Help is shown below the usage.
func (*mirrorParkedLsCmd) Help() string {
	return `A write is parked when a backend has answered it otherwise than the others: they took it, and it refused it, or the other way round; or when
it was given up, as it had waited for the backend for longer than max_age of the mirror's file. The copies of the data differ from then on, until
somebody has dealt with it.

Examples:

    skybus mirror parked
    skybus mirror parked --backend b -o json`
}

// Run lists them.
func (c *mirrorParkedLsCmd) Run(ctx context.Context, app *App) error {
	return c.with(ctx, app, func(ctx context.Context, m *mirror.Mirror) error {
		list, more, err := parkedWrites(ctx, m, c.Backend, c.Limit)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			app.note("no write is parked")
		}
		err = printList(app, list, []string{"backend", "seq", "parked", "method", "target", "status", "others"}, func(r parkedRow) []any {
			return []any{r.Backend, r.Seq, r.Parked.Local().Format(time.DateTime), r.Method, redact(adminapi.HideQuery(r.Target)), statusText(r.Status), r.Others}
		})
		if more {
			app.note("there are more; --limit 0 lists all")
		}
		return err
	})
}

func statusText(status int) any {
	if status == 0 {
		return nil
	}
	return status
}

type mirrorParkedShowCmd struct {
	mirrorName

	Backend string `arg:"" help:"Of which backend."`
	Seq     uint64 `arg:"" help:"Number of the write."`
}

// Help is shown below the usage.
func (*mirrorParkedShowCmd) Help() string {
	return `Header fields, and parameters of a URL, whose names say that they log somebody in are shown without their values; other secrets, and the
body, are shown. What is sent again has all of it.

Examples:

    skybus mirror parked show b 120394`
}

// Run shows one.
func (c *mirrorParkedShowCmd) Run(ctx context.Context, app *App) error {
	return c.with(ctx, app, func(ctx context.Context, m *mirror.Mirror) error {
		ctx, cancel := app.withTimeout(ctx)
		defer cancel()
		p, err := m.Parked().Show(ctx, c.Backend, c.Seq)
		if err != nil {
			return parkedHint(err)
		}
		row := parkedRow{p}
		rows := [][]any{
			{"backend", p.Backend},
			{"seq", p.Seq},
			{"lane", p.Lane},
			{"stored", localTime(p.Stored)},
			{"parked", localTime(p.Parked)},
			{"status", statusText(p.Status)},
			{"others", p.Others},
			{"reason", p.Reason},
			{"idempotency key", p.Idempotency},
		}
		if err := printOne(app, row, rows); err != nil || app.Output != formatTable {
			return err
		}
		for _, part := range []struct {
			title string
			text  []byte
		}{{"Request", p.Request}, {"Answer", p.Answer}} {
			if len(part.text) == 0 {
				continue
			}
			if _, err := fmt.Fprintf(app.stdout, "\n%s:\n", part.title); err != nil {
				return err
			}
			for line := range strings.SplitSeq(strings.TrimRight(string(adminapi.HideSecrets(part.text)), "\r\n"), "\n") {
				if _, err := fmt.Fprintln(app.stdout, "  "+printable(strings.TrimSuffix(line, "\r"))); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// parkedChoice are the parked writes that a command is for.
type parkedChoice struct {
	mirrorName

	Backend string   `arg:"" help:"Of which backend."`
	Seqs    []uint64 `arg:"" optional:"" name:"seq" help:"Numbers of the writes."`
	All     bool     `help:"All of the backend." env:"-"`
}

// Validate finds what does not go together.
func (c *parkedChoice) Validate() error {
	if (len(c.Seqs) > 0) == c.All {
		return errors.New("want numbers of writes, or --all")
	}
	return nil
}

// each calls f for each of them, the oldest write first, and returns those that went well. sure is asked before writes are touched that
// nobody named one by one.
func (c *parkedChoice) each(ctx context.Context, app *App, sure func(context.Context, int) error, f func(context.Context, *mirror.Parked, uint64) error) (done []string, err error) {
	err = c.with(ctx, app, func(ctx context.Context, m *mirror.Mirror) error {
		seqs := c.Seqs
		if c.All {
			list, _, err := parkedWrites(ctx, m, c.Backend, 0)
			if err != nil {
				return err
			}
			for _, p := range list {
				seqs = append(seqs, p.Seq)
			}
			slices.Sort(seqs) // what was tried again is behind others in the list
			if err := sure(ctx, len(seqs)); err != nil {
				return err
			}
		}
		var errs []error
		for _, seq := range seqs {
			err := f(ctx, m.Parked(), seq)
			if err == nil {
				done = append(done, strconv.FormatUint(seq, 10))
				continue
			}
			if bus.CodeOf(err) != bus.NotFound { // which names the write
				err = fmt.Errorf("write %d: %w", seq, err)
			}
			errs = append(errs, parkedHint(err))
			if ctx.Err() != nil || bus.CodeOf(err) == bus.Unavailable {
				break
			}
		}
		return errors.Join(errs...)
	})
	return done, err
}

type mirrorParkedRetryCmd struct{ parkedChoice }

// Help is shown below the usage.
func (*mirrorParkedRetryCmd) Help() string {
	return `This process sends them itself, with the Idempotency-Key, Skybus-Seq and Skybus-Lane that they had: the backend must be reachable from here. Later
writes may have reached it before, so that an old one may undo a newer one: see what it is first. What the backend takes is no longer parked.

Examples:

    skybus mirror parked retry b 120394
    skybus mirror parked retry b --all`
}

// Run sends them once more.
func (c *mirrorParkedRetryCmd) Run(ctx context.Context, app *App) error {
	done, err := c.each(ctx, app, func(context.Context, int) error { return nil }, func(ctx context.Context, parked *mirror.Parked, seq uint64) error {
		_, err := parked.Retry(ctx, c.Backend, seq)
		return err
	})
	if err != nil && len(done) == 0 {
		return err
	}
	return errors.Join(app.printCount("taken", done), err)
}

type mirrorParkedDropCmd struct {
	parkedChoice

	Yes bool `short:"y" help:"Do not ask whether all of them are meant." env:"-"`
}

// Help is shown below the usage.
func (*mirrorParkedDropCmd) Help() string {
	return `Examples:

    skybus mirror parked drop b 120394
    skybus mirror parked drop b --all --yes`
}

// Run lets go of them.
func (c *mirrorParkedDropCmd) Run(ctx context.Context, app *App) error {
	sure := func(ctx context.Context, n int) error {
		if n == 0 {
			return nil
		}
		return app.confirm(ctx, c.Yes, plural(n, "parked write")+" will be dropped")
	}
	done, err := c.each(ctx, app, sure, func(ctx context.Context, parked *mirror.Parked, seq uint64) error {
		one, cancel := app.withTimeout(ctx)
		defer cancel()
		return parked.Drop(one, c.Backend, seq)
	})
	if errors.Is(err, errDeclined) || err != nil && len(done) == 0 {
		return err
	}
	return errors.Join(app.printCount("dropped", done), err)
}
