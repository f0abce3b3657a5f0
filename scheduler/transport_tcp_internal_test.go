package scheduler

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// lines is a TCP server that keeps the lines it reads.
type lines struct {
	net.Listener

	got chan string

	mu    sync.Mutex
	conns []net.Conn
}

func listenLines(t testing.TB) *lines {
	t.Helper()
	l := listen(t)
	s := &lines{Listener: l, got: make(chan string, 64)}
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			reading.Go(func() {
				for r := bufio.NewScanner(conn); r.Scan(); {
					s.got <- r.Text()
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.closeConns()
		reading.Wait()
	})
	return s
}

func (s *lines) closeConns() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close()
	}
}

func (s *lines) accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func TestTCP(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{AllowNetworks: loopback()})
	srv := listenLines(t)
	target := Target{URI: "tcp://" + srv.Addr().String()}
	for _, line := range []string{"one", "", "three"} {
		if err := deliver(t, s, attempt(target, line)); err != nil {
			t.Fatal(err)
		}
		if got := <-srv.got; got != line {
			t.Errorf("%q, want %q", got, line)
		}
	}
	if n := srv.accepted(); n != 1 {
		t.Errorf("%d connections for 3 lines", n)
	}
	srv.closeConns()
	transport := s.transports["tcp"].(*tcpTransport)
	bustest.Eventually(t, "the end of the connection", func() bool {
		transport.mu.Lock()
		defer transport.mu.Unlock()
		for _, list := range transport.idle {
			select {
			case <-list[0].dead:
				return true
			default:
			}
		}
		return false
	})
	if err := deliver(t, s, attempt(target, "four")); err != nil {
		t.Fatalf("after the other side closed the idle connection: %v", err)
	}
	if got := <-srv.got; got != "four" {
		t.Errorf("%q", got)
	}
}

func TestTCPPool(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{AllowNetworks: loopback(), PerDestination: 2})
	srv := listenLines(t)
	var sending sync.WaitGroup
	for range 16 {
		sending.Go(func() {
			if err := deliver(t, s, attempt(Target{URI: "tcp://" + srv.Addr().String()}, "x")); err != nil {
				t.Error(err)
			}
		})
	}
	sending.Wait()
	transport := s.transports["tcp"].(*tcpTransport)
	transport.mu.Lock()
	if n := transport.count; n < 1 || n > 2 || len(transport.idle[srv.Addr().String()]) != n {
		t.Errorf("%d idle connections, want at most 2", n)
	}
	conn := transport.idle[srv.Addr().String()][0]
	transport.mu.Unlock()
	transport.expire(srv.Addr().String(), conn) // as after 30 s
	<-conn.dead
	if err := transport.Close(); err != nil {
		t.Fatal(err)
	}
	if transport.count != 0 || len(transport.idle) != 0 {
		t.Errorf("%d connections after Close", transport.count)
	}
}

func TestTCPFailures(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{AllowNetworks: loopback()})
	l := listen(t)
	closed := l.Addr().String()
	_ = l.Close()
	if e := failed(t, deliver(t, s, attempt(Target{URI: "tcp://" + closed}, "x"))); e.Permanent || e.Unharmed || bus.CodeOf(e) != bus.Unavailable || !strings.Contains(e.Error(), "refused") {
		t.Errorf("%+v", e)
	}
	_, strict := openTransports(t, Config{})
	srv := listenLines(t)
	if e := failed(t, deliver(t, strict, attempt(Target{URI: "tcp://" + srv.Addr().String()}, "x"))); e.Permanent || !e.Unharmed || bus.CodeOf(e) != bus.PermissionDenied || srv.accepted() > 0 {
		t.Errorf("a network that is not allowed: %+v", e)
	}
	if e := failed(t, deliver(t, s, attempt(Target{URI: "tcp://" + srv.Addr().String()}, "x\ny"))); !e.Permanent || !e.Unharmed {
		t.Errorf("two lines: %+v", e)
	}
	_, err := s.checkTarget(t.Context(), Target{URI: "tcp://" + srv.Addr().String()}, []byte("x\n"), "", nil)
	wantField(t, err, bus.InvalidArgument, "payload")
	for uri, code := range map[string]bus.Code{
		"tcp://127.0.0.1:9000": "", "tcp://[::1]:9000": bus.PermissionDenied, "tcp://10.0.0.1:9000": bus.PermissionDenied, "tcp://127.0.0.1:22": bus.PermissionDenied,
		"tcp://127.0.0.1": bus.InvalidArgument, "tcp://127.0.0.1:0": bus.InvalidArgument, "tcp://127.0.0.1:9000/x": bus.InvalidArgument, "tcp://:9000": bus.InvalidArgument,
		"tcp://u:canary@127.0.0.1:9000": bus.InvalidArgument, "tcp://[u:canary@h]:9000": bus.InvalidArgument, "tcp://127.1:9000": bus.InvalidArgument,
	} {
		if err := check(t, s, Target{URI: uri}); bus.CodeOf(err) != code || err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v, want %q", uri, err, code)
		}
	}
}

// TestTCPStalled has a receiver that takes nothing.
func TestTCPStalled(t *testing.T) {
	t.Parallel()
	g := testGuard(t, &zone{}, loopback())
	transport := newTCPTransport(g, 1)
	closing(t, transport)
	far, near := net.Pipe()
	closing(t, far)
	transport.dial = func(context.Context, string, string) (net.Conn, error) { return near, nil }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := transport.Deliver(ctx, attempt(Target{URI: "127.0.0.1:9000"}, "x"))
	if e := failed(t, err); bus.CodeOf(err) != bus.DeadlineExceeded || e.Unharmed || e.Permanent {
		t.Errorf("%v, want deadline_exceeded", err)
	}
	transport.dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no") }
	if e := failed(t, transport.Deliver(t.Context(), attempt(Target{URI: "127.0.0.1:9000"}, "x"))); bus.CodeOf(e) != bus.Unavailable {
		t.Errorf("%+v", e)
	}
}
