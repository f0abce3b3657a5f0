package httpx_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/internal/httpx"
	"github.com/skybus-io/skybus/internal/leanhttp"
)

const patience = 20 * time.Second

// seen is a request as a backend got it.
type seen struct {
	Method, Target, Host, Body string
	Header                     http.Header
}

// proxy is a proxy made of what this package has for one, in front of a backend that notes what reaches it.
type proxy struct {
	addr string

	mu  sync.Mutex
	all []seen
}

const bodyLimit = 1000

func startProxy(t *testing.T, rules httpx.Rules, trusted bool) *proxy {
	t.Helper()
	p := &proxy{}
	backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // the test compares
		p.mu.Lock()
		defer p.mu.Unlock()
		p.all = append(p.all, seen{r.Method, r.RequestURI, r.Host, string(body), r.Header})
	}))
	t.Cleanup(backend.Close)
	c, err := leanhttp.New(backend.Listener.Addr().String(), leanhttp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(rules.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, problem := httpx.ReadBody(w, r, bodyLimit)
		if problem != nil {
			problem.Write(w)
			return
		}
		h := r.Header.Clone()
		httpx.RemoveHopByHop(h)
		httpx.RemovePrefix(h, "Skybus-", "Skybus-Min-Seq")
		httpx.SetForwarded(h, r, trusted)
		h.Del("Content-Length")
		req := &leanhttp.Request{Method: r.Method, Target: r.RequestURI, Host: r.Host, Body: body, Deadline: time.Now().Add(patience)}
		for name, values := range h {
			for _, v := range values {
				req.Header = append(req.Header, leanhttp.Field{Name: name, Value: v})
			}
		}
		resp, err := c.Do(context.WithoutCancel(r.Context()), req)
		if err != nil {
			t.Error(err)
			return
		}
		w.WriteHeader(resp.Status)
	})))
	front.Config.MaxHeaderBytes = httpx.MaxHeaderBytes
	front.Config.ReadTimeout = 500 * time.Millisecond
	front.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	front.Start()
	t.Cleanup(func() {
		front.Close()
		_ = c.Close()
	})
	p.addr = front.Listener.Addr().String()
	return p
}

// send writes bytes to the proxy as they are, and returns the statuses of what it answers until it closes the connection, or until
// so many were read.
func (p *proxy) send(t *testing.T, data string, answers int) []int {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, data) // it may be refused before it is read
	r := bufio.NewReader(conn)
	var statuses []int
	for range answers {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			break
		}
		_, _ = io.Copy(io.Discard, resp.Body) // the status says it
		statuses = append(statuses, resp.StatusCode)
	}
	return statuses
}

// targets are those that reached the backend.
func (p *proxy) targets() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var targets []string
	for _, s := range p.all {
		targets = append(targets, s.Method+" "+s.Target+" "+s.Body)
	}
	return targets
}

func (p *proxy) last(t *testing.T) seen {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.all) == 0 {
		t.Fatal("nothing reached the backend")
	}
	return p.all[len(p.all)-1]
}

// hostileRequest is a request as bytes, with the statuses it is answered by and what may reach the backend.
type hostileRequest struct {
	name    string
	data    string
	status  []int
	targets []string
}

func hostileRequests() []hostileRequest {
	const host = "Host: a\r\n"
	post := "POST / HTTP/1.1\r\n" + host
	return []hostileRequest{
		{"length and chunks", post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\n" + host + "\r\n", []int{200, 200}, []string{"POST / ", "GET /b "}},
		{"two lengths", post + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", []int{400}, nil},
		{"signed length", post + "Content-Length: +1\r\n\r\na", []int{400}, nil},
		{"negative length", post + "Content-Length: -1\r\n\r\na", []int{400}, nil},
		{"unknown coding", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", []int{501}, nil},
		{"coding twice", post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", []int{501}, nil},
		{"codings", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []int{501}, nil},
		{"space before the colon", post + "Content-Length : 1\r\n\r\na", []int{400}, nil},
		{"NUL in a value", post + "A: b\x00\r\n\r\n", []int{400}, nil},
		{"bare LF", "GET /a HTTP/1.1\nHost: a\n\n", []int{200}, []string{"GET /a "}}, // sent on as it was parsed
		{"bad chunk", post + "Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n", []int{400}, nil},
		{"chunk that is longer", post + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", []int{400}, nil},
		{"truncated body", post + "Content-Length: 5\r\n\r\nab", []int{408}, nil}, // the client waits
		{"large body", post + "Content-Length: 1001\r\n\r\n" + strings.Repeat("x", 1001), []int{413}, nil},
		{"large chunks", post + "Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + strings.Repeat("x", 1001) + "\r\n0\r\n\r\n", []int{413}, nil},
		{"large body that asks first", post + "Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n", []int{413}, nil},
		{"body of the limit", post + "Content-Length: 1000\r\n\r\n" + strings.Repeat("x", 1000), []int{200}, []string{"POST / " + strings.Repeat("x", 1000)}},
		{"large header", "GET / HTTP/1.1\r\n" + host + "A: " + strings.Repeat("b", 24<<10) + "\r\n\r\n", []int{431}, nil},
		{"many fields", "GET / HTTP/1.1\r\n" + host + strings.Repeat("A: b\r\n", 1000) + "\r\n", []int{431}, nil},
		{"another's URL", "GET http://evil/admin HTTP/1.1\r\n" + host + "\r\n", []int{421}, nil},
		{"own URL", "GET http://a/admin HTTP/1.1\r\n" + host + "\r\n", []int{421}, nil},
		{"no host", "GET / HTTP/1.1\r\n\r\n", []int{400}, nil},
		{"two hosts", "GET / HTTP/1.1\r\n" + host + host + "\r\n", []int{400}, nil},
		{"host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", []int{400}, nil},
		{"host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", []int{400}, nil},
		{"host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", []int{400}, nil},
		{"host with a bad port", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", []int{400}, nil},
		{"host in odd letters", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", []int{400}, nil},
		{"CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", []int{405}, nil},
		{"TRACE", "TRACE / HTTP/1.1\r\n" + host + "\r\n", []int{405}, nil},
		{"unknown method", "GETS / HTTP/1.1\r\n" + host + "\r\n", []int{405}, nil},
		{"lower case", "get / HTTP/1.1\r\n" + host + "\r\n", []int{405}, nil},
		{"asterisk", "GET * HTTP/1.1\r\n" + host + "\r\n", []int{400}, nil},
		{"space in the target", "GET /a b HTTP/1.1\r\n" + host + "\r\n", []int{400}, nil},
	}
}

func TestHostileRequests(t *testing.T) {
	t.Parallel()
	for _, c := range hostileRequests() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, httpx.Rules{}, false)
			if got := p.send(t, c.data, len(c.status)); !slices.Equal(got, c.status) {
				t.Errorf("got statuses %v: want %v", got, c.status)
			}
			if got := p.targets(); !slices.Equal(got, c.targets) {
				t.Errorf("%.200q reached the backend: want %.200q", got, c.targets)
			}
		})
	}
}

// TestTooLongIsAnswered: a client that still sends, and has said that it will not use the connection again, reads why.
func TestTooLongIsAnswered(t *testing.T) {
	t.Parallel()
	p := startProxy(t, httpx.Rules{}, false)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 20 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.addr+"/", strings.NewReader(strings.Repeat("x", 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("got %s", resp.Status)
		}
	}
}

// TestBodyBreaksOff: nothing of it is passed on.
func TestBodyBreaksOff(t *testing.T) {
	t.Parallel()
	for _, head := range []string{"Content-Length: 5\r\n\r\nab", "Transfer-Encoding: chunked\r\n\r\n5\r\nab", "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"} {
		p := startProxy(t, httpx.Rules{}, false)
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: a\r\n%s", head)
		if tcp, ok := conn.(*net.TCPConn); !ok || tcp.CloseWrite() != nil {
			t.Fatal("no half-closed connection")
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: got %v, %v: want 400", head, resp, err)
		}
		_ = conn.Close()
		if got := p.targets(); got != nil {
			t.Errorf("%q: %q reached the backend", head, got)
		}
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	strict, loose := startProxy(t, httpx.Rules{}, false), startProxy(t, httpx.Rules{EncodedSlash: true}, false)
	for path, want := range map[string][2]int{
		"/":                        {200, 200},
		"/a/b.c/":                  {200, 200},
		"/a%20b/%C3%A9":            {200, 200},
		"/...":                     {200, 200},
		"/a..b/..c":                {200, 200},
		"/a%2etxt":                 {200, 200},
		"/100%25":                  {200, 200},
		"/a;b=c/d":                 {200, 200},
		"/a?b=/../%2f%00//\\":      {200, 200}, // a query has no segments
		"/..":                      {400, 400},
		"/../x":                    {400, 400},
		"/x/.":                     {400, 400},
		"/x/./y":                   {400, 400},
		"//x":                      {400, 400},
		"/x//y":                    {400, 400},
		"/x//":                     {400, 400},
		"/x/%2e%2e/y":              {400, 400},
		"/x/%2E./y":                {400, 400},
		"/x/.%2e":                  {400, 400},
		"/x/%2e":                   {400, 400},
		"/x/..;/y":                 {400, 400},
		"/x/..;a=b/y":              {400, 400},
		"/x/%2e%2e%3b/y":           {400, 400},
		"/a%2fb":                   {400, 200},
		"/a%2Fb":                   {400, 200},
		"/a%5cb":                   {400, 200},
		"/a%2f..%2fb":              {400, 400},
		"/a%5c..":                  {400, 400},
		"/a\\b":                    {400, 400},
		"/%00":                     {400, 400},
		"/%0d%0aA:b":               {400, 400},
		"/%7f":                     {400, 400},
		"/%c0%ae%c0%ae/x":          {400, 400},
		"/%252e%252e/x":            {400, 200},
		"/a%252fb":                 {400, 200},
		"/%25252e":                 {400, 200},
		"/%zz":                     {400, 400},
		"/%2":                      {400, 400},
		"/a#b":                     {400, 400},
		"x":                        {400, 400},
		"/a\x01b":                  {400, 400},
		"/%E2%80%A6":               {200, 200},
		"/a/b?c=d#e":               {400, 400},
		"/x/%2e%2e?y":              {400, 400},
		"/%2e%2e%2fetc/passwd":     {400, 400},
		"/%%32%65%%32%65/x":        {400, 400},
		"/%u002e%u002e/x":          {400, 400},
		"/files/..%5c..%5csecrets": {400, 400},
	} {
		for i, p := range []*proxy{strict, loose} {
			if got := p.send(t, "GET "+path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 1); !slices.Equal(got, []int{want[i]}) {
				t.Errorf("%q, encoded slashes %v: got %v: want %d", path, i == 1, got, want[i])
			}
			if want[i] == http.StatusOK && p.last(t).Target != path {
				t.Errorf("%q reached the backend as %q", path, p.last(t).Target)
			}
		}
	}
}

// TestHeadersOfAProxy has what a client says of itself, or tries to have removed.
func TestHeadersOfAProxy(t *testing.T) {
	t.Parallel()
	p := startProxy(t, httpx.Rules{}, false)
	got := p.send(t, "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: X-Secret, close, X-Forwarded-For\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n"+
		"Upgrade: h2c\r\nHTTP2-Settings: x\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\nX-Forwarded-For: 1.2.3.4\r\nX_Forwarded_For: 1.2.3.4\r\n"+
		"X-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\nX-Real-IP: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n"+
		"Skybus-Seq: 7\r\nskybus_lane: 7\r\nSkybus-Min-Seq: 7\r\nA: 1\r\nA: 2\r\n B\r\n\r\n", 1)
	if !slices.Equal(got, []int{200}) {
		t.Fatalf("got %v: want 200", got)
	}
	want := http.Header{
		"A": {"1", "2 B"}, "Skybus-Min-Seq": {"7"}, // a folded line is one line
		"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {"a.example"}, "X-Forwarded-Proto": {"http"},
	}
	if diff := cmp.Diff(want, p.last(t).Header); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}

	behind := startProxy(t, httpx.Rules{}, true)
	behind.send(t, "GET / HTTP/1.1\r\nHost: inner\r\nConnection: close\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n"+
		"X_Forwarded_For: 9.9.9.9\r\nX-Forwarded-Host: outer\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 1.2.3.4\r\n\r\n", 1)
	want = http.Header{
		"X-Forwarded-For": {"1.2.3.4, 5.6.7.8, 127.0.0.1"}, "X-Forwarded-Host": {"outer"}, "X-Forwarded-Proto": {"https"}, "X-Real-Ip": {"1.2.3.4"},
	}
	if diff := cmp.Diff(want, behind.last(t).Header); diff != "" {
		t.Errorf("behind a proxy: want -, got +:\n%s", diff)
	}
}

// TestAllow: who is answered by 405 is told what else there is.
func TestAllow(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	h := httpx.Rules{Methods: []string{"GET", "PURGE"}}.Handler(http.NotFoundHandler())
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, PURGE" || w.Header().Get("Content-Type") != httpx.TypeProblem {
		t.Errorf("got %d, %v", w.Code, w.Header())
	}
	w = httptest.NewRecorder()
	if h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "PURGE", "/", http.NoBody)); w.Code != http.StatusNotFound {
		t.Errorf("got %d: want the handler's 404", w.Code)
	}
}

// FuzzRules: what is let through means the same to servers that decode before they look for dots and to those that do it after.
func FuzzRules(f *testing.F) {
	for _, path := range []string{"/a/b", "/a%2e/b", "/..", "/%2e%2e", "/a%2f..", "/a;b/..;c"} {
		f.Add(path, false)
		f.Add(path, true)
	}
	f.Fuzz(func(t *testing.T, target string, encoded bool) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewBufferString("GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n")))
		if err != nil || (httpx.Rules{EncodedSlash: encoded}).Check(r) != nil {
			return
		}
		path := r.URL.Path
		if strings.ContainsAny(path, "\x00\r\n") || path == "" || path[0] != '/' {
			t.Errorf("%q is let through", target)
		}
		for segment := range strings.FieldsFuncSeq(path, func(c rune) bool { return c == '/' || c == '\\' }) {
			if segment == "." || segment == ".." {
				t.Errorf("%q is let through", target)
			}
		}
	})
}
