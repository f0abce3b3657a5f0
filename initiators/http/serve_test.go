package http_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
	gateway "github.com/skybus-io/skybus/initiators/http"
)

func request(path, headers, body string) string {
	return "POST " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n" + body
}

// When Serve is told to stop it answers what is in flight, takes nothing new and returns nil.
func TestServeDrains(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.run(t)
	const n = 20
	answers := make(chan answer, n)
	for i := range n {
		go func() { answers <- post(t, "http://"+s.addr+"/wait", fmt.Sprint(i)) }()
	}
	bustest.Eventually(t, "all requests", func() bool { return h.waiting.Load() == n })
	idle := s.dial(t)
	s.stop()
	bustest.Eventually(t, "new connections to be refused", func() bool {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.addr)
		if err == nil {
			_ = c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	// It comes when the time for requests that were on their way is over.
	if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection without a request: %v", err)
	}
	select {
	case err := <-s.done:
		t.Fatalf("Serve returned %v with %d requests in flight", err, h.waiting.Load())
	default:
	}
	h.release()
	seen := map[string]bool{}
	for range n {
		a := bustest.Receive(t, "an answer", answers)
		if a.status != http.StatusOK {
			t.Errorf("%d %s", a.status, a.body)
		}
		seen[a.body] = true
	}
	if len(seen) != n {
		t.Errorf("%d different answers, want %d", len(seen), n)
	}
	begin := time.Now()
	if err := bustest.Receive(t, "the end of Serve", s.done); err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("Serve returned %v after the last answer", took)
	}
}

// Over HTTP/2 what is in flight is answered as well, and its connection takes nothing more.
func TestServeDrainsHTTP2(t *testing.T) {
	t.Parallel()
	h := build(t)
	from := httptest.NewUnstartedServer(nil) // for its certificate and a client that trusts it
	from.EnableHTTP2 = true
	from.StartTLS()
	t.Cleanup(from.Close)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	defer stop()
	g := h.gateway(t, gateway.Config{})
	done := make(chan error, 1)
	go func() {
		done <- g.ServeListener(ctx, l, gateway.Listener{TLS: &tls.Config{Certificates: from.TLS.Certificates}})
	}()
	ask := func(path, body string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+l.Addr().String()+path, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		return from.Client().Do(req)
	}
	const n = 10
	answers := make(chan answer, n)
	for i := range n {
		go func() {
			resp, err := ask("/wait", fmt.Sprint(i))
			if err != nil || resp.ProtoMajor != 2 {
				t.Errorf("%+v, %v", resp, err)
				answers <- answer{}
				return
			}
			answers <- read(t, resp)
		}()
	}
	bustest.Eventually(t, "all requests", func() bool { return h.waiting.Load() == n })
	stop()
	bustest.Eventually(t, "new requests to be refused", func() bool {
		resp, err := ask("/echo", "{}")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err != nil
	})
	h.release()
	for range n {
		if a := bustest.Receive(t, "an answer", answers); a.status != http.StatusOK {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if err := bustest.Receive(t, "the end of Serve", done); err != nil {
		t.Errorf("Serve returned %v", err)
	}
}

// Connections that nothing came on, as browsers open them ahead of need, and idle ones do not hold a stop up.
func TestServeStopsSoon(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.run(t)
	for range 3 {
		s.dial(t)
	}
	used := s.dial(t)
	if _, err := io.WriteString(used, request("/echo", "Content-Length: 2\r\n", "{}")); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(used), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	begin := time.Now()
	s.stop()
	if err := bustest.Receive(t, "the end of Serve", s.done); err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestServeListenerFails(t *testing.T) {
	t.Parallel()
	h := build(t)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.gateway(t, gateway.Config{}).Serve(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("error %v, want that of the listener", err)
	}
}

// A ctx that has ended before is a clean stop too, and the listener is closed.
func TestServeAlreadyOver(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.run(t)
	s.stop()
	if err := bustest.Receive(t, "the end of Serve", s.done); err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.addr); err == nil {
		_ = c.Close()
		t.Error("the listener is open")
	}
}

// rawTest is bytes on a connection and what is to come back.
type rawTest struct {
	text    string
	answers []int
	bodies  []string // of those that went well
}

// smuggling are requests that two servers might read as different ones, to an endpoint at path that answers with what it was sent.
func smuggling(path string) map[string]rawTest {
	inner := request(path, "Content-Length: 10\r\n", `"smuggled"`)
	return map[string]rawTest{
		"plain":                   {request(path, "Content-Length: 2\r\n", "{}"), []int{200}, []string{"{}"}},
		"pipelined":               {request(path, "Content-Length: 3\r\n", "[1]") + inner, []int{200, 200}, []string{"[1]", `"smuggled"`}},
		"chunked":                 {request(path, "Transfer-Encoding: chunked\r\n", "2\r\n[1\r\n1\r\n]\r\n0\r\n\r\n"), []int{200}, []string{"[1]"}},
		"trailers":                {request(path, "Transfer-Encoding: chunked\r\nTrailer: X\r\n", "2\r\n{}\r\n0\r\nX: y\r\n\r\n"), []int{200}, []string{"{}"}},
		"two lengths":             {request(path, "Content-Length: 2\r\nContent-Length: 3\r\n", "{} "), []int{400}, nil},
		"list of lengths":         {request(path, "Content-Length: 2, 3\r\n", "{} "), []int{400}, nil},
		"length with a plus":      {request(path, "Content-Length: +2\r\n", "{}"), []int{400}, nil},
		"negative length":         {request(path, "Content-Length: -2\r\n", "{}"), []int{400}, nil},
		"hexadecimal length":      {request(path, "Content-Length: 0x2\r\n", "{}"), []int{400}, nil},
		"huge length":             {request(path, "Content-Length: 99999999999999999999\r\n", "{}"), []int{400}, nil},
		"unknown encoding":        {request(path, "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"+inner), []int{501}, nil},
		"two encodings":           {request(path, "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"), []int{501}, nil},
		"list of encodings":       {request(path, "Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), []int{501}, nil},
		"space before the colon":  {request(path, "Content-Length : 2\r\n", "{}"), []int{400}, nil},
		"encoding with a space":   {request(path, "Transfer-Encoding : chunked\r\nContent-Length: 2\r\n", "{}"), []int{400}, nil},
		"NUL in a header":         {request(path, "X-A: a\x00b\r\nContent-Length: 2\r\n", "{}"), []int{400}, nil},
		"two hosts":               {request(path, "Host: other\r\nContent-Length: 2\r\n", "{}"), []int{400}, nil},
		"no host":                 {"POST " + path + " HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", []int{400}, nil},
		"bad chunk":               {request(path, "Transfer-Encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n"), []int{400}, nil},
		"chunk that overflows":    {request(path, "Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"), []int{400}, nil},
		"chunk without its end":   {request(path, "Transfer-Encoding: chunked\r\n", "2\r\n{}XX0\r\n\r\n"), []int{400}, nil},
		"body cut short":          {request(path, "Content-Length: 20\r\n", "{}"), []int{400}, nil},
		"another version":         {"POST " + path + " HTTP/3.0\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", []int{505}, nil},
		"HTTP/2 without a wish":   {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{405}, nil},
		"no HTTP":                 {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", []int{400}, nil},
		"method with a line":      {"POST\n" + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n", []int{400}, nil},
		"path with a space":       {"POST " + path + " x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", []int{400}, nil},
		"path with NUL":           {"POST " + path + "\x00 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", []int{400}, nil},
		"whole address":           {"POST http://elsewhere" + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", []int{421}, nil},
		"bare line feeds":         {"POST " + path + " HTTP/1.1\nHost: localhost\nContent-Length: 2\n\n{}", []int{200}, []string{"{}"}},
		"folded header":           {request(path, "X-A: a\r\n b\r\nContent-Length: 2\r\n", "{}"), []int{200}, []string{"{}"}},
		"upgrade":                 {request(path, "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n", "{}"), []int{200}, []string{"{}"}},
		"GET with a body":         {"GET /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + fmt.Sprint(len(inner)) + "\r\n\r\n" + inner, []int{404}, nil},
		"trace":                   {"TRACE " + path + " HTTP/1.1\r\nHost: localhost\r\nCookie: secret\r\n\r\n", []int{405}, nil},
		"connect":                 {"CONNECT elsewhere:25 HTTP/1.1\r\nHost: elsewhere:25\r\n\r\n", []int{421}, nil},
		"star":                    {"POST * HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", []int{400}, nil},
		"length and encoding":     {request(path, "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"), []int{200}, []string{"{}"}},
		"encoding, short length":  {request(path, "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", "0\r\n\r\n"+inner), []int{200, 200}, []string{"{}", `"smuggled"`}},
		"headers beyond the most": {request(path, "X-A: "+strings.Repeat("x", 32<<10)+"\r\nContent-Length: 2\r\n", "{}"), []int{431}, nil},
	}
}

// What two servers might read as different requests is refused, or what reaches the bus is framed anew: as many calls as
// answers, each with the body that its answer shows.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	for _, path := range doors() {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			smuggle(t, path)
		})
	}
}

// doors are paths by which the endpoint echo of the service app is reached.
func doors() []string { return []string{"/echo", "/v1/call/app/echo", "/entry/echo"} }

func smuggle(t *testing.T, path string) {
	t.Helper()
	h := build(t)
	s := h.runEntries(t, map[string]string{"echo": `{"path":"/entry/echo","method":"POST","call":"app.echo"}`})
	for name, tt := range smuggling(path) { // not parallel: they count calls
		before := h.calls.Load()
		answers := s.raw(t, tt.text, len(tt.answers), name == "body cut short")
		var statuses []int
		var bodies []string
		for _, a := range answers {
			statuses = append(statuses, a.status)
			if a.status == http.StatusOK {
				bodies = append(bodies, a.body)
			}
			if strings.Contains(a.body, "secret") {
				t.Errorf("%s: a header came back: %s", name, a.body)
			}
		}
		if fmt.Sprint(statuses) != fmt.Sprint(tt.answers) || fmt.Sprint(bodies) != fmt.Sprint(tt.bodies) {
			t.Errorf("%s: answered %v %q, want %v %q", name, statuses, bodies, tt.answers, tt.bodies)
		}
		if calls := h.calls.Load() - before; calls != int64(len(bodies)) {
			t.Errorf("%s: %d calls for %d good answers", name, calls, len(bodies))
		}
	}
}
