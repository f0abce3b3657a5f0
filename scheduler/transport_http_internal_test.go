package scheduler

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
)

// receive is a receiver on loopback.
func receive(t testing.TB, f http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	return srv
}

func TestHTTPRequest(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{AllowNetworks: loopback()})
	type request struct {
		Method, URL, Body string
		Header            http.Header
	}
	got := make(chan request, 1)
	srv := receive(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- request{r.Method, r.URL.String(), string(body), r.Header}
		w.WriteHeader(http.StatusNoContent)
	})
	d := attempt(Target{URI: srv.URL + "/hook?a=b", Method: "put"}, `{"n":1}`)
	d.Header = map[string]string{"x-tenant": "acme", "Authorization": "Bearer abc", "user-agent": "mine/1"}
	if err := deliver(t, s, d); err != nil {
		t.Fatal(err)
	}
	want := request{"PUT", "/hook?a=b", `{"n":1}`, http.Header{
		"Content-Type": {"application/json"}, "Content-Length": {"7"}, "X-Tenant": {"acme"}, "Authorization": {"Bearer abc"}, "User-Agent": {"mine/1"},
		"Idempotency-Key": {"t1-gen-1"}, "Skybus-Timer-Id": {"t1"}, "Skybus-Attempt": {"2"},
		"Skybus-Due": {"2026-05-01T12:00:00.000000001Z"}, "Skybus-Fired": {"2026-05-01T12:00:00.001000001Z"},
	}}
	if diff := cmp.Diff(want, <-got); diff != "" {
		t.Error(diff)
	}
	d = attempt(Target{URI: srv.URL}, "")
	d.ContentType = ""
	if err := deliver(t, s, d); err != nil {
		t.Fatal(err)
	}
	if r := <-got; r.Method != "POST" || r.Body != "" || r.Header.Get("Content-Type") != "" || !strings.HasPrefix(r.Header.Get("User-Agent"), "skybus") {
		t.Errorf("without payload and method: %+v", r)
	}
	d = attempt(Target{URI: srv.URL}, "raw")
	d.ContentType = ""
	if err := deliver(t, s, d); err != nil {
		t.Fatal(err)
	}
	if r := <-got; r.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("without content type: %+v", r)
	}
}

func TestHTTPAnswers(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{AllowNetworks: loopback()})
	var elsewhere atomic.Int32
	srv := receive(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			elsewhere.Add(1)
			return
		}
		w.Header().Set("Retry-After", r.URL.Query().Get("after"))
		w.Header().Set("Date", "Fri, 01 May 2026 12:00:00 GMT")
		w.Header().Set("Location", "/elsewhere")
		var status int
		_, _ = fmt.Sscan(strings.TrimPrefix(r.URL.Path, "/"), &status)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "canary of the body")
	})
	for _, tt := range []struct {
		path string
		want DeliveryError // without Err
		code bus.Code      // empty means success
	}{
		{path: "/200"},
		{path: "/202"},
		{path: "/299"},
		{"/301", DeliveryError{Status: 301, Unharmed: true}, bus.FailedPrecondition},
		{"/302", DeliveryError{Status: 302, Unharmed: true}, bus.FailedPrecondition},
		{"/307", DeliveryError{Status: 307, Unharmed: true}, bus.FailedPrecondition},
		{"/400", DeliveryError{Status: 400, Unharmed: true}, bus.InvalidArgument},
		{"/401", DeliveryError{Status: 401, Unharmed: true}, bus.Unauthenticated},
		{"/404", DeliveryError{Status: 404, Unharmed: true}, bus.NotFound},
		{"/408", DeliveryError{Status: 408}, bus.DeadlineExceeded},
		{"/410", DeliveryError{Status: 410, Unharmed: true, Permanent: true}, bus.NotFound},
		{"/429", DeliveryError{Status: 429}, bus.ResourceExhausted},
		{"/429?after=7", DeliveryError{Status: 429, RetryAfter: 7 * time.Second}, bus.ResourceExhausted},
		{"/503?after=Fri,+01+May+2026+12:01:00+GMT", DeliveryError{Status: 503, RetryAfter: time.Minute}, bus.Unavailable},
		{"/503?after=Fri,+01+May+2026+11:00:00+GMT", DeliveryError{Status: 503}, bus.Unavailable},
		{"/503?after=-5", DeliveryError{Status: 503}, bus.Unavailable},
		{"/503?after=99999999999999999999", DeliveryError{Status: 503, RetryAfter: MaxRetryAge}, bus.Unavailable},
		{"/500?after=7", DeliveryError{Status: 500, Unharmed: true}, bus.Internal},
		{"/502", DeliveryError{Status: 502}, bus.Unavailable},
		{"/599", DeliveryError{Status: 599}, bus.Unknown},
		{"/999", DeliveryError{Status: 999}, bus.Unknown},
	} {
		err := deliver(t, s, attempt(Target{URI: srv.URL + tt.path}, "x"))
		if tt.code == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.path, err)
			}
			continue
		}
		got := *failed(t, err)
		got.Err = nil
		if diff := cmp.Diff(tt.want, got); diff != "" || bus.CodeOf(err) != tt.code {
			t.Errorf("%s: %v, code %s, want %s\n%s", tt.path, err, bus.CodeOf(err), tt.code, diff)
		}
		if strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "after=") {
			t.Errorf("%s: %v tells too much", tt.path, err)
		}
	}
	if n := elsewhere.Load(); n > 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

// rawReceiver answers each connection with what f writes.
func rawReceiver(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l := listen(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			f(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return "http://" + l.Addr().String() + "/?token=canary"
}

func TestHTTPBadReceivers(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{AllowNetworks: loopback()})
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for _, tt := range []struct {
		name string
		uri  string
		code bus.Code
		text string
	}{
		{"refuses", closed.URL + "/?token=canary", bus.Unavailable, "refused"},
		{"resets", rawReceiver(t, func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }), bus.Unavailable, "connection"},
		{"closes", rawReceiver(t, func(net.Conn) {}), bus.Unavailable, "closed by the other side"},
		{"speaks something else", rawReceiver(t, func(c net.Conn) { _, _ = io.WriteString(c, "+OK canary\r\n\r\n") }), bus.Unavailable, "no HTTP answer"},
		{"large header", rawReceiver(t, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+strings.Repeat("X-Canary: "+strings.Repeat("a", 1000)+"\r\n", 1000)+"\r\n")
		}), bus.Unavailable, "too large"},
		{"half a header", rawReceiver(t, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Can") }), bus.Unavailable, "closed by the other side"},
	} {
		err := deliver(t, s, attempt(Target{URI: tt.uri}, "x"))
		e := failed(t, err)
		if e.Status != 0 || e.Permanent || e.Unharmed || bus.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.text) || strings.Contains(strings.ToLower(err.Error()), "canary") {
			t.Errorf("%s: %v %+v: want %s", tt.name, err, e, tt.code)
		}
	}
}

func TestHTTPSlowReceiver(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{AllowNetworks: loopback()})
	gone := make(chan struct{}, 1)
	srv := receive(t, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		gone <- struct{}{}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	transport := s.transports["http"]
	err := transport.Deliver(ctx, attempt(Target{URI: srv.URL + "/?token=canary"}, ""))
	if e := failed(t, err); bus.CodeOf(err) != bus.DeadlineExceeded || e.Unharmed || e.Permanent || strings.Contains(err.Error(), "canary") {
		t.Errorf("%v, want deadline_exceeded", err)
	}
	<-gone
	ctx, stop := context.WithCancel(t.Context())
	stop()
	err = transport.Deliver(ctx, attempt(Target{URI: srv.URL}, ""))
	if e := failed(t, err); bus.CodeOf(err) != bus.Canceled || !e.Unharmed {
		t.Errorf("%v, want canceled", err)
	}
}

// TestHTTPEndlessBody: the status has said what came of it, and what follows does not hold a place.
func TestHTTPEndlessBody(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{AllowNetworks: loopback()})
	var sent atomic.Int64
	left := make(chan struct{}, 2)
	srv := receive(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		chunk := make([]byte, 32<<10)
		for r.URL.Path == "/flood" {
			n, err := w.Write(chunk)
			sent.Add(int64(n))
			if err != nil {
				break
			}
		}
		<-r.Context().Done() // drips nothing
		left <- struct{}{}
	})
	for _, path := range []string{"/flood", "/drip"} {
		begin := time.Now()
		if err := deliver(t, s, attempt(Target{URI: srv.URL + path}, "")); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		<-left
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%s: held for %v", path, took)
		}
	}
	if n := sent.Load(); n > 64<<20 { // what fits into the system's buffers, and not 10 GB
		t.Errorf("%d bytes were read", n)
	}
}

func TestHTTPKeepsConnections(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{AllowNetworks: loopback()})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "thanks") }))
	var connections atomic.Int32
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	for range 20 {
		if err := deliver(t, s, attempt(Target{URI: srv.URL}, "x")); err != nil {
			t.Fatal(err)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections for 20 deliveries", n)
	}
	srv.CloseClientConnections()
	if err := deliver(t, s, attempt(Target{URI: srv.URL}, "x")); err != nil {
		t.Errorf("after the receiver closed an idle connection: %v", err)
	}
}

func TestHTTPOverTLS(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{AllowNetworks: loopback()})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			w.WriteHeader(http.StatusHTTPVersionNotSupported)
		}
	}))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	err := deliver(t, s, attempt(Target{URI: srv.URL}, ""))
	if bus.CodeOf(err) != bus.Unavailable || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("%v, want an unknown authority", err)
	}
	transport := s.transports["http"].(*httpTransport)
	if transport.client.Proxy != nil || transport.fresh.Proxy != nil {
		t.Error("a proxy is used, which would dial in place of the guard")
	}
	transport.client.TLSClientConfig.RootCAs = x509.NewCertPool()
	transport.client.TLSClientConfig.RootCAs.AddCert(srv.Certificate())
	if err := deliver(t, s, attempt(Target{URI: srv.URL, Transport: "https"}, "")); err != nil {
		t.Error(err)
	}
}

// TestHTTPRefuses has deliveries of timers that were not stored by Create, or under another configuration.
func TestHTTPRefuses(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{})
	var called atomic.Int32
	srv := receive(t, func(http.ResponseWriter, *http.Request) { called.Add(1) })
	for _, tt := range []struct {
		name      string
		target    Target
		header    map[string]string
		permanent bool
	}{
		{"loopback", Target{URI: srv.URL}, nil, false},
		{"port", Target{URI: "http://127.0.0.1:22/"}, nil, false},
		{"password", Target{URI: strings.Replace(srv.URL, "://", "://u:canary@", 1)}, nil, true},
		{"scheme", Target{URI: "ftp://127.0.0.1/"}, nil, true},
		{"method", Target{URI: srv.URL, Method: "CONNECT"}, nil, true},
		{"header", Target{URI: srv.URL}, map[string]string{"Host": "canary"}, true},
	} {
		d := attempt(tt.target, "x")
		d.Header = tt.header
		err := s.transports["http"].Deliver(t.Context(), d)
		if e := failed(t, err); e.Permanent != tt.permanent || !e.Unharmed || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %+v", tt.name, e)
		}
	}
	if n := called.Load(); n > 0 {
		t.Errorf("%d requests got through", n)
	}
	z := &zone{}
	z.set("rebinds.example", "127.0.0.1")
	g := testGuard(t, z, nil)
	transport := newHTTPTransport(g, newSigners(s.conn), 1)
	closing(t, transport)
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	err := transport.Deliver(t.Context(), attempt(Target{URI: "http://rebinds.example:" + port + "/"}, "x"))
	if e := failed(t, err); e.Permanent || !e.Unharmed || bus.CodeOf(err) != bus.PermissionDenied || !strings.Contains(err.Error(), "--allow-network 127.0.0.0/8") {
		t.Errorf("%v %+v: want it refused", err, e)
	}
	err = transport.Deliver(t.Context(), attempt(Target{URI: "http://nobody.example/"}, "x"))
	if e := failed(t, err); e.Permanent || e.Unharmed || bus.CodeOf(err) != bus.Unavailable || !strings.Contains(err.Error(), "no such host") {
		t.Errorf("%v %+v: want no such host", err, e)
	}
}

func TestHTTPDestination(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{})
	for uri, want := range map[string]string{
		"http://Example.com/a?b":    "example.com:80",
		"https://example.com":       "example.com:443",
		"http://example.com:8080/x": "example.com:8080",
		"http://[2606:4700::1]/":    "[2606:4700::1]:80",
		"http://%":                  "",
	} {
		if got := s.transports["http"].(Destinationer).Destination(Target{URI: uri}); got != want {
			t.Errorf("%s: %q, want %q", uri, got, want)
		}
	}
}

func TestConnectionFailureTellsNoAnswer(t *testing.T) {
	t.Parallel()
	err := httpFailure(t.Context(), errors.New(`net/http: HTTP/1.x transport connection broken: malformed HTTP status code "canary"`))
	if strings.Contains(err.Error(), "canary") {
		t.Error(err)
	}
}
