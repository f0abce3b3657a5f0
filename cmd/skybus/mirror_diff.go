package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/mirror"
	"github.com/skybus-io/skybus/mirror/adminapi"
)

type mirrorDiffCmd struct {
	mirrorName

	Backend []string `help:"Compare these backends; may be repeated. Default: all active ones." placeholder:"NAME" env:"-"`
	By      string   `help:"What is compared: class (taken, refused or failed), status, or body (the status and a hash of the body)." enum:"class,status,body" default:"class" env:"-"`
	From    uint64   `help:"The first write to compare. Default: the first that is known." placeholder:"SEQ" env:"-"`
	To      uint64   `help:"The last one." placeholder:"SEQ" env:"-"`
	Limit   int      `help:"How many at most; 0 means all." default:"1000" env:"-"`
}

// Help is shown below the usage.
func (*mirrorDiffCmd) Help() string {
	return `It compares what the backends answered, as the mirror has noted it for each write; it asks nobody anything. Parameters of a URL whose
names say that they log somebody in are shown without their values.

Examples:

    skybus mirror diff
    skybus mirror diff --by body --from 120000 -o json
    skybus mirror diff --backend a --backend b`
}

// Run lists the writes.
func (c *mirrorDiffCmd) Run(ctx context.Context, app *App) error {
	return c.with(ctx, app, func(ctx context.Context, m *mirror.Mirror) error {
		var list []mirror.Difference
		next := uint64(0)
		for d, err := range m.Diff(ctx, mirror.DiffFilter{From: c.From, To: c.To, By: mirror.DiffBy(c.By), Backends: c.Backend}) {
			if err != nil {
				return mirrorHint(err)
			}
			if c.Limit > 0 && len(list) == c.Limit {
				next = d.Seq
				break
			}
			d.Target = adminapi.HideQuery(d.Target)
			list = append(list, d)
		}
		if len(list) == 0 {
			app.note("the backends answered alike")
		}
		err := printList(app, list, []string{"seq", "method", "target", "answers", "missing"}, func(d mirror.Difference) []any {
			return []any{d.Seq, d.Method, redact(d.Target), c.answers(&d), strings.Join(d.Missing, " ")}
		})
		if next > 0 {
			app.note("there are more; --from %d goes on, --limit 0 lists all", next)
		}
		return err
	})
}

func (c *mirrorDiffCmd) answers(d *mirror.Difference) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(d.Answers)) {
		a := d.Answers[name]
		text := name + "=" + strconv.Itoa(a.Status)
		if a.Status == 0 {
			text = name + "=none"
		}
		if c.By == string(mirror.ByBody) {
			text += "/" + a.Body
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

type mirrorRepairCmd struct {
	mirrorName

	Backend string `arg:"" help:"Which one."`
	From    uint64 `help:"The first write that is sent again. Default: the first that is kept." placeholder:"SEQ" env:"-"`
	Yes     bool   `short:"y" help:"Do not ask." env:"-"`
}

// Help is shown below the usage.
func (*mirrorRepairCmd) Help() string {
	return `Nothing on the backend is removed before: repeat what it lacks. Each write comes with the Idempotency-Key, Skybus-Seq and Skybus-Lane that it had, so
that a backend can leave out what it has. Until it is level it serves no reads; ` + "`skybus mirror status --watch`" + ` shows how it gets on.

Where writes do not say all that there is, give it a copy of another's data, and the write after those that the other had applied before: see
` + "`skybus mirror nodes add --help`" + `.

Examples:

    skybus mirror repair b --from 120394
    skybus mirror repair b --from 120394 --yes && skybus mirror drain b`
}

// Run sends writes again.
func (c *mirrorRepairCmd) Run(ctx context.Context, app *App) error {
	return c.with(ctx, app, func(ctx context.Context, m *mirror.Mirror) error {
		read, cancel := app.withTimeout(ctx)
		defer cancel()
		if _, err := m.Get(read, c.Backend); err != nil {
			return mirrorHint(err)
		}
		what := "all that are kept"
		if c.From > 0 {
			what = fmt.Sprintf("those from %d on", c.From)
		}
		if err := app.confirm(ctx, c.Yes, fmt.Sprintf("writes (%s) will be sent to %s again", what, c.Backend)); err != nil {
			return err
		}
		write, done := app.withTimeout(ctx)
		defer done()
		b, err := m.Repair(write, c.Backend, c.From)
		if bus.CodeOf(err) == bus.FailedPrecondition {
			return withHint(err, "see `skybus mirror repair --help`")
		}
		if err != nil {
			return mirrorHint(err)
		}
		return printOne(app, map[string]any{"name": b.Name, "from": b.From + 1}, [][]any{{"backend", b.Name}, {"first write", b.From + 1}})
	})
}
