package main

import (
	"context"
	"errors"
	"time"
)

const (
	outageCallers = 8
	outageTrials  = 3
	outageFor     = 1500 * time.Millisecond
	outageQuick   = 400 * time.Millisecond
)

// takeover is how long it takes when somebody ends: leaders, and instances that callers use.
func (b *bench) takeover(ctx context.Context) ([]section, error) {
	elections, err := b.elections(ctx)
	if err != nil {
		return nil, err
	}
	var variants []variant
	for _, s := range []side{sideSkybus, sideNATS} {
		variants = append(variants, variant{string(s), func() ([]float64, error) { return b.outage(ctx, s) }})
	}
	trials := min(b.set.windows, outageTrials)
	if b.set.quick {
		trials = 1
	}
	rows, err := b.turns(ctx, nameTakeover, trials, variants)
	if err != nil {
		return nil, err
	}
	outages := section{
		Name: nameTakeover + ": instance", Columns: []string{"longest gap ms", "slowest reply ms", "failed calls", "replies/s"}, Rows: rows,
		Notes: []string{"instance: one of two is killed under eight callers; work takes 2 ms. gap is the longest time in which nobody was answered." +
			" What the killed one held is not answered: a skybus call that may be repeated is, after 2 s; by hand with nats.go it fails after 2 s."},
	}
	return []section{elections, outages}, nil
}

// outage kills one of two instances while callers call, on a server of its own.
func (b *bench) outage(ctx context.Context, s side) (_ []float64, err error) {
	c := &crew{dir: b.dir}
	defer func() { err = errors.Join(err, c.close()) }()
	_, url, err := c.server(ctx)
	if err != nil {
		return nil, err
	}
	var victim *child
	for range 2 {
		if victim, _, err = c.start(ctx, roleService, order{Part: partWork, Side: s, URL: url, Delay: fastDelay}); err != nil {
			return nil, err
		}
	}
	client, _, err := c.start(ctx, roleClient, order{Part: partWork, Side: s, URL: url, Variant: variantRepeat, Count: 2})
	if err != nil {
		return nil, err
	}
	window := outageFor
	if b.set.quick {
		window = outageQuick
	}
	if _, err := client.do(order{Op: opLoad, Callers: outageCallers, For: settle}); err != nil {
		return nil, err
	}
	killed := make(chan error, 1)
	go func() { killed <- errors.Join(pause(ctx, window/3), victim.kill()) }()
	ans, err := client.do(order{Op: opLoad, Callers: outageCallers, For: window, Tolerate: true})
	if err := errors.Join(err, <-killed); err != nil {
		return nil, err
	}
	l := ans.Load
	return []float64{millis(l.Gap), millis(l.Slowest), float64(l.Failed), float64(l.Calls) / window.Seconds()}, nil
}
