package http_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	gateway "github.com/skybus-io/skybus/initiators/http"
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]gateway.Config{
		"MaxBody": {MaxBody: -1}, "Timeout": {Timeout: -1}, "MaxInFlight": {MaxInFlight: -1},
		"TrustedOrigins": {TrustedOrigins: []string{"app.example.org/x"}},
	} {
		if _, err := gateway.New(nil, cfg); bus.CodeOf(err) != bus.InvalidArgument || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v, want invalid_argument", name, err)
		}
	}
}

// What is posted is what the service is sent, and what it answers is what comes back, in the same codec.
func TestCodecs(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{})
	object := encode(t, map[string]any{"b": []byte{0, 255}, "n": uint64(1 << 63)})
	tests := map[string]struct {
		contentType, body string
		sent              string // to the service
		got               string // by the client
		gotType           string
	}{
		"JSON":              {typeJSON, `{"n":9007199254740993}`, `{"n":9007199254740993}`, `{"n":9007199254740993}`, typeJSON},
		"no type":           {"", `{"a":1}`, `{"a":1}`, `{"a":1}`, typeJSON},
		"with a charset":    {"Application/JSON; charset=utf-8", `{"a":1}`, `{"a":1}`, `{"a":1}`, typeJSON},
		"JSON, no object":   {typeJSON, `[1,2]`, `[1,2]`, `[1,2]`, typeJSON},
		"MessagePack":       {typeMsgpack, object, object, "", typeMsgpack},
		"form":              {typeForm, "a=1&b=x+y%26&a=2&c=", `{"a":["1","2"],"b":"x y&","c":""}`, `{"a":["1","2"],"b":"x y\u0026","c":""}`, typeJSON},
		"curl's JSON":       {typeForm, ` {"input":"x&y=z%"}`, ` {"input":"x&y=z%"}`, `{"input":"x\u0026y=z%"}`, typeJSON},
		"curl's list":       {typeForm, `[1]`, `[1]`, `[1]`, typeJSON},
		"empty":             {typeJSON, "", "", "{}", typeJSON},
		"spaces":            {typeJSON, " \n", "", "{}", typeJSON},
		"empty form":        {typeForm, "", "{}", "{}", typeJSON},
		"empty MessagePack": {typeMsgpack, "", "", "\x80", typeMsgpack},
		"nothing, no type":  {"", "", "", "{}", typeJSON},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { // not parallel: they look at the last message
			var headers []string
			if tt.contentType != "" {
				headers = []string{"Content-Type", tt.contentType}
			}
			a := post(t, at+"/echo", tt.body, headers...)
			if a.status != http.StatusOK || a.header.Get("Content-Type") != tt.gotType {
				t.Fatalf("%d as %q: %s", a.status, a.header.Get("Content-Type"), a.body)
			}
			if sent := h.lastMsg.Load().(string); name == "form" {
				if sent != strings.ReplaceAll(tt.sent, "&", `\u0026`) {
					t.Errorf("the service was sent %s, want %s", sent, tt.sent)
				}
			} else if sent != tt.sent {
				t.Errorf("the service was sent %q, want %q", sent, tt.sent)
			}
			if name == "MessagePack" {
				var v map[string]any
				if err := (bus.MessagePack{}).Unmarshal([]byte(a.body), &v); err != nil || v["n"] != uint64(1<<63) || string(v["b"].([]byte)) != "\x00\xff" {
					t.Errorf("answered %v, %v", v, err)
				}
			} else if a.body != tt.got {
				t.Errorf("answered %q, want %q", a.body, tt.got)
			}
			if a.header.Get("Content-Length") != fmt.Sprint(len(a.body)) {
				t.Errorf("Content-Length %s of %d bytes", a.header.Get("Content-Length"), len(a.body))
			}
		})
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{})
	long := strings.Repeat("x", 64)
	for _, id := range []string{"abc-1", "A_b-9", long} {
		a := post(t, at+"/echo", "{}", "X-Request-Id", id)
		if got := a.header.Get("X-Request-Id"); got != id || h.lastID.Load() != id {
			t.Errorf("id %q: echoed %q, the service has %q", id, got, h.lastID.Load())
		}
	}
	seen := map[string]bool{}
	for _, id := range []string{"", " ", "a b", "a.b", "*", ">", "ä", "<script>", long + "x", strings.Repeat("x", 5000)} {
		a := post(t, at+"/echo", "{}", "X-Request-Id", id)
		got := a.header.Get("X-Request-Id")
		if got == id || len(got) < 10 || bus.CheckToken("id", got) != nil || h.lastID.Load() != got || seen[got] {
			t.Errorf("id %.20q: echoed %q, the service has %q, want one new id", id, got, h.lastID.Load())
		}
		seen[got] = true
	}
	a := post(t, at+"/missing", "{}", "X-Request-Id", "mine")
	if p := a.problem(t); p.RequestID != "mine" || a.header.Get("X-Request-Id") != "mine" {
		t.Errorf("an error has the ids %q and %q", p.RequestID, a.header.Get("X-Request-Id"))
	}
}

// A path that is no token reaches nobody, and harms no connection.
func TestNames(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{})
	for _, path := range []string{
		"/a.b", "/.", "/..", "/../echo", "/*", "/%2a", "/>", "/%3e", "/a%20b", "/%00", "/echo%00", "/a%2fb", "/%2e%2e%2fecho", "/%65cho",
		"//echo", "/echo/", "/echo/x", "/echo;x", "/$JS", "/%f0%9f%8d%95", "/echo%0d%0aX:y", "/" + strings.Repeat("x", 65), "/" + strings.Repeat("x", 5000),
	} {
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		u.Opaque = "//" + u.Host + path // as it is
		req := &http.Request{Method: http.MethodPost, URL: u, Host: u.Host, Header: http.Header{}}
		resp, err := client(t).Do(req.WithContext(t.Context()))
		if err != nil {
			t.Fatalf("%.40s: %v", path, err)
		}
		a := read(t, resp)
		if p := a.problem(t); a.status != http.StatusBadRequest || p.Code != bus.InvalidArgument || len(a.body) > 1000 {
			t.Errorf("%.40s: %d %.200s, want 400", path, a.status, a.body)
		}
	}
	for path, status := range map[string]int{"/": 404, "": 404, "/missing": 404, "/echo?x=1#y": 200, "/echo?%00": 200} {
		if a := post(t, at+path, "{}"); a.status != status {
			t.Errorf("%s: %d, want %d", path, a.status, status)
		}
	}
	if h.calls.Load() != 2 {
		t.Errorf("the service was called %d times, want 2", h.calls.Load())
	}
	if h.conn.NATS().Stats().Reconnects != 0 || !h.conn.NATS().IsConnected() {
		t.Error("the connection was lost")
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{})
	for _, method := range []string{"PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "POSTS", "post", "PROPFIND", strings.Repeat("M", 1000)} {
		req := httptest.NewRequestWithContext(t.Context(), method, at+"/echo", nil)
		w := httptest.NewRecorder()
		h.gateway(t, gateway.Config{}).ServeHTTP(w, req)
		a := read(t, w.Result())
		if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, HEAD, POST" || a.problem(t).Code != bus.Unimplemented || len(a.body) > 500 {
			t.Errorf("%.20s: %d %q %s", method, a.status, a.header.Get("Allow"), a.body)
		}
	}
	for _, method := range []string{"GET", "HEAD"} {
		a := send(t, method, at+"/", "")
		if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") || (a.body == "") != (method == "HEAD") {
			t.Errorf("%s /: %d %s", method, a.status, a.body)
		}
		// A route is not a page: who asks for it by its address is told how to use it.
		if a = send(t, method, at+"/echo", ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "POST" {
			t.Errorf("%s /echo: %d %q %s", method, a.status, a.header.Get("Allow"), a.body)
		}
		if a := send(t, method, at+"/none", ""); a.status != http.StatusNotFound {
			t.Errorf("%s /none: %d", method, a.status)
		}
	}
	if h.calls.Load() != 0 {
		t.Errorf("the service was called %d times", h.calls.Load())
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{Pages: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, "page of "+r.URL.Path)
	})})
	if a := send(t, "GET", at+"/some/where", ""); a.status != http.StatusOK || a.body != "page of /some/where" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := post(t, at+"/echo", "{}"); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// What the mux has a pattern for goes there, whatever the method; all else comes to the gateway as without one.
func TestMux(t *testing.T) {
	t.Parallel()
	h := build(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/timer", func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, r.Method+" timer") })
	mux.HandleFunc("GET /v1/{rest...}", func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, "rest "+r.PathValue("rest")) })
	at := h.listen(t, gateway.Config{Mux: mux})
	for _, tt := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"POST", "/timer", http.StatusOK, "POST timer"},
		{"DELETE", "/timer", http.StatusOK, "DELETE timer"},
		{"GET", "/v1/a/b", http.StatusOK, "rest a/b"},
		{"POST", "/echo", http.StatusOK, "{}"},
		{"POST", "/timers", http.StatusNotFound, ""},
		{"DELETE", "/echo", http.StatusMethodNotAllowed, ""},
		{"POST", "/v1", http.StatusNotFound, ""},
	} {
		if a := send(t, tt.method, at+tt.path, "{}"); a.status != tt.status || tt.body != "" && a.body != tt.body {
			t.Errorf("%s %s: %d %q, want %d %q", tt.method, tt.path, a.status, a.body, tt.status, tt.body)
		}
	}
}

// A page of another site cannot make a browser post here; programs, and pages of the gateway's own origin, can.
func TestOrigins(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{TrustedOrigins: []string{"https://app.example.org"}})
	tests := []struct {
		headers []string
		status  int
	}{
		{nil, 200},
		{[]string{"Origin", at}, 200},
		{[]string{"Sec-Fetch-Site", "same-origin", "Origin", at}, 200},
		{[]string{"Sec-Fetch-Site", "none"}, 200},
		{[]string{"Origin", "https://app.example.org", "Sec-Fetch-Site", "cross-site"}, 200},
		{[]string{"Origin", "https://evil.example.org"}, 403},
		{[]string{"Origin", "null"}, 403},
		{[]string{"Sec-Fetch-Site", "cross-site"}, 403},
		{[]string{"Sec-Fetch-Site", "same-site", "Origin", "https://other.example.org"}, 403},
	}
	for _, tt := range tests {
		a := post(t, at+"/echo", "input=x", append([]string{"Content-Type", typeForm}, tt.headers...)...)
		if a.status != tt.status {
			t.Errorf("%q: %d %s, want %d", tt.headers, a.status, a.body, tt.status)
		}
		if tt.status == 403 && a.problem(t).Code != bus.PermissionDenied {
			t.Errorf("%q: %s", tt.headers, a.body)
		}
	}
	if h.calls.Load() != 5 {
		t.Errorf("the service was called %d times, want 5", h.calls.Load())
	}
}

func TestMaxInFlight(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{MaxInFlight: 2})
	answers := make(chan answer, 2)
	for range 2 {
		go func() { answers <- post(t, at+"/wait", `{"a":1}`) }()
	}
	bustest.Eventually(t, "both requests", func() bool { return h.waiting.Load() == 2 })
	begin := time.Now()
	a := post(t, at+"/echo", "{}", "X-Request-Id", "third")
	if p := a.problem(t); a.status != http.StatusServiceUnavailable || p.Code != bus.Unavailable || p.RequestID != "third" || a.header.Get("Retry-After") != "1" {
		t.Errorf("%d %s, Retry-After %q", a.status, a.body, a.header.Get("Retry-After"))
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("it was refused after %v", took)
	}
	if a := send(t, "GET", at+"/", ""); a.status != http.StatusOK {
		t.Errorf("a page: %d", a.status)
	}
	h.release()
	for range 2 {
		if a := bustest.Receive(t, "an answer", answers); a.status != http.StatusOK || a.body != `{"a":1}` {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if a := post(t, at+"/echo", "{}"); a.status != http.StatusOK {
		t.Errorf("afterwards: %d %s", a.status, a.body)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{Timeout: 100 * time.Millisecond})
	begin := time.Now()
	a := post(t, at+"/wait", "{}")
	if p := a.problem(t); a.status != http.StatusGatewayTimeout || p.Code != bus.DeadlineExceeded || p.Details["route"] != "wait" || p.Details["step"] != "1" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if took := time.Since(begin); took < 90*time.Millisecond || took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

// A client that goes away frees its place.
func TestClientGone(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{MaxInFlight: 1})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, at+"/wait", strings.NewReader("{}"))
		if err == nil {
			var resp *http.Response
			if resp, err = client(t).Do(req); err == nil {
				_ = resp.Body.Close()
			}
		}
		failed <- err
	}()
	bustest.Eventually(t, "the request", func() bool { return h.waiting.Load() == 1 })
	if a := post(t, at+"/echo", "{}"); a.status != http.StatusServiceUnavailable {
		t.Fatalf("a second request: %d", a.status)
	}
	cancel()
	if err := bustest.Receive(t, "the client", failed); err == nil {
		t.Error("the client got an answer")
	}
	bustest.Eventually(t, "its place", func() bool { return post(t, at+"/echo", "{}").status == http.StatusOK })
}
