package http_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/initiators/http/auth"
	"github.com/skybus-io/skybus/initiators/http/limit"
	"github.com/skybus-io/skybus/micro/route"
)

func anHour(requests int) *limit.Rate {
	return &limit.Rate{Requests: requests, Per: route.Duration(time.Hour)}
}

// places are all sorts of what a gateway serves, with the method and the status they are answered by.
func places() []struct {
	method, path string
	status       int
} {
	return []struct {
		method, path string
		status       int
	}{
		{"POST", "/entry", 200},
		{"POST", "/echo", 200},
		{"POST", "/v1/call/app/echo", 200},
		{"GET", "/v1/services", 200},
		{"GET", "/v1/openapi.json", 200},
		{"GET", "/v1/docs", 200},
		{"GET", "/v1/docs/docs.js", 200},
		{"GET", "/mux", 200},
		{"GET", "/v1/requests/none", 404},
		{"GET", "/", 200},
		{"GET", "/missing", 404},
		{"PUT", "/missing", 405},
		{"GET", "/../x", 400},
	}
}

// ratedSite is a gateway behind a proxy, with something of all sorts.
func ratedSite(t *testing.T, cfg gateway.Config) (h *house, s *site, from func(addr, method, path string, fields ...string) answer) {
	t.Helper()
	h = build(t)
	cfg.TrustedProxies = []string{"127.0.0.0/8"}
	cfg.Mux = http.NewServeMux()
	cfg.Mux.HandleFunc("GET /mux", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") })
	s = h.open(t, cfg, map[string]string{"entry": `{"method":"POST","path":"/entry","call":"app.echo"}`})
	return h, s, func(addr, method, path string, fields ...string) answer {
		return s.rawPath(t, method, path, append(fields, "X-Forwarded-For: "+addr, "Content-Length: 0")...)
	}
}

// An address has so many requests at a gateway, whatever it asks for; who is refused is told when to come again, and others are not concerned.
func TestRateOfAddress(t *testing.T) {
	t.Parallel()
	for _, place := range places() {
		t.Run(place.method+" "+place.path, func(t *testing.T) {
			t.Parallel()
			h, s, from := ratedSite(t, gateway.Config{Rates: limit.Whole{IP: anHour(2)}})
			for range 2 {
				if a := from("192.0.2.1", place.method, place.path); a.status != place.status {
					t.Errorf("%d %s, want %d", a.status, a.body, place.status)
				}
			}
			calls := h.calls.Load()
			a := from("192.0.2.1", place.method, place.path)
			if a.status != 429 || a.header.Get("Retry-After") == "" || a.header.Get("RateLimit-Policy") != `"ip";q=2;w=3600` || a.header.Get("X-Request-Id") == "" && place.path != "/mux" {
				t.Errorf("one too many: %d %v %s", a.status, a.header, a.body)
			}
			if p := a.problem(t); p.Details["limit"] != "ip" || h.calls.Load() != calls {
				t.Errorf("%s, and %d calls", a.body, h.calls.Load()-calls)
			}
			if a := from("192.0.2.2", place.method, place.path); a.status != place.status {
				t.Errorf("another address: %d %s", a.status, a.body)
			}
			var page strings.Builder
			if err := s.gate.WriteMetrics(&page); err != nil || !strings.Contains(page.String(), `skybus_http_limited_total{limit="ip"} 1`+"\n") {
				t.Errorf("%v: no figure in\n%s", err, page.String())
			}
		})
	}
}

// An address has no more by asking for several things.
func TestRateIsOfAllTogether(t *testing.T) {
	t.Parallel()
	n := len(places())
	_, _, from := ratedSite(t, gateway.Config{Rates: limit.Whole{IP: anHour(n)}})
	for _, place := range places() {
		if a := from("192.0.2.1", place.method, place.path); a.status != place.status {
			t.Errorf("%s %s: %d, want %d", place.method, place.path, a.status, place.status)
		}
	}
	for _, place := range places() {
		if a := from("192.0.2.1", place.method, place.path); a.status != 429 {
			t.Errorf("%s %s after %d others: %d", place.method, place.path, n, a.status)
		}
	}
}

// A credential has so many requests at a gateway, from whatever address and for whatever asks for one; one that is wrong takes from its address only.
func TestRateOfKey(t *testing.T) {
	t.Parallel()
	for _, place := range places()[:8] {
		if strings.HasPrefix(place.path, "/v1/docs") {
			continue // asks for none
		}
		t.Run(place.path, func(t *testing.T) {
			t.Parallel()
			h := build(t)
			l := h.lobby(t)
			mux := http.NewServeMux()
			mux.HandleFunc("GET /mux", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") })
			s := h.open(t, gateway.Config{Guard: l.guard, Mux: mux, Rates: limit.Whole{Key: anHour(2), IP: anHour(8)}}, map[string]string{"entry": `{"method":"POST","path":"/entry","call":"app.echo"}`})
			ask := func(fields ...string) answer {
				return s.rawPath(t, place.method, place.path, append(fields, "Content-Length: 0")...)
			}
			for i, want := range []int{place.status, place.status, 429} {
				a := ask("X-Api-Key: " + l.text)
				if a.status != want || want == 429 && a.problem(t).Details["limit"] != "key" {
					t.Errorf("request %d: %d %s, want %d", i, a.status, a.body, want)
				}
			}
			if a := ask("Authorization: Bearer " + l.token(t, nil)); a.status != place.status {
				t.Errorf("another credential: %d %s", a.status, a.body)
			}
			for i, want := range []int{401, 401, 401, 401, 429} {
				if a := ask("X-Api-Key: " + l.text + "x"); a.status != want {
					t.Errorf("wrong key %d: %d %s, want %d", i, a.status, a.body, want)
				}
			}
		})
	}
}

// All that is let in counts for the gateway; what is refused before takes nothing from it.
func TestRateOfGateway(t *testing.T) {
	t.Parallel()
	_, s, from := ratedSite(t, gateway.Config{Rates: limit.Whole{IP: anHour(2), All: anHour(4)}})
	for range 10 {
		from("192.0.2.1", "POST", "/echo")
	}
	for i, want := range []int{200, 200, 429} {
		a := from([]string{"192.0.2.2", "192.0.2.3", "192.0.2.4"}[i], "POST", "/entry")
		if a.status != want || want == 429 && (a.problem(t).Details["limit"] != "gateway" || !strings.Contains(a.body, "all clients of this gateway may make 4 in 1h0m0s")) {
			t.Errorf("request %d: %d %s, want %d", i, a.status, a.body, want)
		}
	}
	var page strings.Builder
	if err := s.gate.WriteMetrics(&page); err != nil || !strings.Contains(page.String(), `skybus_http_limited_total{limit="gateway"} 1`+"\n") || !strings.Contains(page.String(), `skybus_http_limited_total{limit="ip"} 8`+"\n") {
		t.Errorf("%v: no figures in\n%s", err, page.String())
	}
}

// What is reached by names alone may have limits of its own, which other requests take nothing from.
func TestLimitsOfCalls(t *testing.T) {
	t.Parallel()
	_, _, from := ratedSite(t, gateway.Config{Call: gateway.CallConfig{Limits: &limit.Limits{IP: anHour(3)}}})
	for i, path := range []string{"/entry", "/echo", "/entry", "/echo"} {
		if a := from("192.0.2.1", "POST", path); a.status != 200 {
			t.Errorf("%d: %d %s", i, a.status, a.body)
		}
	}
	for i, place := range places()[2:5] {
		if a := from("192.0.2.1", place.method, place.path); a.status != 200 {
			t.Errorf("%d: %d %s", i, a.status, a.body)
		}
	}
	for _, place := range places()[2:5] {
		if a := from("192.0.2.1", place.method, place.path); a.status != 429 {
			t.Errorf("%s: %d", place.path, a.status)
		}
		if a := from("192.0.2.2", place.method, place.path); a.status != 200 {
			t.Errorf("%s from another: %d", place.path, a.status)
		}
	}
	for name, cfg := range map[string]gateway.Config{
		"gateway: Call.limits.ip.requests:": {Call: gateway.CallConfig{Limits: &limit.Limits{IP: &limit.Rate{}}}},
		"gateway: Call.auth.kinds[0]:":      {Call: gateway.CallConfig{Auth: &auth.Policy{Kinds: []auth.Kind{"x"}}}},
		"gateway: Rates.all.burst:":         {Rates: limit.Whole{All: &limit.Rate{Requests: 1, Burst: -1}}},
	} {
		if _, err := gateway.New(nil, cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A page that an entry lets in may read that it is turned away, as it may read other answers; others may not. What its browser asks before is answered all the same.
func TestRateTellsPages(t *testing.T) {
	t.Parallel()
	const page, evil = "https://app.example.org", "https://evil.example.org"
	h := build(t)
	s := h.open(t, gateway.Config{Rates: limit.Whole{IP: anHour(1)}, Listeners: []string{"inner"}}, map[string]string{
		"open":   `{"method":"POST","path":"/open","call":"app.echo","cors":{"origins":["` + page + `"]}}`,
		"closed": `{"method":"POST","path":"/closed","call":"app.echo"}`,
		"all":    `{"path":"/v1/{rest...}","call":"app.echo","cors":{"origins":["` + page + `"]}}`,
	})
	if a := post(t, s.at+"/open", "{}", "Origin", page); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, tt := range []struct{ path, origin, allowed string }{
		{"/open", page, page}, {"/open", evil, ""}, {"/closed", page, ""}, {"/nowhere", page, ""}, {"/v1/all", page, page}, {"/v1/requests/x", page, ""},
	} {
		a := post(t, s.at+tt.path, "{}", "Origin", tt.origin)
		if a.status != 429 || a.header.Get("Access-Control-Allow-Origin") != tt.allowed {
			t.Errorf("%s from %s: %d %q, want %q", tt.path, tt.origin, a.status, a.header.Get("Access-Control-Allow-Origin"), tt.allowed)
		}
		if readable := strings.Contains(a.header.Get("Access-Control-Expose-Headers"), "Retry-After"); readable != (tt.allowed != "") {
			t.Errorf("%s from %s: exposes %q", tt.path, tt.origin, a.header.Get("Access-Control-Expose-Headers"))
		}
		a = send(t, "OPTIONS", s.at+tt.path, "", "Origin", tt.origin, "Access-Control-Request-Method", "POST")
		want := 429
		if tt.path == "/open" || tt.path == "/v1/all" {
			want = 204
		}
		if a.status != want || a.header.Get("Access-Control-Allow-Origin") != tt.allowed {
			t.Errorf("preflight of %s from %s: %d %q", tt.path, tt.origin, a.status, a.header.Get("Access-Control-Allow-Origin"))
		}
	}
}
