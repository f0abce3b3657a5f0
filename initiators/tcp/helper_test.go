package tcp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/tcp"
)

// patience is how long a test waits for something that comes at once on a machine with nothing else to do.
const patience = 30 * time.Second

// target is one of a program's own.
type target func(ctx context.Context, req initiators.Request) (initiators.Reply, error)

func (f target) Send(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
	return f(ctx, req)
}

// echo answers with what it is sent.
func echo(_ context.Context, req initiators.Request) (initiators.Reply, error) {
	return initiators.Reply{Body: req.Body}, nil
}

// gate is a target that answers once it is opened.
type gate struct {
	waiting chan string // bodies as they come
	open    chan struct{}
}

func newGate() *gate { return &gate{make(chan string, 1000), make(chan struct{})} }

func (g *gate) Send(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
	g.waiting <- string(req.Body)
	select {
	case <-g.open:
		return echo(ctx, req)
	case <-ctx.Done():
		return initiators.Reply{}, bus.AsError(context.Cause(ctx))
	}
}

func newServer(t testing.TB, to initiators.Target, cfg tcp.Config) *tcp.Server {
	t.Helper()
	s, err := tcp.New(to, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// served is a server that is run by Serve until the test ends.
type served struct {
	*tcp.Server

	addr string // of a TCP listener
	stop context.CancelFunc
	done <-chan error
}

func serve(t testing.TB, to initiators.Target, cfg tcp.Config) *served {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, l, newServer(t, to, cfg))
}

func serveOn(t testing.TB, l net.Listener, s *tcp.Server) *served {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		done <- s.Serve(ctx, l)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return &served{s, l.Addr().String(), stop, done}
}

// client is a connection and what is read from it.
type client struct {
	net.Conn

	t testing.TB
	r *bufio.Reader
}

func newClient(t testing.TB, c net.Conn) *client {
	t.Helper()
	t.Cleanup(func() { _ = c.Close() }) // tests that care close it themselves
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{c, t, bufio.NewReader(c)}
}

func (s *served) dial(t testing.TB) *client {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, c)
}

func (c *client) write(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.t.Fatal(err)
	}
}

// line is the next line without its end.
func (c *client) line() string {
	c.t.Helper()
	text, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("%q, then %v", text, err)
	}
	return strings.TrimSuffix(text, "\n")
}

// rest is all until the server closes.
func (c *client) rest() string {
	c.t.Helper()
	data, err := io.ReadAll(c.r)
	if err != nil {
		c.t.Fatalf("%q, then %v", data, err)
	}
	return string(data)
}

// closed waits until the server has closed, in whatever way, and returns what came before.
func (c *client) closed() string {
	c.t.Helper()
	data, err := io.ReadAll(c.r)
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		c.t.Fatalf("not closed; %q came", data)
	}
	return string(data)
}

// finish says that nothing more will come.
func (c *client) finish() {
	c.t.Helper()
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

// failure is an error frame.
type failure struct {
	Code    bus.Code          `json:"code"`
	Message string            `json:"message"`
	Details map[string]string `json:"details"`
	ID      string            `json:"request_id"`
}

func parseFailure(t testing.TB, text string) failure {
	t.Helper()
	var frame struct {
		Error *failure `json:"error"`
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&frame); err != nil || frame.Error == nil {
		t.Fatalf("%q is no error frame: %v", text, err)
	}
	return *frame.Error
}

// pipes is a listener whose connections are made by dial, for fake time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) dial(t testing.TB) *client {
	t.Helper()
	here, there := net.Pipe()
	p.conns <- there
	t.Cleanup(func() { _ = here.Close() }) // tests that care close it themselves
	return &client{here, t, bufio.NewReader(here)}
}

// Accept is net.Listener's.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close is net.Listener's.
func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr is net.Listener's.
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// refused is how often a reason was counted.
func (s *served) refused(r tcp.Reason) uint64 { return s.Stats().Refused[r] }
