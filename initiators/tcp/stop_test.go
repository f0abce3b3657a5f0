package tcp_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/tcp"
)

// Clients that send without a pause lose no answer to a stop: what was sent on is answered, and what was not answered was not sent on.
func TestStopLosesNoAnswer(t *testing.T) {
	t.Parallel()
	for round := range 3 {
		var sent atomic.Int64
		s := serve(t, target(func(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
			sent.Add(1)
			select {
			case <-time.After(rand.N(5 * time.Millisecond)): // the service's work
			case <-ctx.Done():
				return initiators.Reply{}, ctx.Err()
			}
			return echo(ctx, req)
		}), tcp.Config{})
		const clients = 20
		var reading sync.WaitGroup
		var answers atomic.Int64
		for i := range clients {
			c := s.dial(t)
			go func() {
				for n := 0; ; n++ {
					if _, err := fmt.Fprintf(c, "%d-%d\n", i, n); err != nil {
						return
					}
				}
			}()
			reading.Go(func() {
				n := 0
				for line := range strings.Lines(c.closed()) {
					if line != fmt.Sprintf("%d-%d\n", i, n) {
						t.Errorf("client %d: answer %d is %q", i, n, line)
						return
					}
					n++
				}
				answers.Add(int64(n))
			})
		}
		bustest.Eventually(t, "some traffic", func() bool { return sent.Load() > int64(100*(round+1)) })
		s.stop()
		if err := bustest.Receive(t, "the end of Serve", s.done); err != nil {
			t.Errorf("Serve returned %v", err)
		}
		reading.Wait()
		if answers.Load() != sent.Load() {
			t.Errorf("%d requests were sent on, %d answers came", sent.Load(), answers.Load())
		}
		if st := s.Stats(); st.InFlight != 0 || st.Connections != 0 || st.Failed != 0 {
			t.Errorf("%+v", st)
		}
	}
}

// A stop takes no connection any more, reads what is on its way, and waits for what is in flight.
func TestStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		l := newPipes()
		s := serveOn(t, l, newServer(t, g, tcp.Config{}))
		c, idle := l.dial(t), l.dial(t)
		c.write("a\n")
		synctest.Wait()
		s.stop()
		<-l.closed
		time.Sleep(100 * time.Millisecond)
		c.write("b\n") // just in time
		time.Sleep(time.Second)
		if _, err := c.Write([]byte("c\n")); err == nil { // nobody reads it: the write waits for the end
			t.Error("a frame was read a second after the stop")
		}
		if idle.closed() != "" {
			t.Error("an idle connection was told something")
		}
		if n := len(g.waiting); n != 2 {
			t.Errorf("%d requests were sent on, want 2", n)
		}
	})
}

// The write of TestStop that waits ends with its connection, which is closed once all is answered.
func TestStopAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		l := newPipes()
		s := serveOn(t, l, newServer(t, g, tcp.Config{}))
		c := l.dial(t)
		c.write("a\nb\n")
		synctest.Wait()
		begin := time.Now()
		s.stop()
		time.AfterFunc(5*time.Second, func() { close(g.open) })
		if got := c.closed(); got != "a\nb\n" {
			t.Errorf("%q", got)
		}
		if err := <-s.done; err != nil || time.Since(begin) != 5*time.Second {
			t.Errorf("Serve returned %v after %v", err, time.Since(begin))
		}
	})
}

// Frames that have come and are not sent on yet when reading ends are left: they have no answer.
func TestStopLeavesFrames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int64
		l := newPipes()
		s := serveOn(t, l, newServer(t, target(func(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
			sent.Add(1)
			time.Sleep(time.Second)
			return echo(ctx, req)
		}), tcp.Config{Pipeline: 2}))
		c := l.dial(t)
		c.write("a\nb\nc\nd\n")
		s.stop()
		if got := c.closed(); got != "a\nb\n" || sent.Load() != 2 {
			t.Errorf("%q, %d were sent on", got, sent.Load())
		}
		if err := <-s.done; err != nil {
			t.Errorf("Serve returned %v", err)
		}
	})
}

// What is not done within Drain is cut off: its clients are told so, and Serve is.
func TestStopCutsOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		s := serveOn(t, l, newServer(t, newGate(), tcp.Config{Timeout: time.Hour, Drain: 3 * time.Second, MaxInFlight: 2}))
		c, deaf := l.dial(t), l.dial(t)
		c.write("a\n")
		deaf.write("b\n") // and takes no answer
		synctest.Wait()
		waits := l.dial(t)
		waits.write("c\n") // for a place
		synctest.Wait()
		begin := time.Now()
		s.stop()
		var told [2]string
		var reading sync.WaitGroup
		for i, c := range []*client{c, waits} {
			reading.Go(func() { told[i] = c.closed() })
		}
		err := <-s.done
		if took := time.Since(begin); bus.CodeOf(err) != bus.DeadlineExceeded || !strings.Contains(err.Error(), "2 requests were cut off") || took != 4*time.Second {
			t.Errorf("Serve returned %v after %v", err, took)
		}
		reading.Wait()
		if f := parseFailure(t, told[0]); f.Code != bus.Canceled || !strings.Contains(f.Message, "the server stopped") {
			t.Errorf("%+v", f)
		}
		if f := parseFailure(t, told[1]); f.Code != bus.Unavailable || !strings.Contains(f.Message, "before the frame was sent on") {
			t.Errorf("%+v", f)
		}
	})
}

// Over TCP a client that does not close holds a stop up for a moment only.
func TestStopWithIdleClients(t *testing.T) {
	t.Parallel()
	s := serve(t, target(echo), tcp.Config{})
	var all []*client
	for range 50 {
		c := s.dial(t)
		c.write("a\n")
		if got := c.line(); got != "a" {
			t.Fatalf("%q", got)
		}
		all = append(all, c)
	}
	s.stop()
	if err := bustest.Receive(t, "the end of Serve", s.done); err != nil {
		t.Errorf("Serve returned %v", err)
	}
	for _, c := range all {
		if got := c.rest(); got != "" {
			t.Errorf("%q", got)
		}
	}
	if _, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.addr); err == nil {
		t.Error("somebody listens still")
	}
}

// What a server has read of one-way clients before it stops reading is sent on, however long that takes.
func TestStopOneWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int64
		l := newPipes()
		s := serveOn(t, l, newServer(t, target(func(context.Context, initiators.Request) (initiators.Reply, error) {
			time.Sleep(10 * time.Millisecond)
			sent.Add(1)
			return initiators.Reply{}, nil
		}), tcp.Config{OneWay: true}))
		c := l.dial(t)
		const lines = 1000 // 0.6 s of work
		c.write(strings.Repeat("a\n", lines))
		s.stop()
		if err := <-s.done; err != nil || sent.Load() != lines {
			t.Errorf("Serve returned %v, %d of %d lines were sent on", err, sent.Load(), lines)
		}
	})
}

// One-way clients see at once that the server stops.
func TestStopOneWayTells(t *testing.T) {
	t.Parallel()
	heard := make(chan string, 1)
	s := serve(t, target(func(_ context.Context, req initiators.Request) (initiators.Reply, error) {
		heard <- string(req.Body)
		return initiators.Reply{}, nil
	}), tcp.Config{OneWay: true})
	c := s.dial(t)
	c.write("a\n")
	bustest.Receive(t, "a line", heard)
	s.stop()
	if got := c.rest(); got != "" {
		t.Errorf("%q", got)
	}
	if err := bustest.Receive(t, "the end of Serve", s.done); err != nil {
		t.Errorf("Serve returned %v", err)
	}
}

// Several listeners share the limits of a server.
func TestServeTwice(t *testing.T) {
	t.Parallel()
	s := newServer(t, target(echo), tcp.Config{MaxConns: 1})
	var all []*served
	for range 2 {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, serveOn(t, l, s))
	}
	first := all[0].dial(t)
	first.write("a\n")
	if got := first.line(); got != "a" {
		t.Fatalf("%q", got)
	}
	if f := parseFailure(t, all[1].dial(t).closed()); f.Code != bus.Unavailable {
		t.Errorf("%+v", f)
	}
	all[0].stop()
	if err := bustest.Receive(t, "the end of the first", all[0].done); err != nil {
		t.Error(err)
	}
	second := all[1].dial(t)
	second.write("b\n")
	if got := second.line(); got != "b" {
		t.Errorf("%q", got)
	}
	all[1].stop()
	if err := bustest.Receive(t, "the end of the second", all[1].done); err != nil {
		t.Error(err)
	}
}
