package leanhttp_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/internal/leanhttp"
)

const patience = 20 * time.Second

// backend is a server that does with each connection what serve says. Its sockets are closed at the end of the test.
type backend struct {
	addr   string
	conns  atomic.Int64 // accepted
	closed atomic.Int64 // seen closed by hung
}

// peer is a connection as the backend sees it.
type peer struct {
	net.Conn

	b *backend
	r *bufio.Reader
}

// request reads one with its body, and tells whether there was one.
func (p *peer) request() (*http.Request, []byte, bool) {
	req, err := http.ReadRequest(p.r)
	if err != nil {
		return nil, nil, false
	}
	body, err := io.ReadAll(req.Body)
	return req, body, err == nil
}

func (p *peer) say(s string) { _, _ = io.WriteString(p.Conn, s) }

// hold keeps the connection open without reading from it, until the client or the test is done.
func (p *peer) hold(ctx context.Context) { <-ctx.Done() }

// hung waits until the client closes the connection.
func (p *peer) hung() {
	_, _ = io.Copy(io.Discard, p.r)
	p.b.closed.Add(1)
}

func listen(t testing.TB, serve func(p *peer)) *backend {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{addr: l.Addr().String()}
	var running sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	over := false
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b.conns.Add(1)
			mu.Lock()
			open[conn] = true
			if over {
				_ = conn.Close()
			}
			mu.Unlock()
			running.Go(func() {
				serve(&peer{conn, b, bufio.NewReader(conn)})
				mu.Lock()
				defer mu.Unlock()
				_ = conn.Close()
				delete(open, conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		over = true
		for conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return b
}

// says answers every request with the same bytes.
func says(answer string) func(p *peer) {
	return func(p *peer) {
		for {
			if _, _, ok := p.request(); !ok {
				return
			}
			p.say(answer)
		}
	}
}

// saysOnce answers one request and closes the connection.
func saysOnce(answer string) func(p *peer) {
	return func(p *peer) {
		if _, _, ok := p.request(); ok {
			p.say(answer)
		}
	}
}

func client(t testing.TB, addr string, cfg leanhttp.Config) *leanhttp.Client {
	t.Helper()
	c, err := leanhttp.New(addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func get() *leanhttp.Request {
	return &leanhttp.Request{Method: http.MethodGet, Target: "/", Deadline: time.Now().Add(patience)}
}

func put(body []byte) *leanhttp.Request {
	return &leanhttp.Request{Method: http.MethodPut, Target: "/x", Body: body, Deadline: time.Now().Add(patience)}
}

// until polls a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(time.Millisecond) // between two looks
	}
}

// read reads a stream to its end.
func read(ctx context.Context, c *leanhttp.Client, req *leanhttp.Request) (int, string, error) {
	s, err := c.Open(ctx, req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = s.Close() }()
	data, err := io.ReadAll(s)
	return s.Status, string(data), err
}
