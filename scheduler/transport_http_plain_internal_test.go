package scheduler

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/internal/leanhttp"
)

// talk answers each request of each connection with the pieces that f has for the n-th of all, and then tells so. It waits for more, where that
// is not nil, before each piece but the first.
func talk(t *testing.T, more <-chan struct{}, f func(n int32) []string) (uri string, connections *atomic.Int32, told <-chan struct{}) {
	t.Helper()
	l := listen(t)
	var count, requests atomic.Int32
	done, all := make(chan struct{}), make(chan struct{}, 100)
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			go func() {
				defer conn.Close() //nolint:errcheck // nothing is left to be lost
				r := bufio.NewReader(conn)
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					for i, piece := range f(requests.Add(1)) {
						if i > 0 && more != nil {
							<-more
						}
						_, _ = io.WriteString(conn, piece)
					}
					all <- struct{}{}
				}
			}()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return "http://" + l.Addr().String() + "/", &count, all
}

// What a receiver says without being asked is not taken for the answer to the next request.
func TestPlainHTTPUnasked(t *testing.T) {
	t.Parallel()
	const good, bad = "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
	for name, pieces := range map[string][]string{
		"at once": {good + bad},
		"after":   {good, bad},
		"body":    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + bad},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, s := openTransports(t, Config{AllowNetworks: loopback()})
			more := make(chan struct{}, 1)
			uri, connections, told := talk(t, more, func(int32) []string { return pieces })
			for range 3 {
				if err := deliver(t, s, attempt(Target{URI: uri}, "x")); err != nil {
					t.Error(err)
				}
				if len(pieces) > 1 {
					more <- struct{}{}
				}
				<-told
			}
			if n := connections.Load(); n != 3 {
				t.Errorf("%d connections for 3 answers with something behind them", n)
			}
		})
	}
}

// Answers that announce the answer are none.
func TestPlainHTTPInterimAnswers(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{AllowNetworks: loopback()})
	const hint = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
	uri, connections, _ := talk(t, nil, func(n int32) []string {
		if n < 3 {
			return []string{"HTTP/1.1 100 Continue\r\n\r\n", hint + hint, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"}
		}
		return []string{strings.Repeat(hint, 100)}
	})
	for range 2 {
		if err := deliver(t, s, attempt(Target{URI: uri}, "x")); err != nil {
			t.Error(err)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections, want one", n)
	}
	if err := deliver(t, s, attempt(Target{URI: uri}, "x")); bus.CodeOf(err) != bus.Unavailable {
		t.Errorf("a hundred announcements: %v, want unavailable", err)
	}
}

// An answer that ends with its connection, or says that this one does, is one all the same.
func TestPlainHTTPLastAnswer(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{AllowNetworks: loopback()})
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
	} {
		uri, connections, _ := talk(t, nil, func(int32) []string { return []string{answer} })
		for range 2 {
			if err := deliver(t, s, attempt(Target{URI: uri}, "x")); err != nil {
				t.Errorf("%q: %v", answer, err)
			}
		}
		if n := connections.Load(); n != 2 {
			t.Errorf("%q: %d connections, want 2", answer, n)
		}
	}
}

func TestHTTPPayloads(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{AllowNetworks: loopback()})
	got := make(chan int, 1)
	srv := receive(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- strings.Count(string(body), "x")
	})
	early := receive(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) })
	for _, size := range []int{0, 1, 32 << 10, 64 << 10, 64<<10 + 1, MaxPayload} {
		if err := deliver(t, s, attempt(Target{URI: srv.URL}, strings.Repeat("x", size))); err != nil {
			t.Error(err)
		} else if n := <-got; n != size {
			t.Errorf("%d bytes of %d arrived", n, size)
		}
		err := deliver(t, s, attempt(Target{URI: early.URL}, strings.Repeat("x", size)))
		if e := failed(t, err); e.Status != http.StatusRequestEntityTooLarge {
			t.Errorf("%d bytes that are refused unread: %v", size, err)
		}
	}
}

// pipes are connections without a network, each with somebody who answers.
func pipes() (dial func(context.Context, string, string) (net.Conn, error), open *atomic.Int32) {
	open = new(atomic.Int32)
	return func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		open.Add(1)
		go func() {
			defer open.Add(-1)
			r := bufio.NewReader(server)
			for {
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				if _, err := io.WriteString(server, "HTTP/1.1 204 No Content\r\n\r\n"); err != nil {
					return
				}
			}
		}()
		return client, nil
	}, open
}

// Connections are kept for so many addresses, and those in use in any case.
func TestPlainHTTPKeeps(t *testing.T) {
	t.Parallel()
	dial, open := pipes()
	p := newPlainHTTP(dial, 2)
	ask := func(address string) {
		t.Helper()
		if status, _, err := p.do(t.Context(), address, &leanhttp.Request{Method: http.MethodGet, Target: "/"}); err != nil || status != http.StatusNoContent {
			t.Fatalf("%d, %v", status, err)
		}
	}
	used, err := p.client("used:80")
	if err != nil {
		t.Fatal(err)
	}
	ask("first:80")
	ask("first:80")
	if n := open.Load(); n != 1 {
		t.Errorf("%d connections are open, want one", n)
	}
	for i := range maxClients {
		ask("host-" + strconv.Itoa(i) + ":80")
	}
	if len(p.clients) != maxClients || p.clients["used:80"] != used || p.clients["first:80"] != nil {
		t.Errorf("%d addresses are known, in use %t, the first %t", len(p.clients), p.clients["used:80"] == used, p.clients["first:80"] != nil)
	}
	bustest.Eventually(t, "the others to be closed", func() bool { return open.Load() == maxClients-1 })
	p.release(used)
	p.close()
	bustest.Eventually(t, "all to be closed", func() bool { return open.Load() == 0 })
	if _, _, err := p.do(t.Context(), "first:80", &leanhttp.Request{Method: http.MethodGet, Target: "/"}); !errors.Is(err, leanhttp.ErrClosed) {
		t.Errorf("a request after the end: %v", err)
	}
}

// What net/http would send as it is does not become another request.
func TestPlainHTTPTarget(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{AllowNetworks: loopback()})
	got := make(chan string, 1)
	srv := receive(t, func(_ http.ResponseWriter, r *http.Request) { got <- r.RequestURI })
	for uri, want := range map[string]string{
		"":            "/",
		"?a=b c":      "/?a=b%20c",
		"/a%20b?c#d":  "/a%20b?c",
		"/\u00e4?x=1": "/%C3%A4?x=1",
		"//a/../b":    "//a/../b",
	} {
		if err := deliver(t, s, attempt(Target{URI: srv.URL + uri}, "x")); err != nil {
			t.Errorf("%q: %v", uri, err)
		} else if path := <-got; path != want {
			t.Errorf("%q: %q, want %q", uri, path, want)
		}
	}
}
