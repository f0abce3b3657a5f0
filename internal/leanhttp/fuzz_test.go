package leanhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/skybus-io/skybus/internal/leanhttp"
)

// memory is a connection that says what is in it and keeps what is written.
type memory struct {
	answer  *bytes.Reader
	request bytes.Buffer
}

func (m *memory) Read(p []byte) (int, error)       { return m.answer.Read(p) }
func (m *memory) Write(p []byte) (int, error)      { return m.request.Write(p) }
func (m *memory) Close() error                     { return nil }
func (m *memory) LocalAddr() net.Addr              { return nil }
func (m *memory) RemoteAddr() net.Addr             { return nil }
func (m *memory) SetDeadline(time.Time) error      { return nil }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }

func (m *memory) dial(context.Context, string, string) (net.Conn, error) { return m, nil }

// FuzzAnswer: whatever a backend says, an answer that is taken is one that net/http takes for the same, and a connection is kept only if
// nothing is left on it.
func FuzzAnswer(f *testing.F) {
	for _, a := range hostileAnswers() {
		if len(a.answer) < 1000 {
			f.Add([]byte(a.answer), a.method == http.MethodHead)
		}
	}
	f.Fuzz(func(t *testing.T, answer []byte, head bool) {
		m := &memory{answer: bytes.NewReader(answer)}
		c := client(t, "a:80", leanhttp.Config{Dial: m.dial, MaxHeadBytes: 4096, MaxAnswerBody: 1 << 16})
		req := &leanhttp.Request{Method: http.MethodGet, Target: "/"}
		if head {
			req.Method = http.MethodHead
		}
		got, err := c.Do(t.Context(), req)
		if err != nil {
			if _, ok := errors.AsType[*leanhttp.Error](err); !ok {
				t.Errorf("got %v: want an *Error", err)
			}
			return
		}
		if _, idle := c.Count(); idle == 1 && m.answer.Len() > 0 {
			t.Errorf("the connection is kept with %d bytes on it", m.answer.Len())
		}
		r := bufio.NewReader(bytes.NewReader(answer))
		for {
			want, err := http.ReadResponse(r, &http.Request{Method: req.Method})
			if err != nil {
				t.Fatalf("taken, but net/http says %v", err)
			}
			if want.StatusCode < 200 {
				continue
			}
			body, err := io.ReadAll(io.LimitReader(want.Body, 1<<16))
			if err != nil && !got.Truncated {
				t.Fatalf("taken, but net/http says %v of the body", err)
			}
			if got.Status != want.StatusCode || !bytes.Equal(got.Body, body) {
				t.Fatalf("got %d, %q: net/http has %d, %q", got.Status, got.Body, want.StatusCode, body)
			}
			return
		}
	})
}

// FuzzRequest: what is sent is one request, that one.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/", "", "A", "b", []byte(nil))
	f.Add("PUT", "/a?b#c", "h:1", "A-B", " c\t", []byte("body"))
	f.Add("POST", "/\r\nA: b", "h\r\n", "Content-Length", "5", []byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, method, target, host, name, value string, body []byte) {
		m := &memory{answer: bytes.NewReader([]byte(ok))}
		c := client(t, "a:80", leanhttp.Config{Dial: m.dial})
		req := &leanhttp.Request{Method: method, Target: target, Host: host, Header: leanhttp.Header{{Name: name, Value: value}}, Body: body}
		if _, err := c.Do(t.Context(), req); err != nil {
			if sent := m.request.Len(); errors.Is(err, leanhttp.ErrRequest) && sent > 0 {
				t.Errorf("%d bytes of a malformed request were sent", sent)
			}
			if errors.Is(err, leanhttp.ErrRequest) {
				return
			}
		}
		r := bufio.NewReader(&m.request)
		got, err := http.ReadRequest(r)
		if err != nil {
			if host != "" || target == "*" { // net/http is stricter with both
				return
			}
			t.Fatalf("sent, but net/http says %v: %q", err, m.request.String())
		}
		data, err := io.ReadAll(got.Body)
		if err != nil || !bytes.Equal(data, body) || got.Method != method || got.RequestURI != target {
			t.Fatalf("got %s %q with %q, %v: want %s %q with %q", got.Method, got.RequestURI, data, err, method, target, body)
		}
		if rest, _ := io.ReadAll(r); len(rest) > 0 {
			t.Fatalf("%q follows the request", rest)
		}
		if values := got.Header.Values(name); len(values) != 1 {
			t.Fatalf("got %q for %q: want one value", values, name)
		}
	})
}
