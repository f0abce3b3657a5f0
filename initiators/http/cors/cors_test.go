package cors_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/http/cors"
	"github.com/skybus-io/skybus/micro/route"
)

// ask sends a request through the policy to a handler that says that it was reached.
func ask(t *testing.T, cfg cors.Config, method string, fields ...string) *httptest.ResponseRecorder {
	t.Helper()
	p, err := cors.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), method, "/", nil)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	p.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })).ServeHTTP(w, r)
	return w
}

const page = "https://app.example.org"

func TestPreflight(t *testing.T) {
	t.Parallel()
	cfg := cors.Config{Origins: []string{page}, Methods: []string{"GET", "PUT"}, Headers: []string{"X-One"}, Credentials: true, MaxAge: route.Duration(time.Minute)}
	preflight := []string{"Origin", page, "Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "x-one,x-two"}
	w := ask(t, cfg, http.MethodOptions, preflight...)
	if w.Code != http.StatusNoContent {
		t.Errorf("status %d: the handler was asked", w.Code)
	}
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin": page, "Access-Control-Allow-Methods": "GET, PUT", "Access-Control-Allow-Headers": "X-One",
		"Access-Control-Allow-Credentials": "true", "Access-Control-Max-Age": "60", "Access-Control-Expose-Headers": "",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if vary := strings.Join(w.Header().Values("Vary"), ", "); vary != "Access-Control-Request-Method, Access-Control-Request-Headers, Origin" {
		t.Errorf("Vary: %q", vary)
	}
	// OPTIONS of a program is no preflight.
	if w := ask(t, cfg, http.MethodOptions, "Origin", page); w.Code != http.StatusTeapot {
		t.Errorf("plain OPTIONS: status %d", w.Code)
	}
	preflight[1] = "https://evil.example.org"
	w = ask(t, cfg, http.MethodOptions, preflight...)
	if w.Code != http.StatusNoContent || len(w.Header()) != 1 {
		t.Errorf("of another origin: %d, %v", w.Code, w.Header())
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		allowed, origin string
		want            string
	}{
		{page, page, page},
		{page, "http://app.example.org", ""},
		{page, "https://app.example.org:8443", ""},
		{page, "https://app.example.org.evil.org", ""},
		{page, "https://APP.example.org", ""},
		{page, "https://evil.org/" + page, ""},
		{page, "null", ""},
		{page, "", ""},
		{"https://*.example.org", "https://a.example.org", "https://a.example.org"},
		{"https://*.example.org", "https://a.b.example.org", "https://a.b.example.org"},
		{"https://*.example.org", "https://example.org", ""},
		{"https://*.example.org", "https://.example.org", ""},
		{"https://*.example.org", "https://evilexample.org", ""},
		{"https://*.example.org", "https://evil.org/.example.org", ""},
		{"https://*.example.org", "https://evil.org#.example.org", ""},
		{"https://*.example.org", "https://user@a.example.org", ""},
		{"https://*.example.org", "https://a..example.org", ""},
		{"https://*.example.org", "http://a.example.org", ""},
		{"https://*.example.org:8443", "https://a.example.org:8443", "https://a.example.org:8443"},
		{"https://*.example.org:8443", "https://a.example.org", ""},
		{"http://localhost:3000", "http://localhost:3000", "http://localhost:3000"},
		{"*", "https://anybody.org", "*"},
		{"*", "null", "*"},
	} {
		w := ask(t, cors.Config{Origins: []string{tt.allowed}}, http.MethodGet, "Origin", tt.origin)
		if got := w.Header().Get("Access-Control-Allow-Origin"); got != tt.want || w.Code != http.StatusTeapot {
			t.Errorf("%q for %q: %q, status %d: want %q", tt.origin, tt.allowed, got, w.Code, tt.want)
		}
		if vary := w.Header().Get("Vary"); (vary == "Origin") != (tt.allowed != "*") {
			t.Errorf("%q for %q: Vary %q", tt.origin, tt.allowed, vary)
		}
		if got := w.Header().Get("Access-Control-Expose-Headers"); (got != "") != (tt.want != "") {
			t.Errorf("%q for %q: exposed is %q", tt.origin, tt.allowed, got)
		}
		if w.Header().Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%q for %q: credentials", tt.origin, tt.allowed)
		}
	}
	// A program sends none; a cache must know that the answer would be another for a page.
	if w := ask(t, cors.Config{Origins: []string{page}}, http.MethodGet); w.Header().Get("Vary") != "Origin" || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("without origin: %v", w.Header())
	}
	if w := ask(t, cors.Config{Origins: []string{page}}, http.MethodGet, "Origin", page, "Origin", page); w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("two origins: %v", w.Header())
	}
}

func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	one := []string{page}
	for _, tt := range []struct {
		field string
		cfg   cors.Config
	}{
		{"cors.origins", cors.Config{}},
		{"cors.origins", cors.Config{Origins: []string{"*", page}}},
		{"cors.credentials", cors.Config{Origins: []string{"*"}, Credentials: true}},
		{"cors.origins[0]", cors.Config{Origins: []string{"null"}}},
		{"cors.origins[0]", cors.Config{Origins: []string{"https://*"}}},
		{"cors.origins[0]", cors.Config{Origins: []string{"https://*.org"}}},
		{"cors.origins[0]", cors.Config{Origins: []string{"https://*.org.:8443"}}},
		{"cors.origins[0]", cors.Config{Origins: []string{"https://a.*.org"}}},
		{"cors.origins[0]", cors.Config{Origins: []string{"https://*example.org"}}},
		{"cors.origins[0]", cors.Config{Origins: []string{"https://*.*.example.org"}}},
		{"cors.origins[1]", cors.Config{Origins: []string{page, page + "/"}}},
		{"cors.origins[0]", cors.Config{Origins: []string{page + "/x"}}},
		{"cors.origins[0]", cors.Config{Origins: []string{page + ":443"}}},
		{"cors.origins[0]", cors.Config{Origins: []string{page + ":"}}},
		{"cors.origins[0]", cors.Config{Origins: []string{"http://app.example.org:80"}}},
		{"cors.origins[0]", cors.Config{Origins: []string{"https://App.example.org"}}},
		{"cors.origins[0]", cors.Config{Origins: []string{"https://user@app.example.org"}}},
		{"cors.origins[0]", cors.Config{Origins: []string{"ftp://app.example.org"}}},
		{"cors.origins[0]", cors.Config{Origins: []string{"app.example.org"}}},
		{"cors.origins[0]", cors.Config{Origins: []string{"https://" + strings.Repeat("a", 300)}}},
		{"cors.methods[0]", cors.Config{Origins: one, Methods: []string{"GET, PUT"}}},
		{"cors.methods[0]", cors.Config{Origins: one, Methods: []string{"*"}}},
		{"cors.headers[1]", cors.Config{Origins: one, Headers: []string{"X-One", "X\r\nY"}}},
		{"cors.headers[0]", cors.Config{Origins: one, Headers: []string{"*"}, Credentials: true}},
		{"cors.expose[0]", cors.Config{Origins: one, Expose: []string{"*"}, Credentials: true}},
		{"cors.expose", cors.Config{Origins: one, Expose: make([]string, 200)}},
		{"cors.max_age", cors.Config{Origins: one, MaxAge: -1}},
		{"cors.max_age", cors.Config{Origins: one, MaxAge: route.Duration(25 * time.Hour)}},
	} {
		if _, err := cors.New(tt.cfg); bus.CodeOf(err) != bus.InvalidArgument || !strings.Contains(err.Error(), tt.field+":") {
			t.Errorf("%+v: %v: want %q", tt.cfg, err, tt.field)
		}
	}
	if _, err := cors.New(cors.Config{Origins: []string{"*"}, Headers: []string{"*", "Authorization"}, Expose: []string{"*"}}); err != nil {
		t.Error(err)
	}
}
