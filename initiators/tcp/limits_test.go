package tcp_test

import (
	"context"
	"io"
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

// A connection that neither sends nor waits for an answer is closed, without a word.
func TestIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		s := serveOn(t, l, newServer(t, target(func(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
			time.Sleep(50 * time.Second)
			return echo(ctx, req)
		}), tcp.Config{Timeout: time.Hour, IdleTimeout: time.Minute}))
		c, never, empty := l.dial(t), l.dial(t), l.dial(t)
		begin := time.Now()
		var ended [2]time.Duration
		var closing sync.WaitGroup
		for i, c := range []*client{never, empty} {
			closing.Go(func() {
				if got := c.closed(); got != "" {
					t.Errorf("%q before the end", got)
				}
				ended[i] = time.Since(begin)
			})
		}
		go func() {
			time.Sleep(30 * time.Second)
			empty.write("\n") // a sign of life
		}()
		for range 3 {
			c.write("a\n")
			if got := c.line(); got != "a" {
				t.Fatalf("%q", got)
			}
			time.Sleep(50 * time.Second)
		}
		begin2 := time.Now()
		if got := c.closed(); got != "" || time.Since(begin2) != 10*time.Second {
			t.Errorf("%q, %v later: want 10 s", got, time.Since(begin2))
		}
		closing.Wait()
		if ended[0] != time.Minute || ended[1] != 90*time.Second || s.refused(tcp.ReasonIdle) != 3 {
			t.Errorf("closed after %v; %d idle", ended, s.refused(tcp.ReasonIdle))
		}
	})
}

// A frame that is begun must be finished in time, or it is no request.
func TestSlowFrame(t *testing.T) {
	t.Parallel()
	for name, framing := range map[string]tcp.Framing{"line": tcp.Line{}, "prefix": tcp.Prefix{Bytes: 1}, "fixed": tcp.Fixed{Size: 1000}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newPipes()
				s := serveOn(t, l, newServer(t, target(echo), tcp.Config{Framing: framing, FrameTimeout: 20 * time.Second}))
				c := l.dial(t)
				begin := time.Now()
				var dripping sync.WaitGroup
				defer dripping.Wait()
				dripping.Go(func() {
					for { // a byte a second: never idle
						if _, err := c.Write([]byte("z")); err != nil {
							return
						}
						time.Sleep(time.Second)
					}
				})
				got := c.closed()
				if took := time.Since(begin); took != 20*time.Second || !strings.Contains(got, `"code":"deadline_exceeded"`) {
					t.Errorf("%q after %v", got, took)
				}
				if st := s.Stats(); st.Frames != 0 || st.Refused[tcp.ReasonSlowFrame] != 1 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// A frame that the client did not finish before it closed is no request.
func TestUnfinishedFrame(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		framing tcp.Framing
		in      string
	}{
		"line":   {tcp.Line{}, "whole\nhalf"},
		"prefix": {tcp.Prefix{Bytes: 1}, "\x05whole\x05half"},
		"length": {tcp.Prefix{}, "\x00\x00\x00\x05whole\x00\x00"},
		"fixed":  {tcp.Fixed{Size: 200}, "whole" + strings.Repeat(" ", 195) + "half"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var bodies atomic.Pointer[string]
			s := serve(t, target(func(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
				body := string(req.Body)
				if old := bodies.Swap(&body); old != nil {
					return initiators.Reply{}, bus.Errorf(bus.Internal, "another request")
				}
				return echo(ctx, req)
			}), tcp.Config{Framing: tt.framing})
			c := s.dial(t)
			c.write(tt.in)
			c.finish()
			got := c.rest()
			if !strings.Contains(got, "whole") || !strings.Contains(got, `"code":"invalid_argument","message":"the connection ended within a frame`) || *bodies.Load() != "whole" {
				t.Errorf("%q; the target was sent %q", got, *bodies.Load())
			}
			if n := s.refused(tcp.ReasonUnfinished); n != 1 {
				t.Errorf("%d unfinished", n)
			}
		})
	}
}

// A frame that is too long is refused as soon as that is known. Its sender reads why, though it sends on.
func TestTooLong(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	for name, tt := range map[string]struct {
		framing tcp.Framing
		first   string
	}{
		"line":   {tcp.Line{}, "a\n"},
		"prefix": {tcp.Prefix{}, "\x00\x00\x00\x01a\x7f\xff\xff\xff"},
		"most":   {tcp.Prefix{}, "\x00\x00\x00\x01a\xff\xff\xff\xff"},
		"little": {tcp.Prefix{Bytes: 2, LittleEndian: true}, "\x01\x00a\x01\x04"}, // 1,025
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, target(echo), tcp.Config{Framing: tt.framing, MaxFrame: 1024})
			c := s.dial(t)
			go func() { _, _ = io.WriteString(c, tt.first+long) }() // the server may hang up early
			got := c.closed()
			if !strings.Contains(got, `"code":"resource_exhausted","message":"the frame is longer than 1024 bytes"`) || !strings.Contains(got, "a") {
				t.Errorf("%q", got)
			}
			if st := s.Stats(); st.Frames != 1 || st.Refused[tcp.ReasonTooLong] != 1 {
				t.Errorf("%+v", st)
			}
		})
	}
	s := serve(t, target(echo), tcp.Config{MaxFrame: 1024})
	for _, most := range []string{long[:1024] + "\n", long[:1024] + "\r\n"} {
		c := s.dial(t)
		c.write(most)
		if got := c.line(); got != long[:1024] {
			t.Errorf("the longest frame: %d bytes", len(got))
		}
	}
}

// Answers that the client has not taken yet outlive the end of the connection, though there is something unread, for which systems reset connections.
func TestTooLongAfterAnswers(t *testing.T) {
	t.Parallel()
	answer := strings.Repeat("y", 256<<10) // more than the client's system takes unasked
	s := serve(t, fixed(answer, nil), tcp.Config{MaxFrame: 10})
	c := s.dial(t)
	c.write("a\n" + strings.Repeat("x", 64<<10))
	bustest.Eventually(t, "the end of reading", func() bool { return s.refused(tcp.ReasonTooLong) == 1 })
	if got := c.line(); got != answer {
		t.Errorf("an answer of %d bytes", len(got))
	}
	if f := parseFailure(t, c.rest()); f.Code != bus.ResourceExhausted {
		t.Errorf("%+v", f)
	}
}

// Connections beyond the limits are told why, at once; those that end make room.
func TestConnectionLimits(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cfg    tcp.Config
		reason tcp.Reason
		code   bus.Code
	}{
		"all":    {tcp.Config{MaxConns: 3, MaxConnsPerIP: -1}, tcp.ReasonConnections, bus.Unavailable},
		"per ip": {tcp.Config{MaxConnsPerIP: 3}, tcp.ReasonConnectionsPerIP, bus.ResourceExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, target(echo), tt.cfg)
			var in []*client
			for range 3 {
				c := s.dial(t)
				c.write("a\n")
				if got := c.line(); got != "a" {
					t.Fatalf("%q", got)
				}
				in = append(in, c)
			}
			out := s.dial(t)
			_, _ = io.WriteString(out, "a\n") // it may be closed already
			if f := parseFailure(t, out.closed()); f.Code != tt.code || !strings.Contains(f.Message, "3 connections") || f.ID != "" {
				t.Errorf("%+v", f)
			}
			if st := s.Stats(); st.Connections != 3 || st.Accepted != 3 || st.Refused[tt.reason] != 1 {
				t.Errorf("%+v", st)
			}
			_ = in[0].Close()
			bustest.Eventually(t, "room", func() bool { return s.Stats().Connections == 2 })
			c := s.dial(t)
			c.write("b\n")
			if got := c.line(); got != "b" {
				t.Errorf("%q", got)
			}
		})
	}
}
