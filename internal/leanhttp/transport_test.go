package leanhttp_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/skybus-io/skybus/internal/leanhttp"
)

func transport(t *testing.T, cfg leanhttp.Config) *leanhttp.Transport {
	t.Helper()
	tr, err := leanhttp.NewTransport(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return tr
}

func do(t *testing.T, tr http.RoundTripper, method, link, body string, header http.Header) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, link, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(data)
}

// TestTransportAsHTTP compares all of an answer with that of net/http's transport.
func TestTransportAsHTTP(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/trailers" {
			w.Header().Set("Trailer", "A, B")
			w.Header()["Date"] = nil
			_, _ = io.WriteString(w, "ok") // the test compares
			w.Header().Set("A", "1")
			w.Header().Add("B", "2")
			w.Header().Add("B", "3")
			return
		}
		w.Header()["Date"] = nil
		w.Header()["Set-Cookie"] = []string{"a=b", "c=d"}
		echo(w, r)
		fmt.Fprint(w, r.Header)
	}))
	defer s.Close()
	tr, other := transport(t, leanhttp.Config{}), &http.Transport{DisableCompression: true}
	defer other.CloseIdleConnections()
	for _, c := range []struct{ method, target, body string }{
		{"GET", "", ""},
		{"GET", "/a%2Fb?c=d", ""},
		{"PUT", "/a", "body"},
		{"POST", "/a", ""},
		{"HEAD", "/a", ""},
		{"DELETE", "/a", ""},
		{"GET", "/trailers", ""},
	} {
		header := func() http.Header {
			return http.Header{"User-Agent": {""}, "X-A": {"1", "2"}, "Idempotency-Key": {"k"}}
		}
		got, gotBody := do(t, tr, c.method, s.URL+c.target, c.body, header())
		want, wantBody := do(t, other, c.method, s.URL+c.target, c.body, header())
		if gotBody != wantBody {
			t.Errorf("%s %s: got body %q: want %q", c.method, c.target, gotBody, wantBody)
		}
		about := func(r *http.Response) string {
			return fmt.Sprint(r.Status, r.StatusCode, r.Proto, r.Header, r.ContentLength, r.TransferEncoding, r.Trailer, r.Close, r.Uncompressed)
		}
		if about(got) != about(want) {
			t.Errorf("%s %s: got %s: want %s", c.method, c.target, about(got), about(want))
		}
	}
}

// TestTransportFallsBack: what a client does not do, net/http's transport does.
func TestTransportFallsBack(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(echo))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	var dials atomic.Int64
	tr := transport(t, leanhttp.Config{
		TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	})
	resp, body := do(t, tr, http.MethodPut, s.URL+"/a", "x", nil)
	if resp.ProtoMajor != 2 || !strings.HasSuffix(body, " x") || dials.Load() != 1 {
		t.Errorf("got %s, %q after %d dials: want HTTP/2 by the dial function", resp.Proto, body, dials.Load())
	}

	plain := serveEcho(t)
	if _, body = do(t, tr, http.MethodPut, "http://"+plain, "x", http.Header{"Expect": {"100-continue"}}); !strings.HasSuffix(body, " x") {
		t.Errorf("got %q to a request that expects 100", body)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+plain, io.MultiReader(strings.NewReader("a"), strings.NewReader("b")))
	if err != nil {
		t.Fatal(err)
	}
	streamed, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = streamed.Body.Close() }()
	if data, err := io.ReadAll(streamed.Body); err != nil || !strings.HasSuffix(string(data), " ab") {
		t.Errorf("got %q, %v to a body of unknown length", data, err)
	}
}

// TestTransportUpgrades through a proxy of the standard library, which needs a body that can be written to.
func TestTransportUpgrades(t *testing.T) {
	t.Parallel()
	b := listen(t, func(p *peer) {
		if req, _, ok := p.request(); ok && req.Header.Get("Upgrade") == "echo" {
			p.say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			line, _ := p.r.ReadString('\n')
			p.say(line)
		}
	})
	tr := transport(t, leanhttp.Config{})
	target := &url.URL{Scheme: "http", Host: b.addr}
	front := httptest.NewServer(&httputil.ReverseProxy{Transport: tr, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
	defer front.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := front.Client().Transport.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v: want 101", resp, err)
	}
	defer func() { _ = resp.Body.Close() }()
	rw, ok := resp.Body.(io.ReadWriter)
	if !ok {
		t.Fatal("nothing to write to")
	}
	_, _ = io.WriteString(rw, "hello\n") // the answer says
	got := make([]byte, len("hello\n"))
	if _, err := io.ReadFull(rw, got); err != nil || string(got) != "hello\n" {
		t.Errorf("got %q, %v: want it back", got, err)
	}
}

// TestTransportErrors: a request is refused before anything is sent, and its body is closed in every case.
func TestTransportErrors(t *testing.T) {
	t.Parallel()
	tr := transport(t, leanhttp.Config{})
	addr := serveEcho(t)
	for name, change := range map[string]func(*http.Request){
		"header":     func(r *http.Request) { r.Header["A"] = []string{"b\r\nc: d"} },
		"short body": func(r *http.Request) { r.ContentLength++ },
	} {
		body := &closed{Reader: strings.NewReader("x")}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr, body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = 1
		change(req)
		resp, err := tr.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if !leanhttp.NotSent(err) || !body.closed {
			t.Errorf("%s: got %v, body closed: %v", name, err, body.closed)
		}
	}
	_ = tr.Close()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr, http.NoBody)
	resp, err := tr.RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, leanhttp.ErrClosed) {
		t.Errorf("got %v: want that it is closed", err)
	}
}

type closed struct {
	io.Reader

	closed bool
}

func (c *closed) Close() error {
	c.closed = true
	return nil
}

func BenchmarkTransport(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a body of known length
		_, _ = io.WriteString(w, "1024")   // nobody compares
	}))
	defer s.Close()
	body := strings.Repeat("x", 1024)
	c := client(b, s.Listener.Addr().String(), leanhttp.Config{})
	b.Run("leanhttp.Client", func(b *testing.B) {
		b.ReportAllocs()
		req := put([]byte(body))
		for b.Loop() {
			if _, err := c.Do(context.WithoutCancel(b.Context()), req); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("leanhttp.Client, ctx that can end", func(b *testing.B) {
		b.ReportAllocs()
		req := put([]byte(body))
		for b.Loop() {
			if _, err := c.Do(b.Context(), req); err != nil {
				b.Fatal(err)
			}
		}
	})
	lean, err := leanhttp.NewTransport(leanhttp.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = lean.Close() }()
	plain := &http.Transport{DisableCompression: true}
	defer plain.CloseIdleConnections()
	for name, tr := range map[string]http.RoundTripper{"leanhttp.Transport": lean, "http.Transport": plain} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				req, err := http.NewRequestWithContext(b.Context(), http.MethodPut, s.URL, strings.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				resp, err := tr.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body) // four bytes
				_ = resp.Body.Close()
			}
		})
	}
}
