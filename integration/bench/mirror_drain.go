package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	drainBacklog = 100_000
	drainQuick   = 2_000
	drainCallers = 4     // of those who write meanwhile,
	drainRate    = 1_500 // so many a second
	lastBackend  = mirrorBackends - 1
)

// backlog lets writes come until so many wait for the last backend, which is down.
func (t *troupe) backlog(ctx context.Context, name string, client *child, n int64) error {
	if _, err := t.backends.do(order{Op: opAct, Variant: actDown, Count: lastBackend}); err != nil {
		return err
	}
	for {
		waiting, _, err := t.behind()
		if err != nil || waiting >= n {
			return err
		}
		t.b.progress.step(name, fmt.Sprintf("%d of %d writes wait", waiting, n))
		if _, err := client.do(order{Op: opLoad, Callers: mirrorCallers, For: time.Second}); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// behind is by how many writes the last backend is behind the first, and how many it has.
func (t *troupe) behind() (writes, applied int64, err error) {
	ans, err := t.backends.do(order{Op: opAct, Variant: actCounts})
	if err != nil {
		return 0, 0, err
	}
	return ans.Counts[0] - ans.Counts[lastBackend], ans.Counts[lastBackend], nil
}

// mirrorDrain lets a backend come back to many writes, while others are written.
func (b *bench) mirrorDrain(ctx context.Context) (_ []section, err error) {
	n := int64(drainBacklog)
	if b.set.quick {
		n = drainQuick
	}
	t, client, _, err := b.startDrain(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	calm, err := client.do(order{Op: opLoad, Callers: drainCallers, Rate: drainRate, For: b.set.window})
	if err != nil {
		return nil, err
	}
	if err := t.backlog(ctx, nameMirrorDrain, client, n); err != nil {
		return nil, err
	}
	down, err := client.do(order{Op: opLoad, Callers: drainCallers, Rate: drainRate, For: b.set.window})
	if err != nil {
		return nil, err
	}
	drained, rate, err := t.drain(ctx, client)
	if err != nil {
		return nil, err
	}
	s := section{Name: nameMirrorDrain, Columns: []string{"requests/s", "p50 us", "p99 us", "drained/s"}, Notes: []string{fmt.Sprintf(
		"mirror-drain: %d clients make %d writes a second together, with all backends up; with one down, for which %d writes wait; and"+
			" while it is brought level, at a rate that counts from the first write it gets on. Times are the clients', who wait for the first answer. One window each.", drainCallers, drainRate, n)}}
	for _, r := range []struct {
		what  string
		load  load
		drain float64
	}{{"all up", calm.Load, 0}, {"one down", down.Load, 0}, {"while it drains", drained, rate}} {
		s.Rows = append(s.Rows, newRow(r.what, [][]float64{{float64(r.load.Calls) / r.load.Elapsed.Seconds(), micros(r.load.P50), micros(r.load.P99), r.drain}}))
	}
	return []section{s}, nil
}

// startDrain starts a mirror and who writes.
func (b *bench) startDrain(ctx context.Context) (*troupe, *child, *platform, error) {
	t, err := b.startTroupe(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	servers, err := t.servers(ctx, 1, "2m")
	if err != nil {
		return nil, nil, nil, errors.Join(err, t.stop())
	}
	m, err := t.mirror(ctx, servers[0], "first")
	if err != nil {
		return nil, nil, nil, errors.Join(err, t.stop())
	}
	client, err := t.client(ctx, putMethod, m.urls["mirror"])
	if err != nil {
		return nil, nil, nil, errors.Join(err, t.stop())
	}
	return t, client, m, nil
}

// drain lets the last backend come back, and tells how fast it is brought level and what the others' writers saw meanwhile.
func (t *troupe) drain(ctx context.Context, client *child) (l load, rate float64, err error) {
	_, before, err := t.behind()
	if err != nil {
		return l, 0, err
	}
	if _, err := t.backends.do(order{Op: opAct, Variant: actBack, Count: lastBackend}); err != nil {
		return l, 0, err
	}
	begin := time.Now()
	stop := make(chan struct{})
	type result struct {
		load load
		err  error
	}
	ended := make(chan result, 1)
	go func() {
		var sum load
		for {
			ans, err := client.do(order{Op: opLoad, Callers: drainCallers, Rate: drainRate, For: drainWindow})
			sum = worse(sum, ans.Load)
			select {
			case <-stop:
				ended <- result{sum, err}
				return
			default:
			}
			if err != nil {
				ended <- result{sum, err}
				return
			}
		}
	}()
	for begun := false; ; {
		writes, applied, err := t.behind()
		if !begun && applied > before { // the mirror has asked again whether it is there, which it does every few seconds
			begun, begin = true, time.Now()
		}
		if err == nil {
			err = pause(ctx, drainPoll)
		}
		if err != nil || writes < behindLevel {
			rate = float64(applied-before) / time.Since(begin).Seconds()
			close(stop)
			r := <-ended
			return r.load, rate, errors.Join(err, r.err)
		}
	}
}

// drainWindow is how long times are gathered while a backend is brought level: the worst of them counts.
const drainWindow = time.Second

// behindLevel is what a backend that is level may be behind, since it is asked while others write.
const behindLevel = 100

// worse joins two windows: all calls, and the worse times.
func worse(a, b load) load {
	return load{Calls: a.Calls + b.Calls, Elapsed: a.Elapsed + b.Elapsed, P50: max(a.P50, b.P50), P99: max(a.P99, b.P99), Slowest: max(a.Slowest, b.Slowest)}
}

// mirrorMillion is the memory of a mirror while writes wait.
func (b *bench) mirrorMillion(ctx context.Context) (_ []section, err error) {
	n := int64(1_000_000)
	if b.set.quick {
		n = drainQuick
	}
	t, client, m, err := b.startDrain(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	s := section{Name: nameMirrorMillion, Columns: []string{"mirror MB", "server MB", "drained/s"}, Notes: []string{fmt.Sprintf(
		"mirror-million: resident memory of skybus mirror and of skybus server before and while %d writes of 1 KB wait for one of three backends,"+
			" and after it was brought level.", n)}}
	look := func(what string, rate float64) error {
		var values []float64
		for _, p := range []*platform{m, t.programs[0]} {
			rss, err := memoryOf(p.cmd.Process.Pid)
			if err != nil {
				return err
			}
			values = append(values, float64(rss)/1e6)
		}
		s.Rows = append(s.Rows, newRow(what, [][]float64{append(values, rate)}))
		return nil
	}
	if err := look("before", 0); err != nil {
		return nil, err
	}
	if err := t.backlog(ctx, nameMirrorMillion, client, n); err != nil {
		return nil, err
	}
	if err := look("while they wait", 0); err != nil {
		return nil, err
	}
	_, rate, err := t.drain(ctx, client)
	if err != nil {
		return nil, err
	}
	return []section{s}, look("brought level", rate)
}
