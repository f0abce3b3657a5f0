package tcp_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/http/limit"
	"github.com/skybus-io/skybus/initiators/tcp"
	"github.com/skybus-io/skybus/micro/route"
)

// lines sends n lines and returns how long it took until all were answered.
func (c *client) lines(n int) time.Duration {
	c.t.Helper()
	begin := time.Now()
	for i := range n {
		c.write(fmt.Sprint(i, "\n"))
		if got := c.line(); got != fmt.Sprint(i) {
			c.t.Fatalf("%q, want %d", got, i)
		}
	}
	return time.Since(begin)
}

// about tells whether a wait was as long as it should be: rates are numbers with a point, and may want a moment more.
func about(took, want time.Duration) bool { return took >= want && took <= want+20*time.Millisecond }

// Frames beyond a rate are held up, each until there is room, and not refused; other clients are not.
func TestRatesHoldUp(t *testing.T) {
	t.Parallel()
	ten := &limit.Rate{Requests: 10, Per: route.Duration(10 * time.Second), Burst: 2}
	for name, tt := range map[string]struct {
		rates limit.Whole
		other time.Duration // for a client of another address
	}{
		"ip":  {limit.Whole{IP: ten}, 0},
		"all": {limit.Whole{All: ten}, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				one, two := newPipes(), newPipes()
				server := newServer(t, target(echo), tcp.Config{Rates: tt.rates})
				s := serveOn(t, network{one, "192.0.2.1:1"}, server)
				serveOn(t, network{two, "192.0.2.2:1"}, server)
				if took := one.dial(t).lines(5); !about(took, 3*time.Second) {
					t.Errorf("5 lines took %v, want 3 s for those beyond the burst", took)
				}
				if took := one.dial(t).lines(1); !about(took, time.Second) {
					t.Errorf("another connection of the same address was held up for %v", took)
				}
				if took := two.dial(t).lines(1); !about(took, tt.other) {
					t.Errorf("another address was held up for %v, want %v", took, tt.other)
				}
				held := uint64(4)
				if tt.other > 0 {
					held++
				}
				if st := s.Stats(); st.Held != held || st.Succeeded != 7 || st.Refused[tcp.ReasonRate] != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// A frame that would be held up for longer than a request may take is not sent on, and its client is told; the next ones are read.
func TestRatesRefuse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		s := serveOn(t, network{l, "192.0.2.1:1"}, newServer(t, target(echo), tcp.Config{
			Timeout: 10 * time.Second, Rates: limit.Whole{IP: &limit.Rate{Requests: 1, Per: route.Duration(25 * time.Second)}},
		}))
		c := l.dial(t)
		c.lines(1)
		for range 2 {
			begin := time.Now()
			c.write("late\n")
			f := parseFailure(t, c.line())
			if took := time.Since(begin); f.Code != bus.ResourceExhausted || f.ID == "" || f.Details["limit"] != "ip" || !strings.Contains(f.Message, "may make 1 in 25s") || took != 10*time.Second {
				t.Errorf("%+v after %v", f, took)
			}
		}
		if took := c.lines(1); !about(took, 5*time.Second) {
			t.Errorf("then it took %v, want 5 s", took)
		}
		if st := s.Stats(); st.Succeeded != 2 || st.Failed != 2 || st.Refused[tcp.ReasonRate] != 2 || st.Held != 3 {
			t.Errorf("%+v", st)
		}
	})
}

// A stop does not wait for what is held up longer than for what is in flight.
func TestRatesAndStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		s := serveOn(t, network{l, "192.0.2.1:1"}, newServer(t, target(echo), tcp.Config{
			Timeout: time.Hour, Drain: 5 * time.Second, Rates: limit.Whole{All: &limit.Rate{Requests: 1, Per: route.Duration(time.Hour)}},
		}))
		c := l.dial(t)
		c.lines(1)
		c.write("held\n")
		synctest.Wait()
		begin := time.Now()
		s.stop()
		got := c.closed()
		if f := parseFailure(t, got); f.Code != bus.Unavailable || time.Since(begin) > 7*time.Second {
			t.Errorf("%q after %v", got, time.Since(begin))
		}
	})
}

// By the name in its certificate a client has one rate, from however many connections.
func TestRatesOfCertificates(t *testing.T) {
	t.Parallel()
	cfg, _, pair := mutual(t)
	s := serve(t, naming{}, tcp.Config{TLS: cfg, Timeout: 50 * time.Millisecond, Rates: limit.Whole{Key: &limit.Rate{Requests: 2, Per: route.Duration(time.Hour)}}})
	for i := range 3 {
		c, _ := s.dialTLS(t, pair)
		c.write("a\n")
		got := c.line()
		if i < 2 && got != "sensor-7" || i == 2 && parseFailure(t, got).Details["limit"] != "key" {
			t.Errorf("connection %d: %q", i, got)
		}
	}
	plain := serve(t, target(echo), tcp.Config{Rates: limit.Whole{Key: &limit.Rate{Requests: 1, Per: route.Duration(time.Hour)}}})
	plain.dial(t).lines(5) // who has no name is not counted by it
}

func TestRatesRefused(t *testing.T) {
	t.Parallel()
	for field, cfg := range map[string]tcp.Config{
		"Rates":         {Rates: limit.Whole{IP: &limit.Rate{}}},
		"ProxyProtocol": {ProxyProtocol: []string{"balancer.example"}},
	} {
		if _, err := tcp.New(target(echo), cfg); bus.CodeOf(err) != bus.InvalidArgument || bus.AsError(err).Details["field"] != field || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// The figures are those of what was done, by listener.
func TestWriteMetrics(t *testing.T) {
	t.Parallel()
	a := serve(t, target(echo), tcp.Config{MaxFrame: 10})
	b := serve(t, target(func(context.Context, initiators.Request) (initiators.Reply, error) {
		return initiators.Reply{}, bus.Errorf(bus.NotFound, "no")
	}), tcp.Config{})
	a.dial(t).lines(3)
	long := a.dial(t)
	long.write("0123456789a\n")
	long.closed()
	c := b.dial(t)
	c.write("x\n")
	c.line()
	var page strings.Builder
	if err := tcp.WriteMetrics(&page, map[string]*tcp.Server{"a": a.Server, "b": b.Server}); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"# TYPE skybus_tcp_request_seconds histogram", `skybus_tcp_request_seconds_count{listener="a",result="ok"} 3`, `skybus_tcp_request_seconds_count{listener="a",result="error"} 0`,
		`skybus_tcp_request_seconds_count{listener="b",result="error"} 1`, `skybus_tcp_request_seconds_bucket{listener="b",result="error",le="+Inf"} 1`,
		`skybus_tcp_connections_total{listener="a"} 2`, `skybus_tcp_frames_total{listener="a"} 3`, `skybus_tcp_frames_total{listener="b"} 1`, `skybus_tcp_in_flight{listener="a"} 0`,
		`skybus_tcp_refused_total{listener="a",reason="too_long"} 1`, `skybus_tcp_refused_total{listener="b",reason="too_long"} 0`, `skybus_tcp_connections{listener="b"} 1`,
	} {
		if !strings.Contains(page.String(), line+"\n") {
			t.Errorf("no %s in\n%s", line, page.String())
		}
	}
}
