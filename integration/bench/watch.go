package main

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	watchers         = 100
	watchConnections = 20
	watchKeys        = 100
	watchPuts        = 200 // by each side, over all windows
	watchPutsQuick   = 10
)

// spread is how long after a put began the first and the last watcher had it, for each put.
type spread struct {
	First []time.Duration `json:"first,omitempty"`
	Last  []time.Duration `json:"last,omitempty"`
}

// watch puts values that a hundred watchers follow, on each side.
func (b *bench) watch(ctx context.Context) (_ []section, err error) {
	c := &crew{dir: b.dir}
	defer func() { err = errors.Join(err, c.close()) }()
	puts := watchPuts
	if b.set.quick {
		puts = watchPutsQuick
	}
	puts = max(1, puts/b.set.windows)
	var variants []variant
	all := map[side]*spread{}
	sides := []side{sideSkybus, sideNATS}
	for _, s := range sides {
		server, url, err := c.server(ctx)
		if err != nil {
			return nil, err
		}
		w, _, err := c.start(ctx, roleWatchers, order{Part: nameWatch, Side: s, URL: url})
		if err != nil {
			return nil, err
		}
		all[s] = &spread{}
		variants = append(variants, variant{string(s), func() ([]float64, error) { return watchWindow(server, w, puts, all[s]) }})
	}
	rows, err := b.turns(ctx, nameWatch, b.set.windows, variants)
	if err != nil {
		return nil, err
	}
	told := section{
		Name: nameWatch, Columns: []string{"first p50 us", "first p99 us", "last p50 us", "last p99 us"},
		Notes: []string{"watch: from the begin of a put until the first and the last of 100 watchers have its value; quantiles over all puts." +
			" skybus: kv.Table.Follow; nats.go: KeyValue.WatchAll, an ordered consumer each. 20 connections in one process, 100 keys, 128 bytes." +
			" created is until all 100 have the current state."},
	}
	for _, s := range sides {
		told.Rows = append(told.Rows, row{What: string(s), Values: all[s].quantiles()})
	}
	costs := section{Name: nameWatch + ": cost", Columns: []string{"created ms", "CPU us per put"}, Rows: append(rows, ratio(rows[0], rows[1]))}
	return []section{told, costs}, nil
}

// watchWindow makes the watchers, puts, and ends the watchers.
func watchWindow(server, w *child, puts int, all *spread) ([]float64, error) {
	created, err := w.do(order{Op: opAct, Variant: actCreate})
	if err != nil {
		return nil, err
	}
	used, err := using(func() error {
		ans, err := w.do(order{Op: opAct, Variant: actPut, Count: puts})
		all.First, all.Last = append(all.First, ans.Spread.First...), append(all.Last, ans.Spread.Last...)
		return err
	}, server, w)
	if err != nil {
		return nil, err
	}
	_, err = w.do(order{Op: opAct, Variant: actEnd})
	return []float64{millis(created.Took), micros(used) / float64(puts)}, err
}

// quantiles are p50 and p99 of the first, and of the last.
func (s *spread) quantiles() []float64 {
	var values []float64
	for _, all := range [][]time.Duration{s.First, s.Last} {
		slices.Sort(all)
		for _, q := range []int{50, 99} {
			values = append(values, micros(all[min(len(all)-1, len(all)*q/100)]))
		}
	}
	return values
}
