package tcp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/tcp"
)

// Each framing brings frames in and answers out, byte by byte as it says.
func TestFramings(t *testing.T) {
	t.Parallel()
	shout := target(func(_ context.Context, req initiators.Request) (initiators.Reply, error) {
		return initiators.Reply{Body: []byte(strings.ToUpper(string(req.Body)))}, nil
	})
	for name, tt := range map[string]struct {
		framing  tcp.Framing
		in, want string
	}{
		"line":            {nil, "a\nbc\n", "A\nBC\n"},
		"line, cr":        {tcp.Line{}, "a\r\nb\rc\r\n\r\r\n", "A\nB\rC\n" + `{"error":{"code":"out_of_range"`},
		"line, empty":     {tcp.Line{}, "\n\r\na\n\n", "A\n"},
		"line, crlf":      {tcp.Line{CRLF: true}, "a\nb\r\n", "A\r\nB\r\n"},
		"line, keep cr":   {tcp.Line{KeepCR: true}, "a\r\n\r\n", "A\r\n\r\n"},
		"line, keep none": {tcp.Line{Empty: true}, "\na\n\r\n", "\nA\n\n"},
		"prefix":          {tcp.Prefix{}, "\x00\x00\x00\x02ab\x00\x00\x00\x00\x00\x00\x00\x01\n", "\x00\x00\x00\x02AB\x00\x00\x00\x00\x00\x00\x00\x01\n"},
		"prefix 1":        {tcp.Prefix{Bytes: 1}, "\x02ab\x00\x01c", "\x02AB\x00\x01C"},
		"prefix 2":        {tcp.Prefix{Bytes: 2}, "\x00\x02ab", "\x00\x02AB"},
		"prefix 2 little": {tcp.Prefix{Bytes: 2, LittleEndian: true}, "\x02\x00ab", "\x02\x00AB"},
		"prefix 4 little": {tcp.Prefix{LittleEndian: true}, "\x02\x00\x00\x00ab", "\x02\x00\x00\x00AB"},
		"fixed":           {tcp.Fixed{Size: 4}, "abcdef      g  h", "ABCDEF  G  H"},
		"fixed binary":    {tcp.Fixed{Size: 3, Binary: true}, "abc d ", "ABC D "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, shout, tcp.Config{Framing: tt.framing})
			for _, chunk := range []int{1, 3, len(tt.in)} { // however it is cut up on its way
				c := s.dial(t)
				for rest := tt.in; rest != ""; {
					n := min(chunk, len(rest))
					c.write(rest[:n])
					rest = rest[n:]
				}
				c.finish()
				if got := c.rest(); got != tt.want && (!strings.Contains(tt.want, "error") || !strings.HasPrefix(got, tt.want)) {
					t.Errorf("in parts of %d bytes: %q, want %q", chunk, got, tt.want)
				}
			}
		})
	}
}

// Answers come in the order of their frames, however long each takes.
func TestOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var most, now atomic.Int64
		l := newPipes()
		serveOn(t, l, newServer(t, target(func(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
			n := now.Add(1)
			defer now.Add(-1)
			for old := most.Load(); n > old; old = most.Load() {
				most.CompareAndSwap(old, n)
			}
			time.Sleep(rand.N(time.Second))
			return echo(ctx, req)
		}), tcp.Config{Pipeline: 8}))
		c := l.dial(t)
		const frames = 500
		go func() {
			for i := range frames {
				_, _ = fmt.Fprintln(c, i) // the answers show what went wrong
			}
		}()
		begin := time.Now()
		for i := range frames {
			if got := c.line(); got != fmt.Sprint(i) {
				t.Fatalf("answer %d is %q", i, got)
			}
		}
		if most.Load() != 8 || time.Since(begin) > 200*time.Second {
			t.Errorf("%d at a time, in %v: want 8", most.Load(), time.Since(begin))
		}
	})
}

// Nothing is read beyond the bound of a connection, so that its client is held up.
func TestPipelineBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		l := newPipes()
		s := serveOn(t, l, newServer(t, g, tcp.Config{Pipeline: 3, Timeout: time.Hour}))
		c, other := l.dial(t), l.dial(t)
		var written atomic.Int64
		frame := strings.Repeat("x", 10<<10) + "\n" // more than the buffer holds
		go func() {
			for range 10 {
				_, _ = io.WriteString(c, frame)
				written.Add(1)
			}
		}()
		synctest.Wait()
		if n, frames := len(g.waiting), s.Stats().Frames; n != 3 || frames != 3 || written.Load() > 4 {
			t.Errorf("%d at the target, %d read, %d written: want 3, 3, at most 4", n, frames, written.Load())
		}
		go func() { _, _ = io.WriteString(other, "a\n") }()
		synctest.Wait()
		if n := len(g.waiting); n != 4 {
			t.Errorf("%d at the target with another connection, want 4", n)
		}
		time.Sleep(10 * time.Minute) // who waits for an answer is not idle
		close(g.open)
		for i := range 10 {
			if got := c.line() + "\n"; got != frame {
				t.Fatalf("answer %d has %d bytes", i, len(got))
			}
		}
		if got := other.line(); got != "a" {
			t.Errorf("%q", got)
		}
		other.write("b\n")
		if got := other.line(); got != "b" {
			t.Errorf("%q", got)
		}
	})
}

// One at a time, each frame is sent on after the one before was answered.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	s := serve(t, target(func(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
		defer now.Add(-1)
		if n := now.Add(1); n != 1 {
			return initiators.Reply{}, bus.Errorf(bus.Internal, "%d at a time", n)
		}
		return echo(ctx, req)
	}), tcp.Config{Pipeline: 1})
	c := s.dial(t)
	var in strings.Builder
	for i := range 1000 {
		fmt.Fprintln(&in, i)
	}
	go func() {
		_, _ = io.WriteString(c, in.String())
		c.finish()
	}()
	if got := c.rest(); got != in.String() {
		t.Errorf("%.200q", got)
	}
}

// Beyond the bound of all connections frames wait, for as long as a request may take.
func TestInFlightBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		l := newPipes()
		s := serveOn(t, l, newServer(t, g, tcp.Config{MaxInFlight: 2, Timeout: time.Minute}))
		a, b := l.dial(t), l.dial(t)
		go func() { _, _ = io.WriteString(a, "1\n2\n3\n") }()
		synctest.Wait()
		go func() { _, _ = io.WriteString(b, "4\n") }()
		synctest.Wait()
		if st := s.Stats(); len(g.waiting) != 2 || st.InFlight != 2 || st.Frames != 4 {
			t.Errorf("%d at the target, %+v: want 2", len(g.waiting), st)
		}
		for _, want := range []bus.Code{bus.DeadlineExceeded, bus.DeadlineExceeded} {
			if f := parseFailure(t, a.line()); f.Code != want || f.ID == "" {
				t.Errorf("%+v, want %s", f, want)
			}
		}
		// Which of 3 and 4 got a place that became free in the same instant is open; none waits for longer.
		lines := []string{a.line(), b.line()}
		if n := len(g.waiting); n != int(4-s.refused(tcp.ReasonBusy)) || s.Stats().InFlight != 0 {
			t.Errorf("%d at the target, %d refused, answers %q", n, s.refused(tcp.ReasonBusy), lines)
		}
	})
}

// A frame that finds no place within its time-out is not sent on.
func TestBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		entered := make(chan string, 10)
		l := newPipes()
		s := serveOn(t, l, newServer(t, target(func(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
			entered <- string(req.Body)
			time.Sleep(90 * time.Second) // whatever its deadline
			return echo(ctx, req)
		}), tcp.Config{MaxInFlight: 1, Timeout: time.Minute}))
		a, b := l.dial(t), l.dial(t)
		a.write("1\n")
		synctest.Wait()
		b.write("2\n")
		if f := parseFailure(t, b.line()); f.Code != bus.Unavailable || !strings.Contains(f.Message, "1 requests are in flight") {
			t.Errorf("%+v", f)
		}
		if got := a.line(); got != "1" || len(entered) != 1 || s.refused(tcp.ReasonBusy) != 1 {
			t.Errorf("%q, %d at the target, %d refused", got, len(entered), s.refused(tcp.ReasonBusy))
		}
		b.write("3\n")
		if got := b.line(); got != "3" {
			t.Errorf("after that: %q", got)
		}
	})
}

// Each request has the time-out as its deadline.
func TestTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		s := serveOn(t, l, newServer(t, newGate(), tcp.Config{Timeout: 7 * time.Second}))
		c := l.dial(t)
		begin := time.Now()
		c.write("a\n")
		if f := parseFailure(t, c.line()); f.Code != bus.DeadlineExceeded || time.Since(begin) != 7*time.Second {
			t.Errorf("%+v after %v", f, time.Since(begin))
		}
		if st := s.Stats(); st.Failed != 1 || st.Succeeded != 0 || st.InFlight != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// Whoever does not take answers is hung up on; nobody else notices.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 10)
		l := newPipes()
		s := serveOn(t, l, newServer(t, target(func(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
			if string(req.Body) == "wait" {
				<-ctx.Done()
				ended <- context.Cause(ctx)
				return initiators.Reply{}, ctx.Err()
			}
			return echo(ctx, req)
		}), tcp.Config{Timeout: time.Hour, WriteTimeout: 10 * time.Second}))
		slow, good := l.dial(t), l.dial(t)
		begin := time.Now()
		slow.write("a\nwait\n")
		synctest.Wait()
		for range 3 {
			good.write("b\n")
			if got := good.line(); got != "b" {
				t.Errorf("%q", got)
			}
			time.Sleep(time.Second)
		}
		if err := <-ended; time.Since(begin) != 10*time.Second {
			t.Errorf("cancelled after %v: %v", time.Since(begin), err)
		}
		synctest.Wait()
		if _, err := slow.Write([]byte("x\n")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the connection is open: %v", err)
		}
		if st := s.Stats(); st.Refused[tcp.ReasonSlowReader] != 1 || st.Connections != 1 || st.InFlight != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// Over TCP what the system holds must be full first.
func TestSlowReaderOverTCP(t *testing.T) {
	t.Parallel()
	big := []byte(strings.Repeat("x", 1<<20))
	s := serve(t, target(func(context.Context, initiators.Request) (initiators.Reply, error) {
		return initiators.Reply{Body: big}, nil
	}), tcp.Config{WriteTimeout: 50 * time.Millisecond})
	c := s.dial(t)
	go func() {
		for {
			if _, err := io.WriteString(c, "a\n"); err != nil {
				return
			}
		}
	}()
	bustest.Eventually(t, "the end of the connection", func() bool { return s.refused(tcp.ReasonSlowReader) == 1 && s.Stats().Connections == 0 })
	if n := s.Stats().Frames; n > 200 {
		t.Errorf("%d frames were read", n)
	}
}

// With OneWay nothing is ever written.
func TestOneWay(t *testing.T) {
	t.Parallel()
	got := make(chan string, 100)
	s := serve(t, target(func(_ context.Context, req initiators.Request) (initiators.Reply, error) {
		got <- string(req.Body)
		return initiators.Reply{}, bus.Errorf(bus.Internal, "nobody hears of it")
	}), tcp.Config{OneWay: true, MaxFrame: 10, Pipeline: 1})
	c := s.dial(t)
	c.write("a\nb\nc\n" + strings.Repeat("x", 100))
	if text := c.closed(); text != "" {
		t.Errorf("%q was written", text)
	}
	for _, want := range []string{"a", "b", "c"} {
		if body := bustest.Receive(t, want, got); body != want {
			t.Errorf("%q, want %q", body, want)
		}
	}
	bustest.Eventually(t, "the count", func() bool { return s.Stats().Failed == 3 })
}

// One-way requests go on when their connection breaks.
func TestOneWayGone(t *testing.T) {
	t.Parallel()
	g := newGate()
	s := serve(t, g, tcp.Config{OneWay: true})
	c := s.dial(t)
	c.write("a\nb\n")
	bustest.Receive(t, "a request", g.waiting)
	bustest.Receive(t, "a request", g.waiting)
	if err := c.Conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	bustest.Eventually(t, "the end of the connection", func() bool { return s.refused(tcp.ReasonBroken) == 1 })
	close(g.open)
	bustest.Eventually(t, "both", func() bool { st := s.Stats(); return st.Succeeded == 2 && st.Failed == 0 && st.Connections == 0 })
}

// A connection that breaks cancels its requests; one that is closed for writing alone is answered to its end.
func TestClientGone(t *testing.T) {
	t.Parallel()
	g := newGate()
	s := serve(t, g, tcp.Config{Timeout: time.Hour})
	c := s.dial(t)
	c.write("a\nb\n")
	bustest.Receive(t, "a request", g.waiting)
	bustest.Receive(t, "a request", g.waiting)
	if err := c.Conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	bustest.Eventually(t, "the end of both", func() bool { st := s.Stats(); return st.InFlight == 0 && st.Failed == 2 && st.Connections == 0 })
	half := s.dial(t)
	half.write("c\nd\n")
	half.finish()
	bustest.Receive(t, "a request", g.waiting)
	bustest.Receive(t, "a request", g.waiting)
	close(g.open)
	if got := half.rest(); got != "c\nd\n" {
		t.Errorf("%q", got)
	}
}

// flaky is a listener that fails now and then.
type flaky struct {
	net.Listener

	failures []error
}

type temporary struct{ error }

func (temporary) Temporary() bool { return true }

func (l *flaky) Accept() (net.Conn, error) {
	if len(l.failures) > 0 {
		err := l.failures[0]
		l.failures = l.failures[1:]
		return nil, err
	}
	return l.Listener.Accept()
}

// What the system cannot give for a moment ends nothing; a listener that fails for good ends Serve.
func TestAcceptFails(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	few := temporary{errors.New("too many open files")}
	s := serveOn(t, &flaky{l, []error{few, few, few}}, newServer(t, target(echo), tcp.Config{}))
	c := s.dial(t)
	c.write("a\n")
	if got := c.line(); got != "a" || s.refused(tcp.ReasonAccept) != 3 {
		t.Errorf("%q, %d attempts", got, s.refused(tcp.ReasonAccept))
	}
	if l, err = new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s = serveOn(t, &flaky{l, []error{os.ErrPermission}}, newServer(t, target(echo), tcp.Config{}))
	if err := bustest.Receive(t, "the end of Serve", s.done); !errors.Is(err, os.ErrPermission) {
		t.Errorf("Serve returned %v", err)
	}
}
