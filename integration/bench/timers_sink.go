package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

// What a sink is told to do.
const (
	actExpect = "expect" // forget what came, o.Count timers are about to
	actAwait  = "await"  // say so when all have come
)

// sinkPatience is how long a sink waits for the next of its webhooks.
const sinkPatience = 20 * time.Second

// hooks is how webhooks came in.
type hooks struct {
	Late  quantiles `json:"late,omitzero"`  // at the sink
	Fired quantiles `json:"fired,omitzero"` // what was heard of the timers' being fired
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
	Again int       `json:"again,omitempty"` // came more than once
}

// sink receives webhooks at several addresses and, where it has a connection, hears of timers that were fired. It speaks just
// enough HTTP for that, since it shares the machine with what is measured.
type sink struct {
	conn      *bus.Conn
	listeners []net.Listener
	running   sync.WaitGroup

	mu    sync.Mutex
	open  map[net.Conn]bool
	seen  []bool // by the timers' numbers
	count int
	heard int
	early int
	got   hooks
	late  histogram
	fired histogram
	err   error
	all   chan struct{} // closed when all have come
	more  chan struct{} // of capacity 1: something came
}

// newSink listens at o.Count addresses. With o.URL it listens to events there.
func newSink(ctx context.Context, o order) (act func(context.Context, order) (answer, error), urls []string, stop func() error, err error) {
	s := &sink{open: map[net.Conn]bool{}, more: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	for range o.Count {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", freePort)
		if err != nil {
			return nil, nil, nil, err
		}
		s.listeners = append(s.listeners, l)
		urls = append(urls, "http://"+l.Addr().String()+"/hook")
		s.running.Go(func() { s.accept(l) })
	}
	if o.URL != "" {
		err = s.listen(ctx, o.URL)
	}
	return s.act, urls, s.stop, err
}

func (s *sink) listen(ctx context.Context, url string) (err error) {
	if s.conn, err = bus.Connect(ctx, bus.Config{Server: url}); err != nil {
		return err
	}
	_, err = s.conn.NATS().Subscribe(s.conn.Namespace().String()+".ev.timer.fired.*", func(m *nats.Msg) {
		now := time.Now()
		var e scheduler.Event
		err := json.Unmarshal(m.Data, &e)
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil {
			s.err = err
		}
		s.fired.add(now.Sub(e.Due))
		s.heard++
		s.cameLocked()
	})
	return errors.Join(err, s.conn.NATS().Flush())
}

func (s *sink) stop() error {
	var errs []error
	for _, l := range s.listeners {
		errs = append(errs, l.Close())
	}
	s.mu.Lock()
	for c := range s.open {
		_ = c.Close() // who still writes to it learns that
	}
	s.mu.Unlock()
	s.running.Wait()
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	return errors.Join(errs...)
}

func (s *sink) act(_ context.Context, o order) (ans answer, err error) {
	switch o.Variant {
	case actExpect:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen, s.all = make([]bool, o.Count), make(chan struct{})
		s.count, s.heard, s.early, s.got, s.late, s.fired, s.err = 0, 0, 0, hooks{}, histogram{}, histogram{}, nil
	case actAwait:
		ans.Hooks, err = s.await(o.For)
	default:
		err = fmt.Errorf("a sink cannot %q", o.Variant)
	}
	return ans, err
}

// await returns when all have come that are expected, and fails when for so long none came.
func (s *sink) await(patience time.Duration) (hooks, error) {
	s.mu.Lock()
	all := s.all
	s.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for done := false; !done; {
		select {
		case <-all:
			done = true
		case <-s.more:
			timer.Reset(patience)
		case <-timer.C:
			done = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return hooks{}, s.err
	case s.count < len(s.seen) || s.conn != nil && s.heard < len(s.seen):
		return hooks{}, fmt.Errorf("%d webhooks came and %d fires were heard of, of %d timers", s.count, s.heard, len(s.seen))
	case s.early > 0:
		return hooks{}, fmt.Errorf("%d webhooks came before they were due", s.early)
	}
	got := s.got
	got.Late, got.Fired = quantilesOf(&s.late), quantilesOf(&s.fired)
	return got, nil
}

// cameLocked tells who waits.
func (s *sink) cameLocked() {
	if s.count == len(s.seen) && (s.conn == nil || s.heard >= len(s.seen)) {
		select {
		case <-s.all:
		default:
			close(s.all)
		}
	}
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *sink) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed
		}
		s.mu.Lock()
		s.open[c] = true
		s.mu.Unlock()
		s.running.Go(func() {
			err := s.serve(c)
			s.mu.Lock()
			defer s.mu.Unlock()
			if delete(s.open, c); err != nil {
				s.err = err
			}
			_ = c.Close() // nothing is left to be lost
		})
	}
}

// serve answers requests until the other side hangs up.
func (s *sink) serve(c net.Conn) error {
	r := bufio.NewReader(c)
	body := make([]byte, 0, 2*timerBody)
	answer := []byte("HTTP/1.1 204 No Content\r\n\r\n")
	for {
		due, size, err := readHook(r)
		if err != nil {
			return err
		}
		if size < 0 {
			return nil
		}
		if body = body[:min(size, cap(body))]; len(body) < size {
			return fmt.Errorf("a webhook of %d bytes: want %d", size, timerBody)
		}
		for n := 0; n < size; {
			k, err := r.Read(body[n:])
			if err != nil {
				return err
			}
			n += k
		}
		if err := s.came(due, body); err != nil {
			return err
		}
		if _, err := c.Write(answer); err != nil {
			return err
		}
	}
}

// readHook reads what stands before the body. The size is -1 at the end of the connection.
func readHook(r *bufio.Reader) (due time.Time, size int, err error) {
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			if first {
				return due, -1, nil
			}
			return due, 0, err
		}
		line = bytes.TrimSuffix(line, []byte("\r\n"))
		if len(line) == 0 {
			return due, size, nil
		}
		if v, ok := bytes.CutPrefix(line, []byte(scheduler.HeaderDue+": ")); ok {
			if due, err = time.Parse(time.RFC3339Nano, string(v)); err != nil {
				return due, 0, err
			}
		} else if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if size, err = strconv.Atoi(string(v)); err != nil {
				return due, 0, err
			}
		}
	}
}

// came counts a webhook.
func (s *sink) came(due time.Time, body []byte) error {
	now := time.Now()
	number, err := strconv.Atoi(string(bytes.TrimRight(body, " ")))
	if err != nil {
		return fmt.Errorf("a webhook that is not ours: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if number >= len(s.seen) {
		return fmt.Errorf("webhook %d of %d", number, len(s.seen))
	}
	if s.seen[number] {
		s.got.Again++
		return nil
	}
	s.seen[number] = true
	if s.count++; s.count == 1 {
		s.got.First = now
	}
	s.got.Last = now
	if now.Before(due) {
		s.early++
	}
	s.late.add(now.Sub(due))
	s.cameLocked()
	return nil
}
