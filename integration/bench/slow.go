package main

import (
	"context"
	"errors"
	"time"
)

const (
	workCallers = 16
	instances   = 3
	slowDelay   = 100 * time.Millisecond
	fastDelay   = 2 * time.Millisecond
	slowWindows = 3 // at most: each is long, since policies learn
)

// slow has one slow instance of three, and callers who choose in different ways.
func (b *bench) slow(ctx context.Context) (_ []section, err error) {
	c := &crew{dir: b.dir}
	defer func() { err = errors.Join(err, c.close()) }()
	_, url, err := c.server(ctx)
	if err != nil {
		return nil, err
	}
	for _, delay := range []time.Duration{slowDelay, fastDelay, fastDelay} {
		if _, _, err := c.start(ctx, roleService, order{Part: partWork, URL: url, Delay: delay}); err != nil {
			return nil, err
		}
	}
	var variants []variant
	for _, what := range []string{variantQueue, variantRound, variantBest, variantHedged} {
		client, _, err := c.start(ctx, roleClient, order{Part: partWork, URL: url, Variant: what, Count: instances})
		if err != nil {
			return nil, err
		}
		variants = append(variants, variant{what, func() ([]float64, error) {
			ans, err := client.do(order{Op: opLoad, Callers: workCallers, For: 2 * b.set.window})
			l := ans.Load
			return []float64{float64(l.Calls) / l.Elapsed.Seconds(), millis(l.P50), millis(l.P95), millis(l.P99)}, err
		}})
	}
	rows, err := b.turns(ctx, nameSlow, min(b.set.windows, slowWindows), variants)
	if err != nil {
		return nil, err
	}
	for _, r := range rows[1:] {
		again := ratio(r, rows[0])
		again.What = r.What + " / " + variantQueue
		rows = append(rows, again)
	}
	return []section{{
		Name: nameSlow, Columns: []string{"replies/s", "p50 ms", "p95 ms", "p99 ms"}, Rows: rows,
		Notes: []string{"slow: three instances, one takes 100 ms and two 2 ms for each request; 16 callers. Policies are not warm: what one" +
			" has learnt it forgets by half each 3.5 s, and its windows are further apart. Hedges are bounded by the retry budget (20 %), less than" +
			" the third of the calls that the queue group gives to the slow one."},
	}}, nil
}

// outlier has one instance of three that fails at once, and callers with and without ejection. Each window has a new
// client, which has to find out.
func (b *bench) outlier(ctx context.Context) (_ []section, err error) {
	c := &crew{dir: b.dir}
	defer func() { err = errors.Join(err, c.close()) }()
	_, url, err := c.server(ctx)
	if err != nil {
		return nil, err
	}
	for i := range instances {
		if _, _, err := c.start(ctx, roleService, order{Part: partWork, URL: url, Delay: fastDelay, Fail: i == 0}); err != nil {
			return nil, err
		}
	}
	var variants []variant
	for _, what := range []string{variantEject, variantNoEject} {
		variants = append(variants, variant{what, func() (_ []float64, err error) {
			one := &crew{dir: b.dir}
			defer func() { err = errors.Join(err, one.close()) }()
			client, _, err := one.start(ctx, roleClient, order{Part: partWork, URL: url, Variant: what, Count: instances})
			if err != nil {
				return nil, err
			}
			ans, err := client.do(order{Op: opLoad, Callers: workCallers, For: b.set.window, Tolerate: true})
			l := ans.Load
			failed, all := float64(l.Failed), float64(l.Failed)+float64(l.Calls)
			return []float64{float64(l.Calls) / l.Elapsed.Seconds(), failed, 100 * failed / all, millis(l.P99)}, err
		}})
	}
	rows, err := b.turns(ctx, nameOutlier, min(b.set.windows, slowWindows), variants)
	if err != nil {
		return nil, err
	}
	return []section{{
		Name: nameOutlier, Columns: []string{"replies/s", "errors", "errors %", "p99 ms"}, Rows: rows,
		Notes: []string{"outlier: three instances, one answers at once that it is unavailable, two take 2 ms; 16 callers, queue group, calls that are" +
			" not repeated. errors are those that callers saw; each window begins with a client that knows nothing."},
	}}, nil
}
