package leanhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/internal/leanhttp"
)

// echo answers with what it was sent.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // the test compares
	w.Header().Set("Etag", `"1"`)
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, "%s %s %s %s ", r.Method, r.RequestURI, r.Host, r.Header.Get("Idempotency-Key"))
	_, _ = w.Write(body) // the test compares
}

func serveEcho(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(echo))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// TestDo sends bodies on both sides of the sizes at which writing changes.
func TestDo(t *testing.T) {
	t.Parallel()
	addr := serveEcho(t)
	c := client(t, addr, leanhttp.Config{MaxAnswerBody: 8 << 20})
	for _, size := range []int{0, 1, 1000, 32 << 10, 32<<10 + 1, 64 << 10, 64<<10 + 1, 4 << 20} {
		req := put(bytes.Repeat([]byte("x"), size))
		req.Target = "/a%2Fb/./c//d?e=%zz&f=\xc3\xa9"
		req.Header = leanhttp.Header{{"Idempotency-Key", "k1"}}
		resp, err := c.Do(t.Context(), req)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		want := "PUT " + req.Target + " " + addr + " k1 " + string(req.Body)
		if resp.Status != http.StatusCreated || resp.Header.Get("etag") != `"1"` || string(resp.Body) != want {
			t.Errorf("%d bytes: got %d, %v, %.80q: want %.80q", size, resp.Status, resp.Header, resp.Body, want)
		}
	}
	if open, idle := c.Count(); open != 1 || idle != 1 {
		t.Errorf("got %d connections, %d idle: want one for all", open, idle)
	}
}

func TestHost(t *testing.T) {
	t.Parallel()
	req := get()
	req.Host = "example.org"
	resp, err := client(t, serveEcho(t), leanhttp.Config{}).Do(t.Context(), req)
	if err != nil || !strings.Contains(string(resp.Body), " example.org ") {
		t.Errorf("got %v, %v: want the host", resp, err)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"", "a", ":80", "a:", "a b:80", "a/b:80", "a\r\nb:80", "u@a:80"} {
		if _, err := leanhttp.New(addr, leanhttp.Config{}); err == nil {
			t.Errorf("address %q is taken", addr)
		}
	}
	if _, err := leanhttp.New("a:80", leanhttp.Config{MaxOpen: -1}); err == nil {
		t.Error("a negative bound is taken")
	}
}

// TestMalformedRequests: nothing is sent, nobody is dialled.
func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	c := client(t, "a:80", leanhttp.Config{Dial: func(context.Context, string, string) (net.Conn, error) {
		t.Error("dialled")
		return nil, net.ErrClosed
	}})
	with := func(f leanhttp.Field) leanhttp.Request {
		return leanhttp.Request{Method: "GET", Target: "/", Header: leanhttp.Header{f}}
	}
	bad := []leanhttp.Request{
		{Target: "/"},
		{Method: "GET"},
		{Method: "GE T", Target: "/"},
		{Method: "GET / HTTP/1.1\r\nA: b\r\n\r\nGET", Target: "/"},
		{Method: "CONNECT", Target: "/"},
		{Method: "GET", Target: "*"},
		{Method: "GET", Target: "a"},
		{Method: "GET", Target: "http://a/"},
		{Method: "GET", Target: "/a b"},
		{Method: "GET", Target: "/ HTTP/1.1\r\nA: b"},
		{Method: "GET", Target: "/\r\n"},
		{Method: "GET", Target: "/\n"},
		{Method: "GET", Target: "/\x00"},
		{Method: "GET", Target: "/\x7f"},
		{Method: "GET", Target: "/a#b"},
		{Method: "GET", Target: "/", Host: "a\r\nB: c"},
		{Method: "GET", Target: "/", Host: "a b"},
		{Method: "GET", Target: "/", Host: "a/b"},
		{Method: "GET", Target: "/", Host: "u@a"},
		with(leanhttp.Field{Name: "", Value: "b"}),
		with(leanhttp.Field{Name: "a b", Value: "c"}),
		with(leanhttp.Field{Name: "a:", Value: "c"}),
		with(leanhttp.Field{Name: "a\r\nb", Value: "c"}),
		with(leanhttp.Field{Name: "\xc3\xa9", Value: "c"}),
		with(leanhttp.Field{Name: "a", Value: "b\r\nc: d"}),
		with(leanhttp.Field{Name: "a", Value: "b\nc: d"}),
		with(leanhttp.Field{Name: "a", Value: "b\rc"}),
		with(leanhttp.Field{Name: "a", Value: "b\x00"}),
		with(leanhttp.Field{Name: "a", Value: "b\x7f"}),
	}
	for _, name := range []string{
		"host", "CONTENT-LENGTH", "Transfer-Encoding", "connection", "Keep-Alive", "Proxy-Connection", "te", "Trailer", "upgrade", "Expect",
	} {
		bad = append(bad, with(leanhttp.Field{Name: name, Value: "x"}))
	}
	for _, req := range bad {
		if _, err := c.Do(t.Context(), &req); !errors.Is(err, leanhttp.ErrRequest) || !leanhttp.NotSent(err) {
			t.Errorf("%+v: got %v: want a malformed request that was not sent", req, err)
		}
	}
}

// TestNotSent has the other errors of requests that never left.
func TestNotSent(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	c := client(t, "a:80", leanhttp.Config{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, refused }})
	if _, err := c.Do(t.Context(), put(nil)); !errors.Is(err, refused) || !leanhttp.NotSent(err) {
		t.Errorf("got %v: want the dial's error", err)
	}
	if open, _ := c.Count(); open != 0 {
		t.Errorf("%d connections are left", open)
	}
	stuck := client(t, "a:80", leanhttp.Config{DialTimeout: 20 * time.Millisecond, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	_, err := stuck.Do(t.Context(), put(nil))
	if e, ok := errors.AsType[*leanhttp.Error](err); !ok || !e.Timeout() || e.Sent {
		t.Errorf("got %v: want a timeout that was not sent", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(refused)
	if _, err := stuck.Do(ctx, put(nil)); !errors.Is(err, refused) || !leanhttp.NotSent(err) {
		t.Errorf("got %v: want the cause of the ctx", err)
	}
}

// TestKeptConnectionEnds: what happens when the backend ends a kept connection instead of answering on it.
func TestKeptConnectionEnds(t *testing.T) {
	t.Parallel()
	for _, repeatable := range []bool{true, false} {
		var first, seen atomic.Int64
		b := listen(t, func(p *peer) {
			if first.Add(1) > 1 {
				says(ok)(&peer{p.Conn, p.b, p.r})
				return
			}
			_, _, _ = p.request()
			p.say(ok)
			if _, _, ok := p.request(); ok { // it was read, and may have been applied
				seen.Add(1)
			}
		})
		c := client(t, b.addr, leanhttp.Config{})
		req := put([]byte("x"))
		req.Repeatable = repeatable
		if _, err := c.Do(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(t.Context(), req)
		if repeatable {
			if err != nil || resp.Status != http.StatusOK || b.conns.Load() != 2 {
				t.Errorf("got %v, %v on %d connections: want an answer on the second", resp, err, b.conns.Load())
			}
		} else if e, ok := errors.AsType[*leanhttp.Error](err); !ok || !e.Sent || b.conns.Load() != 1 {
			t.Errorf("got %v, %v on %d connections: want an error that says it may have been applied", resp, err, b.conns.Load())
		}
		if seen.Load() != 1 {
			t.Errorf("the backend read %d second requests on the first connection: want 1", seen.Load())
		}
	}
}

// TestNewConnectionEnds: one that was never kept is no reason to try again.
func TestNewConnectionEnds(t *testing.T) {
	t.Parallel()
	b := listen(t, func(p *peer) { _, _, _ = p.request() })
	req := put([]byte("x"))
	req.Repeatable = true
	if _, err := client(t, b.addr, leanhttp.Config{}).Do(t.Context(), req); err == nil || leanhttp.NotSent(err) || b.conns.Load() != 1 {
		t.Errorf("got %v after %d connections: want an error after one", err, b.conns.Load())
	}
}

// TestIdleConnectionEnds: a kept connection that is closed, or on which something unasked was said, is not used again, so that also
// requests that are not repeatable pass. The second request waits until the client's side of the socket knows.
func TestIdleConnectionEnds(t *testing.T) {
	t.Parallel()
	for _, unasked := range []string{"", ok} {
		said := make(chan struct{})
		var first atomic.Bool
		b := listen(t, func(p *peer) {
			if first.Swap(true) {
				says(ok)(p)
				return
			}
			_, _, _ = p.request()
			p.say(ok)
			<-said
			p.say(unasked)
			if unasked == "" {
				_ = p.Close()
			}
			said <- struct{}{}
			p.hung()
		})
		c := client(t, b.addr, leanhttp.Config{})
		if _, err := c.Do(t.Context(), put([]byte("x"))); err != nil {
			t.Fatal(err)
		}
		said <- struct{}{}
		<-said
		time.Sleep(20 * time.Millisecond) // loopback delivers at once, but says so to nobody
		if _, err := c.Do(t.Context(), put([]byte("x"))); err != nil || b.conns.Load() != 2 {
			t.Errorf("unasked %q: got %v after %d connections: want none after two", unasked, err, b.conns.Load())
		}
	}
}

// TestEarlyAnswer comes while a body is written that the backend does not read.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	for _, stays := range []bool{true, false} {
		b := listen(t, func(p *peer) {
			if _, err := http.ReadRequest(p.r); err != nil {
				return
			}
			p.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
			if stays {
				p.hold(t.Context())
			}
		})
		c := client(t, b.addr, leanhttp.Config{})
		resp, err := c.Do(t.Context(), put(make([]byte, 32<<20)))
		if stays && (err != nil || resp.Status != http.StatusRequestEntityTooLarge || string(resp.Body) != "big") {
			t.Errorf("got %v, %v: want 413", resp, err)
		}
		if !stays && err != nil && leanhttp.NotSent(err) { // a reset may overtake the answer
			t.Errorf("got %v: want an answer, or an error that says it may have been applied", err)
		}
		if open, _ := c.Count(); open != 0 {
			t.Errorf("%d connections are kept", open)
		}
	}
}

// TestCancel: the end of a ctx closes the connection at once.
func TestCancel(t *testing.T) {
	t.Parallel()
	why := errors.New("gone")
	for _, begin := range []string{"", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"} {
		asked := make(chan struct{})
		b := listen(t, func(p *peer) {
			_, _, _ = p.request()
			p.say(begin)
			close(asked)
			p.hung()
		})
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			<-asked
			cancel(why)
		}()
		c := client(t, b.addr, leanhttp.Config{})
		_, err := c.Do(ctx, put(nil))
		if e, ok := errors.AsType[*leanhttp.Error](err); !ok || !errors.Is(err, why) || !e.Sent {
			t.Errorf("%q: got %v: want the cause, of a request that was sent", begin, err)
		}
		until(t, "the connection is closed", func() bool { return b.closed.Load() == 1 })
		if open, _ := c.Count(); open != 0 {
			t.Errorf("%d connections are left", open)
		}
	}
}

// TestCancelIdleStream: also nobody needs to be reading.
func TestCancelIdleStream(t *testing.T) {
	t.Parallel()
	b := listen(t, func(p *peer) {
		_, _, _ = p.request()
		p.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
		p.hung()
	})
	ctx, cancel := context.WithCancel(t.Context())
	c := client(t, b.addr, leanhttp.Config{})
	s, err := c.Open(ctx, get())
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	until(t, "the connection is closed", func() bool { return b.closed.Load() == 1 })
	if _, err := io.ReadAll(s); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v: want that it was cancelled", err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
}

// TestStream reads more than Do would keep.
func TestStream(t *testing.T) {
	t.Parallel()
	const size = 20 << 20
	b := listen(t, func(p *peer) {
		for {
			if _, _, ok := p.request(); !ok {
				return
			}
			p.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size))
			p.say(strings.Repeat("x", size))
		}
	})
	c := client(t, b.addr, leanhttp.Config{})
	for range 2 {
		s, err := c.Open(t.Context(), get())
		if err != nil || s.Length != size {
			t.Fatalf("got %v, %v: want %d bytes", s, err, size)
		}
		if n, err := io.Copy(io.Discard, s); err != nil || n != size {
			t.Fatalf("got %d, %v: want %d bytes", n, err, size)
		}
		if _, idle := c.Count(); idle != 1 {
			t.Error("the connection is not free at the end of the body")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	s, err := c.Open(t.Context(), get())
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("got %v: want that it is closed", err)
	}
	if open, _ := c.Count(); open != 0 || b.conns.Load() != 1 {
		t.Errorf("got %d connections of %d: want that the one is closed with a body that was not read", open, b.conns.Load())
	}
}

// TestStall: a stream may last beyond its deadline, but not pause for long.
func TestStall(t *testing.T) {
	t.Parallel()
	b := listen(t, func(p *peer) {
		_, _, _ = p.request()
		p.say("HTTP/1.1 200 OK\r\n\r\n")
		for range 20 {
			p.say("x")
			time.Sleep(50 * time.Millisecond) // a second in all
		}
		p.hung()
	})
	req := get()
	req.Deadline, req.Stall = time.Now().Add(900*time.Millisecond), 850*time.Millisecond
	s, err := client(t, b.addr, leanhttp.Config{}).Open(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(s)
	if e, ok := errors.AsType[*leanhttp.Error](err); len(data) != 20 || !ok || !e.Timeout() {
		t.Errorf("got %d bytes, %v: want 20 and then a timeout", len(data), err)
	}
	_ = s.Close()
}

// TestTrailer hands on what follows a body.
func TestTrailer(t *testing.T) {
	t.Parallel()
	b := listen(t, says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n"))
	s, err := client(t, b.addr, leanhttp.Config{}).Open(t.Context(), get())
	if err != nil || s.Length != -1 || s.Header.Get("Transfer-Encoding") != "" {
		t.Fatalf("got %+v, %v: want an unknown length", s, err)
	}
	if data, err := io.ReadAll(s); err != nil || string(data) != "ok" || !slices.Equal(s.Trailer(), leanhttp.Header{{"A", "b"}}) {
		t.Errorf("got %q, %v, %v: want ok and a trailer", data, err, s.Trailer())
	}
	_ = s.Close()
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(echo))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	c := client(t, s.Listener.Addr().String(), leanhttp.Config{TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}})
	for range 3 {
		resp, err := c.Do(t.Context(), put([]byte("body")))
		if err != nil || !strings.HasSuffix(string(resp.Body), " body") {
			t.Fatalf("got %v, %v", resp, err)
		}
	}
	if open, _ := c.Count(); open != 1 {
		t.Errorf("got %d connections: want one for all", open)
	}
	strange := client(t, s.Listener.Addr().String(), leanhttp.Config{TLS: &tls.Config{MinVersion: tls.VersionTLS12}})
	if _, err := strange.Do(t.Context(), put(nil)); err == nil || !leanhttp.NotSent(err) {
		t.Errorf("got %v: want an unknown authority, and nothing sent", err)
	}
}

// together writes at once what was written before flush.
type together struct {
	net.Conn

	on   bool
	data []byte
}

func (c *together) Write(p []byte) (int, error) {
	if !c.on {
		return c.Conn.Write(p)
	}
	c.data = append(c.data, p...)
	return len(p), nil
}

// TestTLSUnasked: an answer that nobody asked for, in a record of its own that comes together with the one before, is not taken for the
// answer to the next request.
func TestTLSUnasked(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS() // for its certificate
	s.Close()
	b := listen(t, func(p *peer) {
		wire := &together{Conn: p.Conn}
		secure := tls.Server(wire, &tls.Config{Certificates: s.TLS.Certificates, MinVersion: tls.VersionTLS12})
		inner := &peer{secure, p.b, bufio.NewReader(secure)}
		if _, _, ok := inner.request(); !ok {
			return
		}
		wire.on = true
		inner.say(ok)
		inner.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
		_, _ = p.Write(wire.data) // the client says
		inner.hung()
	})
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	c := client(t, b.addr, leanhttp.Config{TLS: &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12}})
	for i := range 2 {
		resp, err := c.Do(t.Context(), get())
		if err != nil || string(resp.Body) != "ok" || b.conns.Load() != int64(i+1) {
			t.Errorf("got %v, %v on connection %d: want ok on connection %d", resp, err, b.conns.Load(), i+1)
		}
	}
}
