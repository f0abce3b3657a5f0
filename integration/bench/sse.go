package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	nameSSE = "sse"

	sseSubscribers = 10_000
	sseQuick       = 200
	sseDialers     = 64
	sseRest        = 20 * time.Second // longer than the time between two heartbeats
	sseSubject     = "default.dev.pub.bench"
	sseTimeout     = 30 * time.Second
)

// sse is what idle subscribers to server-sent events take in the gateway, and how long one event takes to reach all of them.
func (b *bench) sse(ctx context.Context) (_ []section, err error) {
	n, rest := sseSubscribers, sseRest
	if b.set.quick {
		n, rest = sseQuick, time.Second
	}
	program, err := b.skybus(ctx)
	if err != nil {
		return nil, err
	}
	p, err := startUp(ctx, program, b.dir, "--memory")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := b.putEvents(ctx, program, p.urls["nats"]); err != nil {
		return nil, err
	}
	client, err := spawn(ctx, roleClient)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, client.close()) }()
	if _, err := client.do(order{Op: opStart, Part: nameSSE, URL: p.urls["http"], URLs: []string{p.urls["nats"]}}); err != nil {
		return nil, err
	}
	f, err := b.subscribed(ctx, p, client, n, rest)
	if err != nil {
		return nil, err
	}
	each := func(now int64) float64 { return float64(now-f.before) / float64(n) }
	events := newRow("one event to all", f.spread)
	return []section{
		{
			Name: nameSSE, Columns: []string{"subscribers", "connected in s", "bytes each, idle", "bytes each, after events"},
			Rows: []row{{What: "skybus up", Values: []float64{float64(n), f.created.Seconds(), each(f.idle), each(f.after)}}},
			Notes: []string{fmt.Sprintf("sse: resident memory of 'skybus up --memory' while %d clients of another process are connected to one entry with events, less that before, by"+
				" their number. Idle is %v after the last connected, with a heartbeat every 15 s.", n, rest)},
		},
		{
			Name: nameSSE + " fan-out", Columns: []string{"first ms", "last ms"}, Rows: []row{events},
			Notes: []string{"sse fan-out: from the publish of an event of 128 B until the first and the last of these clients have read it, in their process, which shares the machine."},
		},
	}, nil
}

// sseFigures are what was seen of n subscribers.
type sseFigures struct {
	created             time.Duration
	before, idle, after int64 // resident memory
	spread              [][]float64
}

func (b *bench) subscribed(ctx context.Context, p *platform, client *child, n int, rest time.Duration) (f sseFigures, err error) {
	if f.before, err = memoryOf(p.cmd.Process.Pid); err != nil {
		return f, err
	}
	b.progress.step(nameSSE, fmt.Sprintf("%d subscribers", n))
	ans, err := client.do(order{Op: opAct, Variant: actCreate, Count: n})
	if err != nil {
		return f, err
	}
	f.created = ans.Took
	b.progress.step(nameSSE, "resting")
	if err := b.rest(ctx, rest); err != nil {
		return f, err
	}
	if f.idle, err = memoryOf(p.cmd.Process.Pid); err != nil {
		return f, err
	}
	for i := range b.set.windows {
		b.progress.step(nameSSE, fmt.Sprintf("event %d of %d", i+1, b.set.windows))
		if ans, err = client.do(order{Op: opAct, Variant: actPut}); err != nil {
			return f, err
		}
		f.spread = append(f.spread, []float64{float64(ans.Spread.First[0].Microseconds()) / 1000, float64(ans.Spread.Last[0].Microseconds()) / 1000})
	}
	f.after, err = memoryOf(p.cmd.Process.Pid)
	return f, err
}

// putEvents stores the entry, and returns when the gateway serves it.
func (b *bench) putEvents(ctx context.Context, program, server string) error {
	file := filepath.Join(b.dir, "events.yaml")
	if err := os.WriteFile(file, []byte("method: GET\npath: /events\nevents: {subject: "+sseSubject+"}\n"), 0o600); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, program, "http", "put", "events", "-f", file, "--wait", "--server", server).CombinedOutput()
	if err != nil {
		return fmt.Errorf("skybus http put: %w: %s", err, out)
	}
	return nil
}

func (b *bench) rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// subscribers are connections that read events.
type subscribers struct {
	addr string
	nc   *nats.Conn

	mu      sync.Mutex
	conns   []net.Conn
	reading sync.WaitGroup
	begin   time.Time
	missing int // clients that do not have the present event yet
	first   time.Duration
	last    chan time.Duration
}

func newSubscribers(o order) (act func(context.Context, order) (answer, error), stop func() error, err error) {
	s := &subscribers{addr: strings.TrimPrefix(o.URL, "http://"), last: make(chan time.Duration, 1)}
	if s.nc, err = nats.Connect(o.URLs[0]); err != nil {
		return nil, nil, err
	}
	return s.act, s.close, nil
}

func (s *subscribers) act(ctx context.Context, o order) (ans answer, err error) {
	switch o.Variant {
	case actCreate:
		ans.Took, err = s.create(ctx, o.Count)
	case actPut:
		var first, last time.Duration
		first, last, err = s.put()
		ans.Spread = spread{First: []time.Duration{first}, Last: []time.Duration{last}}
	default:
		err = fmt.Errorf("subscribers cannot %q", o.Variant)
	}
	return ans, err
}

// create connects n clients and returns when the answer of each has begun.
func (s *subscribers) create(ctx context.Context, n int) (time.Duration, error) {
	begin := time.Now()
	todo := make(chan struct{}, n)
	for range n {
		todo <- struct{}{}
	}
	close(todo)
	failed := make(chan error, sseDialers)
	var dialing sync.WaitGroup
	for range min(n, sseDialers) {
		dialing.Go(func() {
			for range todo {
				if err := s.connect(ctx); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	dialing.Wait()
	select {
	case err := <-failed:
		return 0, err
	default:
		return time.Since(begin), nil
	}
}

func (s *subscribers) connect(ctx context.Context) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(c, "GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
		return errors.Join(err, c.Close())
	}
	in := bufio.NewReaderSize(c, 512)
	line, err := in.ReadString('\n')
	if err == nil && !strings.Contains(line, " 200 ") {
		err = fmt.Errorf("the gateway answers %q", line)
	}
	for err == nil && !strings.HasPrefix(line, "retry:") {
		line, err = in.ReadString('\n')
	}
	if err != nil {
		return errors.Join(err, c.Close())
	}
	s.mu.Lock()
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	s.reading.Go(func() { s.read(in) })
	return nil
}

// read counts events.
func (s *subscribers) read(in *bufio.Reader) {
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		if !strings.HasPrefix(string(line), "data:") {
			continue
		}
		s.mu.Lock()
		if s.missing == len(s.conns) {
			s.first = time.Since(s.begin)
		}
		if s.missing--; s.missing == 0 {
			s.last <- time.Since(s.begin)
		}
		s.mu.Unlock()
	}
}

// put publishes an event and waits until all clients have it.
func (s *subscribers) put() (first, last time.Duration, err error) {
	s.mu.Lock()
	s.missing, s.begin = len(s.conns), time.Now()
	s.mu.Unlock()
	if err := errors.Join(s.nc.Publish(sseSubject, []byte(strings.Repeat("x", payloadSize))), s.nc.Flush()); err != nil {
		return 0, 0, err
	}
	select {
	case last = <-s.last:
	case <-time.After(sseTimeout):
		s.mu.Lock()
		defer s.mu.Unlock()
		return 0, 0, fmt.Errorf("%d of %d clients have no event after %v", s.missing, len(s.conns), sseTimeout)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first, last, nil
}

func (s *subscribers) close() error {
	s.nc.Close()
	s.mu.Lock()
	var errs []error
	for _, c := range s.conns {
		errs = append(errs, c.Close())
	}
	s.mu.Unlock()
	s.reading.Wait()
	return errors.Join(errs...)
}
