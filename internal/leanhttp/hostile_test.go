package leanhttp_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/internal/leanhttp"
)

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// hostileAnswer is what a backend says to a request, and what must become of it.
type hostileAnswer struct {
	name   string
	answer string
	cut    bool   // the backend closes the connection behind it
	method string // GET if empty

	status int // 0: an error
	body   string
	again  bool // the connection may be used again
}

func hostileAnswers() []hostileAnswer {
	return slices.Concat(goodAnswers(), brokenAnswers(), malformedHeads(), malformedBodies())
}

// goodAnswers are answers, with what may follow them.
func goodAnswers() []hostileAnswer {
	return []hostileAnswer{
		{name: "plain", answer: ok, status: 200, body: "ok", again: true},
		{name: "no reason", answer: "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", status: 200, body: "ok", again: true},
		{name: "unknown status", answer: "HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n", status: 799, again: true},
		{name: "same length twice", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\nok", status: 200, body: "ok", again: true},
		{name: "chunked", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1;a=b\r\no\r\n1\r\nk\r\n0\r\n\r\n", status: 200, body: "ok", again: true},
		{name: "trailers", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\nC: d\r\n\r\n", status: 200, body: "ok", again: true},
		{name: "until close", answer: "HTTP/1.1 200 OK\r\n\r\nok", cut: true, status: 200, body: "ok"},
		{name: "close", answer: "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok", status: 200, body: "ok"},
		{name: "1.0", answer: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", status: 200, body: "ok"},
		{name: "1.0 that stays", answer: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", status: 200, body: "ok", again: true},
		{name: "100", answer: "HTTP/1.1 100 Continue\r\n\r\n" + ok, status: 200, body: "ok", again: true},
		{name: "103", answer: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok, status: 200, body: "ok", again: true},
		{name: "8 of 1xx", answer: strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 8) + ok, status: 200, body: "ok", again: true},
		{name: "9 of 1xx", answer: strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 9) + ok},
		{name: "101", answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"},
		{name: "204", answer: "HTTP/1.1 204 No Content\r\n\r\n", status: 204, again: true},
		{name: "204 with a body", answer: "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", status: 204},
		{name: "204 in chunks", answer: "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", status: 204},
		{name: "304", answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", status: 304, again: true},
		{name: "304 with a body", answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok", status: 304},
		{name: "HEAD", method: http.MethodHead, answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", status: 200, again: true},
		{name: "HEAD in chunks", method: http.MethodHead, answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", status: 200, again: true},
		{name: "HEAD with a body", method: http.MethodHead, answer: ok, status: 200},
		{name: "garbage behind", answer: ok + "x", status: 200, body: "ok"},
		{name: "two answers", answer: ok + ok, status: 200, body: "ok"},
	}
}

// brokenAnswers are none, or too much of one, or not the whole of it.
func brokenAnswers() []hostileAnswer {
	return []hostileAnswer{
		{name: "nothing", cut: true},
		{name: "garbage", answer: "\x16\x03\x01\x02\x00\x01\r\n\r\n"},
		{name: "HTTP/2", answer: "HTTP/2 200 OK\r\n\r\n"},
		{name: "HTTP/1.2", answer: "HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{name: "HTTP/0.9", answer: "hello\r\n\r\n", cut: true},
		{name: "lower case", answer: "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{name: "empty line first", answer: "\r\n" + ok},
		{name: "status of two digits", answer: "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"},
		{name: "status of four digits", answer: "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"},
		{name: "signed status", answer: "HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n"},
		{name: "status 099", answer: "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"},
		{name: "NUL in the reason", answer: "HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n"},
		{name: "CR in the reason", answer: "HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n"},
		{name: "endless status line", answer: "HTTP/1.1 200 " + strings.Repeat("O", 80<<10)},
		{name: "endless line", answer: "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", 80<<10)},
		{name: "endless header", answer: "HTTP/1.1 200 OK\r\n" + strings.Repeat("Abcdefgh: ijklmnopqrstuvwxyz\r\n", 4<<10)},
		{name: "many fields", answer: "HTTP/1.1 200 OK\r\n" + strings.Repeat("A:\r\n", 1001) + "\r\n"},
		{name: "cut in the status line", answer: "HTTP/1.1 20", cut: true},
		{name: "cut in the header", answer: "HTTP/1.1 200 OK\r\nContent-Le", cut: true},
		{name: "cut before the empty line", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", cut: true},
		{name: "cut in the body", answer: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", cut: true},
		{name: "cut in a chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nok", cut: true},
		{name: "cut before the last chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", cut: true},
		{name: "cut before the end of trailers", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", cut: true},
		{name: "cut in the trailers", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b", cut: true},
	}
}

// malformedHeads have lines that could be understood in two ways.
func malformedHeads() []hostileAnswer {
	return []hostileAnswer{
		{name: "bare LF", answer: "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"},
		{name: "bare LF behind a field", answer: "HTTP/1.1 200 OK\r\nA: b\nContent-Length: 2\r\n\r\nok"},
		{name: "bare LF as the empty line", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok"},
		{name: "CR in a value", answer: "HTTP/1.1 200 OK\r\nA: b\rC: d\r\nContent-Length: 2\r\n\r\nok"},
		{name: "NUL in a value", answer: "HTTP/1.1 200 OK\r\nA: b\x00\r\nContent-Length: 2\r\n\r\nok"},
		{name: "NUL in a name", answer: "HTTP/1.1 200 OK\r\nA\x00: b\r\nContent-Length: 2\r\n\r\nok"},
		{name: "space before the colon", answer: "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"},
		{name: "no colon", answer: "HTTP/1.1 200 OK\r\nContent-Length 2\r\n\r\nok"},
		{name: "no name", answer: "HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 2\r\n\r\nok"},
		{name: "folded line", answer: "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nok"},
		{name: "folded line first", answer: "HTTP/1.1 200 OK\r\n A: b\r\nContent-Length: 2\r\n\r\nok"},
	}
}

// malformedBodies do not say for certain where they end.
func malformedBodies() []hostileAnswer {
	return []hostileAnswer{
		{name: "two lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 1\r\n\r\nok"},
		{name: "two lengths in one", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok"},
		{name: "no length", answer: "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok"},
		{name: "negative length", answer: "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok"},
		{name: "signed length", answer: "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"},
		{name: "length in hex", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok"},
		{name: "length that overflows", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nok"},
		{name: "length that overflows twice", answer: "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok"},
		{name: "length and chunks", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
		{name: "chunks and length", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
		{name: "unknown encoding", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
		{name: "identity", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok", cut: true},
		{name: "hidden encoding", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: \vchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
		{name: "two encodings", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
		{name: "chunks in 1.0", answer: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
		{name: "chunk size in words", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n"},
		{name: "no chunk size", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nok\r\n0\r\n\r\n"},
		{name: "negative chunk size", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n"},
		{name: "chunk size that overflows", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\nok\r\n0\r\n\r\n"},
		{name: "chunk that is longer", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n"},
		{name: "bare LF behind a chunk size", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n"},
		{name: "endless chunk size", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;" + strings.Repeat("x", 80<<10)},
		{name: "endless trailers", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" + strings.Repeat("A: b\r\n", 16<<10)},
		{name: "malformed trailers", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA b\r\n\r\n"},
		{name: "bare LF in trailers", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\n\r\n"},
	}
}

// TestHostileAnswers asks twice, by Do and by Open: the second tells whether the connection was used again.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range hostileAnswers() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, streamed := range []bool{false, true} {
				serve := says(c.answer)
				if c.cut {
					serve = saysOnce(c.answer)
				}
				b := listen(t, serve)
				cl := client(t, b.addr, leanhttp.Config{})
				req := get()
				if c.method != "" {
					req.Method = c.method
				}
				for range 2 {
					var status int
					var body string
					var err error
					if streamed {
						status, body, err = read(t.Context(), cl, req)
					} else if resp, derr := cl.Do(t.Context(), req); derr == nil {
						status, body = resp.Status, string(resp.Body)
					} else {
						err = derr
					}
					checkHostile(t, status, body, err, c.status, c.body)
				}
				want := int64(2)
				if c.again {
					want = 1
				}
				if got := b.conns.Load(); got != want {
					t.Errorf("streamed %v: got %d connections for two requests: want %d", streamed, got, want)
				}
			}
		})
	}
}

func checkHostile(t *testing.T, status int, body string, err error, wantStatus int, wantBody string) {
	t.Helper()
	if wantStatus != 0 {
		if err != nil || status != wantStatus || body != wantBody {
			t.Errorf("got %d, %q, %v: want %d, %q", status, body, err, wantStatus, wantBody)
		}
		return
	}
	e, typed := errors.AsType[*leanhttp.Error](err)
	if !typed || !e.Sent || e.Timeout() || leanhttp.NotSent(err) {
		t.Errorf("got %d, %q, %v: want an error at once, of a request that was sent", status, body, err)
	}
	if !errors.Is(err, leanhttp.ErrResponse) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !isReset(err) {
		t.Errorf("got %v: want a malformed response or an end", err)
	}
}

func isReset(err error) bool {
	_, ok := errors.AsType[*net.OpError](err)
	return ok
}

// TestEndlessBody: what is kept of a body is bounded.
func TestEndlessBody(t *testing.T) {
	t.Parallel()
	for name, head := range map[string]string{
		"length":  "Content-Length: 9223372036854775807\r\n\r\n",
		"chunks":  "Transfer-Encoding: chunked\r\n\r\n7fffffff\r\n",
		"no head": "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := listen(t, func(p *peer) {
				if _, _, ok := p.request(); !ok {
					return
				}
				p.say("HTTP/1.1 200 OK\r\n" + head)
				data := strings.Repeat("x", 64<<10)
				for {
					if _, err := io.WriteString(p.Conn, data); err != nil {
						p.b.closed.Add(1)
						return
					}
				}
			})
			resp, err := client(t, b.addr, leanhttp.Config{MaxAnswerBody: 1000}).Do(t.Context(), get())
			if err != nil || !resp.Truncated || len(resp.Body) != 1000 {
				t.Fatalf("got %v, %v: want 1000 bytes", resp, err)
			}
			until(t, "the connection is closed", func() bool { return b.closed.Load() == 1 })
		})
	}
}

// TestBodyOfTheLimit is not truncated.
func TestBodyOfTheLimit(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"} {
		resp, err := client(t, listen(t, says(answer)).addr, leanhttp.Config{MaxAnswerBody: 2}).Do(t.Context(), get())
		if err != nil || resp.Truncated || string(resp.Body) != "ok" {
			t.Errorf("got %v, %v: want ok", resp, err)
		}
	}
}

// TestSlowAnswers: a backend that drips keeps nobody beyond the deadline.
func TestSlowAnswers(t *testing.T) {
	t.Parallel()
	for _, begin := range []string{"", "HTTP/1.1 200 ", "HTTP/1.1 200 OK\r\nA: ", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"} {
		b := listen(t, func(p *peer) {
			if _, _, ok := p.request(); !ok {
				return
			}
			p.say(begin)
			for begin != "" {
				if _, err := io.WriteString(p.Conn, "x"); err != nil {
					break
				}
				time.Sleep(5 * time.Millisecond) // it drips
			}
			p.hung()
		})
		req := get()
		start := time.Now()
		req.Deadline = start.Add(100 * time.Millisecond)
		_, err := client(t, b.addr, leanhttp.Config{}).Do(t.Context(), req)
		if e, ok := errors.AsType[*leanhttp.Error](err); !ok || !e.Timeout() || !e.Sent {
			t.Errorf("%q: got %v: want a timeout", begin, err)
		}
		if took := time.Since(start); took > patience/2 {
			t.Errorf("%q: took %v", begin, took)
		}
		until(t, "the connection is closed", func() bool { return b.closed.Load() == 1 })
	}
}
