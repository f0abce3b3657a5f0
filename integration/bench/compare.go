package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// comparison is one kind of call with so many in flight, on both sides.
type comparison struct {
	Workload workload `json:"workload"`
	Callers  int      `json:"in_flight"`
	Skybus   figures  `json:"skybus"`
	NATS     figures  `json:"nats_go"`
	// Ratio is the median of skybus as a multiple of nats.go in each pair of neighbouring windows; Lowest and Highest are
	// the extremes of the same.
	Ratio   figures `json:"ratio"`
	Lowest  figures `json:"ratio_lowest"`
	Highest figures `json:"ratio_highest"`
	Windows []pair  `json:"windows"`
}

// pair is two neighbouring windows.
type pair struct {
	Skybus figures `json:"skybus"`
	NATS   figures `json:"nats_go"`
}

func newComparison(w workload, callers int, pairs []pair) comparison {
	var skybus, byHand, ratios []figures
	for _, p := range pairs {
		skybus, byHand, ratios = append(skybus, p.Skybus), append(byHand, p.NATS), append(ratios, p.Skybus.over(p.NATS))
	}
	return comparison{
		Workload: w,
		Callers:  callers,
		Skybus:   combine(skybus, median),
		NATS:     combine(byHand, median),
		Ratio:    combine(ratios, median),
		Lowest:   combine(ratios, lowest),
		Highest:  combine(ratios, highest),
		Windows:  pairs,
	}
}

// compare runs both sides, of which one works at a time and the other waits.
func (b *bench) compare(ctx context.Context, w workload) (all []comparison, err error) {
	var sides []*trio
	defer func() {
		for _, t := range sides {
			err = errors.Join(err, t.close())
		}
	}()
	for _, s := range []side{sideSkybus, sideNATS} {
		t, err := startTrio(ctx, s, w, b.dir)
		if err != nil {
			return nil, err
		}
		sides = append(sides, t)
	}
	for _, callers := range b.set.callers {
		name := fmt.Sprintf("%s c=%d", w, callers)
		for _, t := range sides {
			b.progress.step(name, "warming up "+string(t.side))
			if _, err := t.window(callers, b.set.warmUp()); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		pairs := make([]pair, b.set.windows)
		for i := range pairs {
			for j, f := range []*figures{&pairs[i].Skybus, &pairs[i].NATS} {
				b.progress.step(name, fmt.Sprintf("window %d of %d, %s", i+1, len(pairs), sides[j].side))
				if *f, err = sides[j].window(callers, b.set.window); err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
			}
		}
		all = append(all, newComparison(w, callers, pairs))
	}
	return all, b.profile(w, sides)
}

// profile writes profiles of both sides at the highest number of calls in flight, in windows that count for nothing else.
func (b *bench) profile(w workload, sides []*trio) error {
	callers := slices.Max(b.set.callers)
	for _, t := range sides {
		err := b.profiled(fmt.Sprintf("%s-c%d-%s", w, callers, t.side), t.all(), func() error {
			_, err := t.window(callers, b.set.window)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// profiled writes profiles of the processes while they do what f makes them do, where profiles are wanted at all.
func (b *bench) profiled(name string, processes []*child, f func() error) error {
	if b.set.profile == "" {
		return nil
	}
	b.progress.step(name, "profiling")
	if err := os.MkdirAll(b.set.profile, 0o755); err != nil {
		return err
	}
	for _, c := range processes {
		file := filepath.Join(b.set.profile, name+"-"+string(c.role))
		if _, err := c.do(order{Op: opProfile, File: file}); err != nil {
			return err
		}
	}
	if err := f(); err != nil {
		return err
	}
	for _, c := range processes {
		if _, err := c.do(order{Op: opWritten}); err != nil {
			return err
		}
	}
	return nil
}
