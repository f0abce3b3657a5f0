package http_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
	gateway "github.com/skybus-io/skybus/initiators/http"
)

// The tests of this file wait in fake time, over connections within the process. They are not parallel.

// pipes is a listener whose connections are made by dial.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) dial(t testing.TB) net.Conn {
	t.Helper()
	here, there := net.Pipe()
	t.Cleanup(func() { _ = here.Close() }) // tests that care close it themselves
	p.conns <- there
	return here
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

func (h *house) runOnPipes(t testing.TB, cfg gateway.Config) (*pipes, context.CancelFunc, <-chan error) {
	t.Helper()
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done, ended := make(chan error, 1), make(chan struct{})
	g := h.gateway(t, cfg)
	go func() {
		defer close(ended)
		done <- g.Serve(ctx, l)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return l, cancel, done
}

// drip writes a byte each second until that fails, and returns how long that took.
func drip(c net.Conn, text string) time.Duration {
	begin := time.Now()
	for _, b := range []byte(text) {
		if _, err := c.Write([]byte{b}); err != nil {
			break
		}
		time.Sleep(time.Second)
	}
	return time.Since(begin)
}

// A client that sends its headers byte by byte is hung up on; it holds nobody else up.
func TestSlowHeaders(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		h := build(t)
		l, _, _ := h.runOnPipes(t, gateway.Config{MaxInFlight: 1})
		slow := l.dial(t)
		took := make(chan time.Duration, 1)
		go func() { _, _ = io.Copy(io.Discard, slow) }() // a pipe holds nothing that is not read
		go func() { took <- drip(slow, strings.Repeat("POST /echo HTTP/1.1\r\nX-A: ", 100)) }()
		c := l.dial(t)
		for range 10 {
			if a := exchange(t, c, request("/echo", "Content-Length: 2\r\n", "{}")); a.status != http.StatusOK {
				t.Errorf("another client: %d %s", a.status, a.body)
			}
			time.Sleep(time.Second)
		}
		if d := <-took; d < 5*time.Second || d > 8*time.Second {
			t.Errorf("hung up after %v, want about 5 s", d)
		}
	})
}

// A body that does not come in time is 408, and the client is hung up on.
func TestSlowBody(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		h := build(t)
		l, _, _ := h.runOnPipes(t, gateway.Config{})
		slow := l.dial(t)
		begin := time.Now()
		answers := make(chan answer, 1)
		go func() {
			resp, err := http.ReadResponse(bufio.NewReader(slow), nil)
			if err != nil {
				t.Errorf("no answer: %v", err)
				answers <- answer{}
				return
			}
			answers <- read(t, resp)
		}()
		if _, err := io.WriteString(slow, request("/echo", "Content-Length: 1000\r\n", "")); err != nil {
			t.Fatal(err)
		}
		go drip(slow, `"`+strings.Repeat("x", 998)+`"`)
		a := <-answers
		if took := time.Since(begin); a.status != http.StatusRequestTimeout || took < 29*time.Second || took > 40*time.Second {
			t.Errorf("%d %s after %v, want 408 after 30 s", a.status, a.body, took)
		}
		if p := a.problem(t); p.Status != http.StatusRequestTimeout || !strings.Contains(p.Detail, "did not come in time") {
			t.Errorf("%s", a.body)
		}
		_, err := io.Copy(io.Discard, slow)
		if took := time.Since(begin); err != nil || took > time.Minute {
			t.Errorf("the connection is open after %v: %v", took, err)
		}
		if h.calls.Load() != 0 {
			t.Error("the service was called")
		}
	})
}

// A client that does not take its answer is hung up on, and gives back its place.
func TestSlowReader(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		h := build(t)
		l, _, _ := h.runOnPipes(t, gateway.Config{MaxInFlight: 1})
		slow, other := l.dial(t), l.dial(t)
		begin := time.Now()
		body := `"` + strings.Repeat("x", 100<<10) + `"`
		if _, err := io.WriteString(slow, request("/echo", fmt.Sprintf("Content-Length: %d\r\n", len(body)), body)); err != nil { // and takes nothing
			t.Fatal(err)
		}
		bustest.Eventually(t, "the call", func() bool { return h.calls.Load() == 1 })
		for {
			if a := exchange(t, other, request("/echo", "Content-Length: 2\r\n", "{}")); a.status == http.StatusOK {
				break
			}
			time.Sleep(time.Second)
		}
		if took := time.Since(begin); took < 30*time.Second || took > time.Minute {
			t.Errorf("its place was free after %v, want the time-outs of reading, of the request and of a stop: 50 s", took)
		}
		if n, err := io.Copy(io.Discard, slow); n != 0 || err != nil {
			t.Errorf("then it read %d bytes, %v", n, err)
		}
	})
}

// Clients that send their bodies slowly do not keep others out: they make room as soon as it is needed.
func TestSlowBodiesMakeRoom(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		h := build(t)
		l, _, _ := h.runOnPipes(t, gateway.Config{MaxInFlight: 2})
		answers := make(chan answer, 2)
		for range 2 {
			slow := l.dial(t)
			go func() {
				resp, err := http.ReadResponse(bufio.NewReader(slow), nil)
				if err != nil { // the test is over
					answers <- answer{}
					return
				}
				answers <- read(t, resp)
			}()
			if _, err := io.WriteString(slow, request("/echo", "Content-Length: 1000\r\n", "")); err != nil {
				t.Fatal(err)
			}
			go drip(slow, strings.Repeat("x", 1000))
		}
		ask := func() int { return exchange(t, l.dial(t), request("/echo", "Content-Length: 2\r\n", "{}")).status }
		time.Sleep(time.Second)
		if status := ask(); status != http.StatusServiceUnavailable {
			t.Errorf("while both may still come: %d", status)
		}
		time.Sleep(2 * time.Second)
		for i := range 2 {
			if status := ask(); status != http.StatusOK {
				t.Errorf("request %d beside slow ones: %d", i, status)
			}
		}
		if a := <-answers; a.status != http.StatusRequestTimeout || !strings.Contains(a.body, "others wait") {
			t.Errorf("the slow one: %d %s", a.status, a.body)
		}
		select {
		case a := <-answers: // there was room for the others
			t.Errorf("the other slow one: %d %s", a.status, a.body)
		default:
		}
	})
}

// A connection that is not used is closed after a minute.
func TestIdleConnection(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		h := build(t)
		l, _, _ := h.runOnPipes(t, gateway.Config{})
		c := l.dial(t)
		for range 3 {
			if a := exchange(t, c, request("/echo", "Content-Length: 2\r\n", "{}")); a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.body)
			}
			time.Sleep(50 * time.Second)
		}
		begin := time.Now()
		_, err := io.Copy(io.Discard, c)
		if took := time.Since(begin); err != nil || took > time.Minute {
			t.Errorf("closed after %v more, %v", took, err)
		}
	})
}

// A request that comes on an open connection a moment after Serve was told to stop is answered, and told to be the last.
func TestServeAnswersLatecomer(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		h := build(t)
		l, stop, done := h.runOnPipes(t, gateway.Config{})
		fresh, used := l.dial(t), l.dial(t)
		if a := exchange(t, used, request("/echo", "Content-Length: 2\r\n", "{}")); a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
		stop()
		<-l.closed
		time.Sleep(100 * time.Millisecond)
		for _, c := range []net.Conn{fresh, used} {
			if a := exchange(t, c, request("/echo", "Content-Length: 2\r\n", "{}")); a.status != http.StatusOK || a.body != "{}" || !a.last {
				t.Errorf("%d %s, the last: %v", a.status, a.body, a.last)
			}
		}
		begin := time.Now()
		if err := <-done; err != nil || time.Since(begin) > time.Second {
			t.Errorf("Serve returned %v after %v", err, time.Since(begin))
		}
	})
}

// Serve waits 10 s for what is in flight, then cuts it off and says so.
func TestServeCutsOff(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		h := build(t)
		l, stop, done := h.runOnPipes(t, gateway.Config{Timeout: time.Hour})
		c := l.dial(t)
		if _, err := io.WriteString(c, request("/wait", "Content-Length: 2\r\n", "{}")); err != nil {
			t.Fatal(err)
		}
		bustest.Eventually(t, "the request", func() bool { return h.waiting.Load() == 1 })
		begin := time.Now()
		stop()
		err := <-done
		if took := time.Since(begin); err == nil || took < 9*time.Second || took > 12*time.Second {
			t.Errorf("Serve returned %v after %v", err, took)
		}
		if n, err := io.Copy(io.Discard, c); n != 0 || err != nil {
			t.Errorf("the client got %d bytes, %v", n, err)
		}
	})
}

// exchange sends a request and reads its answer.
func exchange(t testing.TB, c net.Conn, text string) answer {
	t.Helper()
	go func() { _, _ = io.WriteString(c, text) }() // the answer shows what went wrong
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(fmt.Errorf("answer: %w", err))
	}
	return read(t, resp)
}
