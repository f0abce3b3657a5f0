package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/route"
)

// dryRunReport is what storing a route would do.
type dryRunReport struct {
	Name     string       `json:"name"`
	DryRun   bool         `json:"dry_run"`
	Over     uint64       `json:"over"` // the revision that is there now, 0 for none
	Changed  bool         `json:"changed"`
	Before   *route.Route `json:"before,omitempty"`
	After    route.Route  `json:"after"`
	Warnings []string     `json:"warnings,omitempty"`
}

// dryRun checks a route as storing it would, and shows what would change.
func (a *App) dryRun(ctx context.Context, conn *bus.Conn, store *route.Store, w routeWrite) error {
	if err := store.Check(ctx, w.name, w.route, w.options()...); err != nil {
		return putHint(w.name, err)
	}
	there, err := store.Get(ctx, w.name)
	found := err == nil || there.Err != nil
	if err != nil && !found && bus.CodeOf(err) != bus.NotFound {
		return err
	}
	switch {
	case w.over == nil:
	case *w.over == 0 && found:
		err := bus.Errorf(bus.AlreadyExists, "there is a route %q already, of revision %d", w.name, there.Revision)
		return putHint(w.name, err)
	case *w.over != 0 && *w.over != there.Revision:
		err := bus.Errorf(bus.Aborted, "route %q has revision %d by now, not %d", w.name, there.Revision, *w.over)
		return putHint(w.name, err)
	}
	r := dryRunReport{Name: w.name, DryRun: true, Over: there.Revision, After: w.route, Warnings: a.unserved(ctx, conn, w.route)}
	before := ""
	if err == nil {
		r.Before = &there.Route
		if before, err = routeText(there.Route); err != nil {
			return err
		}
	}
	after, err := routeText(w.route)
	if err != nil {
		return err
	}
	r.Changed = before != after
	if a.Output != formatTable {
		return encode(a.stdout, a.Output, r)
	}
	for _, text := range r.Warnings {
		a.warn("%s", text)
	}
	if !r.Changed {
		a.note("nothing would change")
		return nil
	}
	a.note("this would be stored; nothing was")
	_, err = fmt.Fprint(a.stdout, printable(diff(lines(before), lines(after))))
	return err
}

func routeText(r route.Route) (string, error) {
	var text strings.Builder
	err := encode(&text, formatYAML, r)
	return text.String(), err
}

func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// diff is all lines of both texts, those of one only with a sign before them.
func diff(before, after []string) string {
	common := make([][]int, len(before)+1) // the length of the longest common part of the rests
	for i := range common {
		common[i] = make([]int, len(after)+1)
	}
	for i, line := range slices.Backward(before) {
		for j := len(after) - 1; j >= 0; j-- {
			if common[i][j] = max(common[i+1][j], common[i][j+1]); line == after[j] {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	var out strings.Builder
	i, j := 0, 0
	for i < len(before) || j < len(after) {
		switch {
		case i < len(before) && j < len(after) && before[i] == after[j]:
			fmt.Fprintln(&out, " ", before[i])
			i, j = i+1, j+1
		case j == len(after) || i < len(before) && common[i+1][j] >= common[i][j+1]:
			fmt.Fprintln(&out, "-", before[i])
			i++
		default:
			fmt.Fprintln(&out, "+", after[j])
			j++
		}
	}
	return out.String()
}
