package main

import (
	"context"
	"fmt"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/file"
)

type filesLsCmd struct {
	Files bool `help:"Show the files that are not finished, or stay where they are." env:"-"`
}

// Help is shown below the usage.
func (*filesLsCmd) Help() string {
	return `Counts are those of the process that works on a source, since it started; they are a second old.

Examples:

    skybus files ls
    skybus files ls --files
    skybus files ls -o json`
}

// Run lists the sources.
func (c *filesLsCmd) Run(ctx context.Context, app *App) error {
	all, err := query(ctx, app, file.List)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		app.note("there are no sources of files in %s", app.shownNamespace())
	}
	if c.Files && app.Output == formatTable {
		return printFiles(app, all)
	}
	return printList(app, all, []string{"source", "owner", "place", "format", "sent", "refused", "files", "last fault"}, func(s file.Status) []any {
		row := []any{s.Name, orNobody(s.Owner), nil, nil, nil, nil, nil, nil}
		if sum := s.Summary; sum != nil {
			place := sum.Dir
			if sum.Follow != "" {
				place = sum.Follow
			}
			copy(row[2:], []any{place, sum.Format, sum.Stats.Sent, sum.Stats.Refused, sum.Stats.Files, sum.Stats.LastFault})
		}
		return row
	})
}

func orNobody(owner string) any {
	if owner == "" {
		return nil
	}
	return owner
}

// fileRow is a file of a source.
type fileRow struct {
	source string
	cp     file.Checkpoint
}

func printFiles(app *App, all []file.Status) error {
	var rows []fileRow
	for _, s := range all {
		for _, cp := range s.Files {
			rows = append(rows, fileRow{s.Name, cp})
		}
	}
	if len(rows) == 0 {
		app.note("no file is half done, or kept in mind")
	}
	return printList(app, rows, []string{"source", "file", "done", "of", "record", "refused", "updated"}, func(r fileRow) []any {
		part := "-"
		if r.cp.Size > 0 {
			part = fmt.Sprintf("%d%%", min(100, 100*r.cp.Offset/r.cp.Size))
		}
		return []any{r.source, r.cp.File, part, r.cp.Size, r.cp.Number, r.cp.Refused, r.cp.Updated.Local().Format(time.DateTime)}
	})
}

type filesForgetCmd struct {
	Name string `arg:"" help:"Name of the source."`
	Yes  bool   `help:"Do not ask." env:"-"`
}

// Help is shown below the usage.
func (*filesForgetCmd) Help() string {
	return `When the source runs again, it sends all the records of the files that are there, also those that it has sent. Nobody may be working on it.

Examples:

    skybus files forget orders --yes`
}

// Run removes the checkpoints of a source.
func (c *filesForgetCmd) Run(ctx context.Context, app *App) error {
	if err := bus.CheckToken("source", c.Name); err != nil {
		return usagef("%s", message(err))
	}
	conn, err := app.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // every write was acknowledged
	if err := app.confirm(ctx, c.Yes, "all records of the files that are there will be sent again when "+c.Name+" runs"); err != nil {
		return err
	}
	ctx, cancel := app.withTimeout(ctx)
	defer cancel()
	if err := file.Forget(ctx, conn, c.Name); err != nil {
		return err
	}
	return printOne(app, map[string]string{"forgotten": c.Name}, [][]any{{"forgotten", c.Name}})
}
