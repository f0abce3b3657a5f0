package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// nameGatewaySlowloris is the measurement of a gateway under attack by connections that hardly say anything.
const nameGatewaySlowloris = "gateway-slowloris"

const (
	slowlorisConns   = 10_000
	slowlorisQuick   = 200
	slowlorisByte    = 3 * time.Second // from one byte of a header to the next
	slowlorisRamp    = 5 * time.Second // in which they come, evenly
	slowlorisSpare   = 1_000           // files that a process needs beside them
	slowlorisWindow  = 5               // windows of other measurements that one of this takes
	slowlorisWindows = 3               // at most

	legitimateRate    = 200
	legitimateCallers = 4
)

// raiseFiles lets processes that are started from now on have so many files open, as far as that is allowed, and tells how many.
func raiseFiles(want int) (int, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("getrlimit: %w", err)
	}
	if l.Max < uint64(want) { // which is root's to raise
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(want), Max: uint64(want)}); err == nil {
			return want, nil
		}
	}
	return int(min(l.Max, uint64(want))), nil // a Go program raises its own as far as it may
}

// slowlorisRig is a gateway with those who use it and those who attack it.
type slowlorisRig struct {
	b          *bench
	gateway    int    // its process
	users      *child // who want something
	attackers  *child
	conns      int
	over       time.Duration // in which they come
	noted      [][]float64   // what became of the connections, by window
	withMemory []float64     // of the gateway
}

// gatewaySlowloris is a gateway's answers to few users, with and without many connections that dribble headers.
func (b *bench) gatewaySlowloris(ctx context.Context) (_ []section, err error) {
	t := &troupe{b: b, crew: crew{dir: b.dir}}
	defer func() { err = errors.Join(err, t.stop()) }()
	c := &crew{dir: b.dir}
	defer func() { err = errors.Join(c.close(), err) }()
	r := &slowlorisRig{b: b, conns: slowlorisConns, over: slowlorisRamp}
	if b.set.quick {
		r.conns, r.over = slowlorisQuick, b.set.window
	}
	wanted := r.conns
	files, err := raiseFiles(r.conns + slowlorisSpare)
	if err != nil {
		return nil, err
	}
	r.conns = max(1, min(r.conns, files-slowlorisSpare))
	g, err := t.startThingGateway(ctx, c, true)
	if err != nil {
		return nil, err
	}
	r.gateway = g.gateway.cmd.Process.Pid
	if err := r.start(ctx, c, g.gateway.urls["http"]); err != nil {
		return nil, err
	}
	before, err := memoryOf(r.gateway)
	if err != nil {
		return nil, err
	}
	variants := []variant{
		{fmt.Sprintf("%d requests a second", legitimateRate), r.window},
		{fmt.Sprintf("beside %d slow connections", r.conns), r.attacked},
	}
	s := section{Name: nameGatewaySlowloris, Columns: []string{"requests/s", "p50 us", "p99 us", "gateway CPU % of a core"}, Notes: []string{slowlorisNote(wanted, r.conns)}}
	if s.Rows, err = b.turns(ctx, s.Name, min(b.set.windows, slowlorisWindows), variants); err != nil {
		return nil, err
	}
	s.Rows = append(s.Rows, ratio(s.Rows[1], s.Rows[0]))
	after, err := memoryOf(r.gateway)
	if err != nil {
		return nil, err
	}
	const mib = 1 << 20
	return []section{s, {
		Name: s.Name + ", connections", Columns: []string{"open", "closed by the gateway/s", "failed to open"},
		Rows: []row{newRow(variants[1].what, r.noted)},
	}, {
		Name: s.Name + ", memory", Columns: []string{"RSS MiB before", "RSS MiB with them", "RSS MiB after"},
		Rows: []row{newRow("gateway", [][]float64{{float64(before) / mib, median(r.withMemory) / mib, float64(after) / mib}})},
	}}, nil
}

func slowlorisNote(wanted, conns int) string {
	note := fmt.Sprintf("gateway-slowloris: requests as of gateway-call at `skybus gateway`, %d a second, each over a connection of its own, since connections are what the attack is"+
		" at; %d callers. The slow connections come evenly within %v before the window, each sends a byte of a header every %v, and one that the gateway closes is opened again at once,"+
		" so that there are as many all the time. The attackers are a process that shares the machine. RSS and CPU are the gateway's: it gives memory back late.",
		legitimateRate, legitimateCallers, slowlorisRamp, slowlorisByte)
	if conns < wanted {
		note += fmt.Sprintf(" The limit of open files (ulimit -n) allowed %d of %d slow connections.", conns, wanted)
	}
	return note
}

// start starts who uses the gateway and who attacks it.
func (r *slowlorisRig) start(ctx context.Context, c *crew, url string) (err error) {
	if r.users, _, err = c.start(ctx, roleClient, order{Part: nameGatewayCall, Variant: variantFresh, URL: url + thingEntry}); err != nil {
		return err
	}
	if r.attackers, _, err = c.start(ctx, roleSlowloris, order{URL: url, Delay: slowlorisByte}); err != nil {
		return err
	}
	_, err = r.users.do(order{Op: opLoad, Callers: legitimateCallers, Rate: legitimateRate, For: r.b.set.warmUp()})
	return err
}

// length is how long a window is: longer than a connection may take for its header.
func (r *slowlorisRig) length() time.Duration { return slowlorisWindow * r.b.set.window }

// window is what the users see.
func (r *slowlorisRig) window() ([]float64, error) {
	before, err := cpuOf(r.gateway)
	if err != nil {
		return nil, err
	}
	ans, err := r.users.do(order{Op: opLoad, Callers: legitimateCallers, Rate: legitimateRate, For: r.length()})
	if err != nil {
		return nil, err
	}
	after, err := cpuOf(r.gateway)
	l := ans.Load
	return []float64{float64(l.Calls) / l.Elapsed.Seconds(), micros(l.P50), micros(l.P99), 100 * (after - before).Seconds() / l.Elapsed.Seconds()}, err
}

// attacked is what they see while others attack.
func (r *slowlorisRig) attacked() ([]float64, error) {
	before, err := r.attackers.do(order{Op: opAct, Variant: actAttack, Count: r.conns, Over: r.over})
	if err != nil {
		return nil, err
	}
	values, err := r.window()
	if err != nil {
		return nil, err
	}
	during, err := r.attackers.do(order{Op: opAct, Variant: actCounts})
	if err != nil {
		return nil, err
	}
	memory, err := memoryOf(r.gateway)
	if err != nil {
		return nil, err
	}
	r.withMemory = append(r.withMemory, float64(memory))
	closed := float64(during.Counts[slowClosed]-before.Counts[slowClosed]) / r.length().Seconds()
	r.noted = append(r.noted, []float64{float64(during.Counts[slowOpen]), closed, float64(during.Counts[slowFailed] - before.Counts[slowFailed])})
	_, err = r.attackers.do(order{Op: opAct, Variant: actWithdraw})
	return values, err
}
