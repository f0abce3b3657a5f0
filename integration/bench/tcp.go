package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// nameTCP is the measurement of lines over TCP.
const nameTCP = "tcp"

const (
	tcpCallers   = 64
	tcpPipelined = 4 // connections that share the callers: each has 16 lines without an answer
)

// lineConn is a connection whose lines are answered in order.
type lineConn struct {
	net.Conn

	mu      sync.Mutex
	waiting chan chan error // in the order of the lines
}

// lineClient sends lines over several connections, which take them in turns.
type lineClient struct {
	conns   []*lineConn
	next    atomic.Int64
	line    []byte
	reading sync.WaitGroup
}

// newLineCaller opens o.Count connections.
func newLineCaller(ctx context.Context, o order) (caller, func() error, error) {
	c := &lineClient{line: append(newBody(), '\n')}
	for range o.Count {
		nc, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(o.URL, "tcp://"))
		if err != nil {
			return nil, nil, errors.Join(err, c.close())
		}
		l := &lineConn{Conn: nc, waiting: make(chan chan error, maxCallers)}
		c.conns = append(c.conns, l)
		c.reading.Go(func() { l.read(c.line) })
	}
	return c.call, c.close, nil
}

// read gives each caller its answer.
func (l *lineConn) read(want []byte) {
	r := bufio.NewReader(l)
	for answer := range l.waiting {
		err := l.SetReadDeadline(time.Now().Add(callTimeout))
		var line []byte
		if err == nil {
			line, err = r.ReadSlice('\n')
		}
		if err == nil && !bytes.Equal(line, want) {
			err = fmt.Errorf("answer %.100q: want the line", line)
		}
		answer <- err
	}
}

// call sends a line and waits for its answer.
func (c *lineClient) call(context.Context, int64) error {
	l := c.conns[int(c.next.Add(1))%len(c.conns)]
	answer := make(chan error, 1)
	l.mu.Lock()
	l.waiting <- answer
	_, err := l.Write(c.line)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return <-answer
}

// close is called when nobody calls any more.
func (c *lineClient) close() error {
	var errs []error
	for _, l := range c.conns {
		close(l.waiting)
		errs = append(errs, l.Close())
	}
	c.reading.Wait()
	return errors.Join(errs...)
}

// tcp is lines into a service by `skybus tcp`, beside plain calls of it.
func (b *bench) tcp(ctx context.Context) (_ []section, err error) {
	t := &troupe{b: b, crew: crew{dir: b.dir}}
	defer func() { err = errors.Join(err, t.stop()) }()
	servers, err := t.servers(ctx, 1, "2m")
	if err != nil {
		return nil, err
	}
	// The crew would end last: after the server, without which a service cannot say goodbye.
	c := &crew{dir: b.dir}
	defer func() { err = errors.Join(c.close(), err) }()
	if _, _, err := c.start(ctx, roleService, order{Side: sideSkybus, URL: servers[0]}); err != nil {
		return nil, err
	}
	p, err := t.program(ctx, "tcp", "--listen", freePort, "--call", serviceName+"."+string(raw), "--server", servers[0], "--admin", freePort)
	if err != nil {
		return nil, err
	}
	var variants []variant
	for _, v := range []struct {
		what  string
		order order
	}{
		{fmt.Sprintf("%d connections", tcpCallers), order{Part: nameTCP, URL: p.urls["tcp_tcp"], Count: tcpCallers}},
		{fmt.Sprintf("%d connections, pipelined", tcpPipelined), order{Part: nameTCP, URL: p.urls["tcp_tcp"], Count: tcpPipelined}},
		{"micro.Call in place of lines", order{Side: sideSkybus, Workload: raw, URL: servers[0]}},
	} {
		client, _, err := c.start(ctx, roleClient, v.order)
		if err == nil {
			_, err = client.do(order{Op: opLoad, Callers: tcpCallers, For: b.set.warmUp()})
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.what, err)
		}
		variants = append(variants, t.lines(v.what, client, p))
	}
	s := section{Name: nameTCP, Columns: []string{"lines/s", "p50 us", "p99 us", "CPU us each", "RSS MiB"}, Notes: []string{
		"tcp: lines of 128 B to a service that answers with the same, from another process, 64 without an answer at a time. CPU is that of `skybus tcp` and the NATS server," +
			" which share the machine with the service and the client; RSS is that of `skybus tcp` after each window, so that it shows whether it grows. The last row calls the" +
			" service from the client's process, without a line.",
	}}
	if s.Rows, err = b.turns(ctx, s.Name, b.set.windows, variants); err != nil {
		return nil, err
	}
	return []section{s}, b.profiledPrograms(ctx, nameTCP, []*platform{p}, variants[1])
}

// lines is a variant that sends them.
func (t *troupe) lines(what string, client *child, p *platform) variant {
	return variant{what, func() ([]float64, error) {
		before, err := cpuOfProcesses(t.pids())
		if err != nil {
			return nil, err
		}
		ans, err := client.do(order{Op: opLoad, Callers: tcpCallers, For: t.b.set.window})
		if err != nil {
			return nil, err
		}
		after, err := cpuOfProcesses(t.pids())
		if err != nil {
			return nil, err
		}
		rss, err := memoryOf(p.cmd.Process.Pid)
		l := ans.Load
		calls := float64(l.Calls)
		return []float64{calls / l.Elapsed.Seconds(), micros(l.P50), micros(l.P99), micros(after-before) / calls, float64(rss) / (1 << 20)}, err
	}}
}
