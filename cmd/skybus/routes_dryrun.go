package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/route"
)

// dryRun checks a route as storing it would, and shows what would change.
func (a *App) dryRun(ctx context.Context, conn *bus.Conn, store *route.Store, w routeWrite) error {
	if err := store.Check(ctx, w.name, w.route, w.options()...); err != nil {
		return putHint(w.name, err)
	}
	s, err := store.Get(ctx, w.name)
	there := kept[route.Route]{name: w.name, revision: s.Revision}
	switch {
	case err == nil:
		there.value = &s.Route
	case s.Err == nil && bus.CodeOf(err) != bus.NotFound:
		return err
	}
	if err := routeDocs().checkOver(there, w.over); err != nil {
		return putHint(w.name, err)
	}
	return routeDocs().dryRun(a, there, w.route, a.unserved(ctx, conn, w.route))
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
