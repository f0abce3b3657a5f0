package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The measurements of the mirror by name.
const (
	nameMirror        = "mirror"
	nameMirrorWrite   = "mirror-write"
	nameMirrorCluster = "mirror-cluster"
	nameMirrorRead    = "mirror-read"
	nameMirrorDrain   = "mirror-drain"
	nameMirrorMillion = "mirror-million"
)

const (
	mirrorCallers  = 32
	mirrorBackends = 3
	putMethod      = workload("PUT")
	getMethod      = workload("GET")
)

// troupe is what a measurement of the mirror starts. Those who need others are started after them, and end before.
type troupe struct {
	b        *bench
	crew     crew
	backends *child
	targets  []string
	programs []*platform
	ends     []func() error // of what is no program of ours
}

func (b *bench) startTroupe(ctx context.Context) (*troupe, error) {
	t := &troupe{b: b, crew: crew{dir: b.dir}}
	var err error
	var ans answer
	if t.backends, ans, err = t.crew.start(ctx, roleBackends, order{Count: mirrorBackends}); err != nil {
		return nil, errors.Join(err, t.stop())
	}
	t.targets = ans.URLs
	return t, nil
}

func (t *troupe) stop() error {
	var errs []error
	for _, end := range slices.Backward(t.ends) {
		errs = append(errs, end())
	}
	for _, p := range slices.Backward(t.programs) {
		errs = append(errs, p.stop())
	}
	return errors.Join(append(errs, t.crew.close())...)
}

// program starts a command of skybus.
func (t *troupe) program(ctx context.Context, command string, args ...string) (*platform, error) {
	program, err := t.b.skybus(ctx)
	if err != nil {
		return nil, err
	}
	p, err := startProgram(ctx, program, t.b.dir, command, args...)
	if err == nil {
		t.programs = append(t.programs, p)
	}
	return p, err
}

// servers starts n of them, and returns the URL of each.
func (t *troupe) servers(ctx context.Context, n int, sync string) (urls []string, err error) {
	var first *platform
	for i := range n {
		store, err := os.MkdirTemp(t.b.dir, "server-")
		if err != nil {
			return nil, err
		}
		args := []string{"--data", store, "--sync", sync, "--nats", freePort, "--name", fmt.Sprint("s", i)}
		if n > 1 {
			args = append(args, "--cluster", "bench", "--cluster-listen", freePort)
		}
		if first != nil {
			args = append(args, "--routes", first.urls["cluster"])
		}
		p, err := t.program(ctx, "server", args...)
		if err != nil {
			return nil, err
		}
		if first == nil {
			first = p
		}
		urls = append(urls, p.urls["nats"])
	}
	return urls, nil
}

// mirror starts one, for the backends of the troupe.
func (t *troupe) mirror(ctx context.Context, server, ack string) (*platform, error) {
	var text strings.Builder
	fmt.Fprintf(&text, "ack: %s\nbackends:\n", ack)
	for i, u := range t.targets {
		fmt.Fprintf(&text, "  - name: b%d\n    url: %s\n", i, u)
	}
	dir, err := os.MkdirTemp(t.b.dir, "mirror-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "mirror.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return nil, err
	}
	p, err := t.program(ctx, "mirror run", "-f", file, "--server", server, "--http", freePort, "--admin", freePort, "--store-size", "20GiB")
	if err == nil {
		p.urls["admin"] = p.urls["mirror_admin"] // where profiles are asked for
	}
	return p, err
}

// client makes requests at the addresses.
func (t *troupe) client(ctx context.Context, method workload, urls ...string) (*child, error) {
	c, _, err := t.crew.start(ctx, roleClient, order{Side: sideMirror, Workload: method, URLs: urls})
	if err == nil {
		_, err = c.do(order{Op: opLoad, Callers: mirrorCallers, For: t.b.set.warmUp()})
	}
	return c, err
}

// requesting is a variant that makes requests; all are the programs whose CPU time counts.
func (t *troupe) requesting(ctx context.Context, what string, method workload, callers int, all []int, urls ...string) (variant, error) {
	client, err := t.client(ctx, method, urls...)
	if err != nil {
		return variant{}, fmt.Errorf("%s: %w", what, err)
	}
	return t.b.requesting(what, client, callers, all), nil
}

// requesting is a variant whose client makes requests; all are the processes whose CPU time counts. It has requestColumns.
func (b *bench) requesting(what string, client *child, callers int, all []int) variant {
	return variant{what, func() ([]float64, error) {
		before, err := cpuOfProcesses(all)
		if err != nil {
			return nil, err
		}
		ans, err := client.do(order{Op: opLoad, Callers: callers, For: b.set.window})
		if err != nil {
			return nil, err
		}
		after, err := cpuOfProcesses(all)
		l := ans.Load
		calls := float64(l.Calls)
		return []float64{calls / l.Elapsed.Seconds(), micros(l.P50), micros(l.P99), micros(after-before) / calls}, err
	}}
}

func cpuOfProcesses(pids []int) (sum time.Duration, err error) {
	for _, pid := range pids {
		used, err := cpuOf(pid)
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

func (t *troupe) pids() []int { return pidsOf(t.programs) }

func pidsOf(programs []*platform) (all []int) {
	for _, p := range programs {
		all = append(all, p.cmd.Process.Pid)
	}
	return all
}

func requestColumns() []string { return []string{"requests/s", "p50 us", "p99 us", "CPU us each"} }

// mirrorWrite is writes through a mirror, and through a proxy that has one backend and keeps nothing.
func (b *bench) mirrorWrite(ctx context.Context) (_ []section, err error) {
	proxies, err := b.startTroupe(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, proxies.stop()) }()
	var variants []variant
	var shown *platform // is profiled
	for _, v := range []struct {
		what, ack, sync string
		callers         int
	}{
		{"ack first", "first", "2m", mirrorCallers},
		{"ack all", "all", "2m", mirrorCallers},
		{"ack queued", "queued", "2m", mirrorCallers},
		{"ack first, one at a time", "first", "2m", 1},
		{"ack first, --sync always", "first", "always", mirrorCallers},
	} {
		t, err := b.startTroupe(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, t.stop()) }()
		servers, err := t.servers(ctx, 1, v.sync)
		if err != nil {
			return nil, err
		}
		m, err := t.mirror(ctx, servers[0], v.ack)
		if err != nil {
			return nil, err
		}
		run, err := t.requesting(ctx, v.what, putMethod, v.callers, t.pids(), m.urls["mirror"])
		if err != nil {
			return nil, err
		}
		if variants = append(variants, run); shown == nil {
			shown = m
		}
	}
	more, err := proxies.proxies(ctx, putMethod)
	if err != nil {
		return nil, err
	}
	s := section{Name: nameMirrorWrite, Columns: requestColumns(), Notes: []string{
		"mirror: 1 KB to one of 1,000 paths over 32 connections that stay open, three backends of net/http in one process. CPU is that of the" +
			" mirror and its servers, or of the proxy, without the client and the backends, with whom they share the machine. The proxies" +
			" have one backend and keep nothing; nginx with mirror sends each request to three and waits for the first alone.",
	}}
	if s.Rows, err = b.turns(ctx, s.Name, b.set.windows, append(variants, more...)); err != nil {
		return nil, err
	}
	return []section{s}, b.profiledPrograms(ctx, nameMirrorWrite, []*platform{shown}, variants[0])
}

// proxies are the peers.
func (t *troupe) proxies(ctx context.Context, method workload) ([]variant, error) {
	proxy, ans, err := t.crew.start(ctx, roleProxy, order{URLs: t.targets})
	if err != nil {
		return nil, err
	}
	v, err := t.requesting(ctx, "httputil.ReverseProxy, one backend", method, mirrorCallers, []int{proxy.cmd.Process.Pid}, ans.URL)
	if err != nil {
		return nil, err
	}
	all := []variant{v}
	for _, mirrors := range []bool{false, true} {
		if mirrors && method == getMethod {
			continue
		}
		n, err := t.nginx(ctx, mirrors)
		if err != nil || n == nil {
			return all, err
		}
		what := "nginx, one backend"
		if mirrors {
			what = "nginx, mirror to three"
		}
		v, err := t.requesting(ctx, what, method, mirrorCallers, n.pids, n.url)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// mirrorCluster is writes that three servers hold.
func (b *bench) mirrorCluster(ctx context.Context) (_ []section, err error) {
	s := section{Name: nameMirrorCluster, Columns: requestColumns()}
	syncs := []string{"2m", "always"}
	if b.set.quick {
		syncs = syncs[:1]
	}
	var variants []variant
	for _, sync := range syncs {
		t, err := b.startTroupe(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, t.stop()) }()
		servers, err := t.servers(ctx, 3, sync)
		if err != nil {
			return nil, err
		}
		m, err := t.mirror(ctx, strings.Join(servers, ","), "first")
		if err != nil {
			return nil, err
		}
		v, err := t.requesting(ctx, "ack first, --sync "+sync, putMethod, mirrorCallers, t.pids(), m.urls["mirror"])
		if err != nil {
			return nil, err
		}
		variants = append(variants, v)
	}
	s.Rows, err = b.turns(ctx, s.Name, b.set.windows, variants)
	return []section{s}, err
}

// mirrorRead is reads.
func (b *bench) mirrorRead(ctx context.Context) (_ []section, err error) {
	t, err := b.startTroupe(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	servers, err := t.servers(ctx, 1, "2m")
	if err != nil {
		return nil, err
	}
	m, err := t.mirror(ctx, servers[0], "first")
	if err != nil {
		return nil, err
	}
	v, err := t.requesting(ctx, "mirror, three backends", getMethod, mirrorCallers, t.pids(), m.urls["mirror"])
	if err != nil {
		return nil, err
	}
	more, err := t.proxies(ctx, getMethod)
	if err != nil {
		return nil, err
	}
	s := section{Name: nameMirrorRead, Columns: requestColumns()}
	if s.Rows, err = b.turns(ctx, s.Name, b.set.windows, append([]variant{v}, more...)); err != nil {
		return nil, err
	}
	s.Rows = append(s.Rows, ratio(s.Rows[0], s.Rows[1]))
	return []section{s}, b.profiledPrograms(ctx, nameMirrorRead, []*platform{m}, v)
}

// nginx is a proxy of that name.
type nginx struct {
	url  string
	pids []int
}

// nginx starts nginx where it is installed; nil where it is not.
func (t *troupe) nginx(ctx context.Context, mirrors bool) (*nginx, error) {
	program, err := exec.LookPath("nginx")
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // it is left out
	}
	return t.startNginx(ctx, program, mirrors)
}
