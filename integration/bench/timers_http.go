package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
)

const timerCallers = 32

// timersHTTP creates timers by HTTP on `skybus up --memory`.
func (b *bench) timersHTTP(ctx context.Context) (_ []section, err error) {
	program, err := b.skybus(ctx)
	if err != nil {
		return nil, err
	}
	p, err := startUp(ctx, program, b.dir, "--memory")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	s := section{
		Name: nameTimersHTTP, Columns: []string{"timers/s", "p50 us", "p99 us", "CPU us each"},
		Notes: []string{"timers-http, timers-cluster: POST /timer over 32 connections that stay open, timers of 100 B due in an hour; answered when they are" +
			" stored. timers-http: skybus up --memory. timers-cluster: three skybus server that hold each timer three times, and three skybus" +
			" scheduler, by turns. CPU is that of all of these programs, without the client, with whom they share the machine."},
	}
	v, stop, err := b.posting(ctx, "skybus up", []*platform{p}, []*platform{p})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if s.Rows, err = b.turns(ctx, s.Name, b.set.windows, []variant{v}); err != nil {
		return nil, err
	}
	return []section{s}, b.profiledPrograms(ctx, nameTimersHTTP, []*platform{p}, v)
}

// posting is a variant that creates timers at the APIs of some programs, in turns.
func (b *bench) posting(ctx context.Context, what string, apis, all []*platform) (v variant, stop func() error, err error) {
	var urls []string
	for _, p := range apis {
		urls = append(urls, p.urls["timers"])
	}
	client, err := spawn(ctx, roleClient)
	if err != nil {
		return v, nil, err
	}
	_, err = client.do(order{Op: opStart, Side: sideTimers, URLs: urls})
	if err == nil {
		_, err = client.do(order{Op: opLoad, Callers: timerCallers, For: b.set.warmUp()})
	}
	if err != nil {
		return v, nil, errors.Join(err, client.close())
	}
	return b.requesting(what, client, timerCallers, pidsOf(all)), client.close, nil
}

// cluster is programs that run together. Those who need others are started after them, and stopped before.
type cluster struct {
	schedulers, all []*platform
}

func (c *cluster) stop() error {
	var errs []error
	for _, p := range slices.Backward(c.all) {
		errs = append(errs, p.stop())
	}
	return errors.Join(errs...)
}

// startCluster starts three servers and three schedulers, which take args beside what they need.
func (b *bench) startCluster(ctx context.Context, sync string, args ...string) (c *cluster, err error) {
	c = &cluster{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	program, err := b.skybus(ctx)
	if err != nil {
		return c, err
	}
	const size = 3
	for i := range size {
		store, err := os.MkdirTemp(b.dir, "member-")
		if err != nil {
			return c, err
		}
		server := []string{
			"--data", store, "--sync", sync, "--nats", freePort, "--cluster", "bench", "--cluster-listen", freePort, "--name", "s" + strconv.Itoa(i),
		}
		if i > 0 {
			server = append(server, "--routes", c.all[0].urls["cluster"])
		}
		p, err := startProgram(ctx, program, b.dir, "server", server...)
		if err != nil {
			return c, err
		}
		c.all = append(c.all, p)
	}
	for i := range size {
		p, err := startProgram(ctx, program, b.dir, "scheduler", append(schedulerArgs(c.all[i].urls["nats"]), args...)...)
		if err != nil {
			return c, err
		}
		c.all, c.schedulers = append(c.all, p), append(c.schedulers, p)
	}
	return c, nil
}

// schedulerArgs are those of a skybus scheduler on free ports.
func schedulerArgs(server string) []string {
	return []string{"--server", server, "--http", freePort, "--admin", freePort, "--allow-network", "127.0.0.0/8"}
}

// timersCluster creates timers by HTTP on clusters that sync in different ways, and on one with a single shard.
func (b *bench) timersCluster(ctx context.Context) (_ []section, err error) {
	s := section{Name: nameTimersCluster, Columns: []string{"timers/s", "p50 us", "p99 us", "CPU us each"}}
	clusters := []struct {
		sync   string
		shards []string
	}{
		{"always", nil},
		{"2m", nil},
		{"always", []string{"--shards", "1"}},
	}
	if b.set.quick {
		clusters = clusters[:1] // an election takes seconds
	}
	var variants []variant
	var last *cluster
	for _, kind := range clusters {
		what := strings.Join(append([]string{"--sync", kind.sync}, kind.shards...), " ")
		b.progress.step(s.Name, "starting a cluster, "+what)
		c, err := b.startCluster(ctx, kind.sync, kind.shards...)
		if err != nil {
			return nil, err
		}
		last = c
		defer func() { err = errors.Join(err, c.stop()) }()
		v, stop, err := b.posting(ctx, what, c.schedulers, c.all)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, stop()) }()
		variants = append(variants, v)
	}
	if s.Rows, err = b.turns(ctx, s.Name, b.set.windows, variants); err != nil {
		return nil, err
	}
	return []section{s}, b.profiledPrograms(ctx, nameTimersCluster, last.schedulers, variants[len(variants)-1])
}
