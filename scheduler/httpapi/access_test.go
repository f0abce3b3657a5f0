package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

func server(t testing.TB) *bustest.Node {
	t.Helper()
	return bustest.Server(t)
}

func TestTokens(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef"
	h := build(t, httpapi.Config{Tokens: []string{token, "another-long-token"}})
	for _, what := range []string{
		"POST /timer", "PUT /timer/x", "DELETE /timer/x", "GET /timer", "GET /nothing", "POST /v1/timers", "GET /v1/timers", "GET /v1/timers/x",
		"DELETE /v1/timers/x", "GET /v1/dead/timers", "GET /v1/openapi.json", "GET /v1/nothing", "PUT /v1/timers",
	} {
		method, path, _ := strings.Cut(what, " ")
		for _, header := range []string{"", "Bearer ", "Bearer wrong-wrong-wrong", "Basic " + token, token} {
			a := send(t, method, h.url+path, good, "Authorization", header)
			if a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%s with %q: %d %v", what, header, a.status, a.header)
			}
			if strings.HasPrefix(path, "/v1/") {
				a.problem(t)
			} else if a.reason() == "" || a.body != "" {
				t.Errorf("%s: %q %v", what, a.body, a.header)
			}
		}
	}
	send(t, http.MethodGet, h.url+"/ping", "").want(t, http.StatusOK)
	send(t, http.MethodPost, h.url+"/timer", good, "Authorization", "Bearer "+token).want(t, http.StatusCreated)
	send(t, http.MethodGet, h.url+"/v1/timers", "", "Authorization", "bearer another-long-token").want(t, http.StatusOK)
}

// TestOtherOrigins has what a browser sends for the page of another site.
func TestOtherOrigins(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{TrustedOrigins: []string{"https://app.example.org"}})
	for origin, allowed := range map[string]bool{"https://evil.example": false, "null": false, "https://app.example.org": true, h.url: true} {
		site := "cross-site"
		if origin == h.url {
			site = "same-origin"
		}
		for _, path := range []string{"/timer", "/v1/timers"} {
			body, ok := good, http.StatusCreated
			if path != "/timer" {
				body = `{"after":"1h",` + target + `}`
			}
			if !allowed {
				ok = http.StatusForbidden
			}
			a := send(t, http.MethodPost, h.url+path, body, "Origin", origin, "Sec-Fetch-Site", site, "Content-Type", "text/plain")
			if path != "/timer" && allowed {
				ok = http.StatusUnsupportedMediaType
			}
			a.want(t, ok)
		}
	}
	send(t, http.MethodGet, h.url+"/v1/timers", "", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site").want(t, http.StatusOK)
}

func TestServe(t *testing.T) {
	t.Parallel()
	srv := serve(t, handler(t, open(t, server(t)), httpapi.Config{}))
	send(t, http.MethodPost, srv.url+"/timer", good).want(t, http.StatusCreated)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.url+"/ping", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example"
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	read(t, resp).want(t, http.StatusMisdirectedRequest)
	send(t, http.MethodGet, srv.url+"/ping", "", "X-Large", strings.Repeat("x", 32<<10)).want(t, http.StatusRequestHeaderFieldsTooLarge)
	srv.stop()
	if err := bustest.Receive(t, "Serve", srv.done); err != nil {
		t.Error(err)
	}
}

// TestMount has the handler beside others.
func TestMount(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	handler(t, open(t, server(t)), httpapi.Config{}).Mount(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	for what, status := range map[string]int{
		"POST /timer": 201, "DELETE /timer/x": 404, "POST /timer/": 201, "GET /timer": 404, "GET /ping": 200, "POST /ping": 418, "POST /route": 418, "GET /": 418,
		"GET /v1/timers": 200, "GET /v1/timers/x": 404, "POST /v1/timers/x/fire": 404, "GET /v1/openapi.json": 418, "GET /v1/other": 418,
	} {
		method, path, _ := strings.Cut(what, " ")
		body := good
		if strings.HasPrefix(path, "/v1") {
			body = `{}`
		}
		if a := send(t, method, srv.URL+path, body); a.status != status {
			t.Errorf("%s: %d %s, want %d", what, a.status, a.body, status)
		}
	}
}

// TestNoServer has what is answered when nothing can be stored.
func TestNoServer(t *testing.T) {
	t.Parallel()
	node := server(t)
	h := buildOn(t, node, httpapi.Config{Timeout: 500 * time.Millisecond})
	send(t, http.MethodPost, h.url+"/timer", good, "X-Timer-Id", "mine").want(t, http.StatusCreated)
	node.Stop()
	for _, a := range []answer{
		send(t, http.MethodPost, h.url+"/timer", good), send(t, http.MethodPut, h.url+"/timer/mine", good), send(t, http.MethodDelete, h.url+"/timer/mine", ""),
	} {
		if a.status != http.StatusServiceUnavailable && a.status != http.StatusGatewayTimeout || a.reason() == "" || a.body != "" {
			t.Errorf("%d %q %q", a.status, a.reason(), a.body)
		}
	}
	a := send(t, http.MethodPost, h.url+"/v1/timers", `{"after":"1h",`+target+`}`)
	if a.problem(t); a.status != http.StatusServiceUnavailable && a.status != http.StatusGatewayTimeout {
		t.Errorf("%d %s", a.status, a.body)
	}
	send(t, http.MethodGet, h.url+"/ping", "").want(t, http.StatusOK)
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]httpapi.Config{
		"token": {Tokens: []string{"short"}}, "origin": {TrustedOrigins: []string{"no origin"}}, "body": {MaxBody: -1}, "timeout": {Timeout: -1},
		"in flight": {MaxInFlight: -1}, "drain": {Drain: -1},
	} {
		if _, err := httpapi.New(&scheduler.Scheduler{}, cfg); err == nil {
			t.Errorf("%s was taken", name)
		} else if strings.Contains(err.Error(), "short") {
			t.Errorf("%v shows the token", err)
		}
	}
}
