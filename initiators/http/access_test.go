package http_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/initiators/http/auth"
)

// guarded is a site whose gateway takes API keys.
func guarded(t *testing.T, cfg gateway.Config, entries map[string]string) (s *site, key func(scopes ...string) string) {
	t.Helper()
	h := build(t)
	keys, err := auth.OpenKeys(t.Context(), h.conn, false)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Guard, err = auth.Open(t.Context(), h.conn, auth.Config{
		Keys: &auth.KeysConfig{}, Headers: map[string]string{"X-User": "auth.id", "X-User-Scopes": "auth.scopes"},
	}, auth.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cfg.Guard.Close() }) // has no error to tell
	return h.open(t, cfg, entries), func(scopes ...string) string {
		t.Helper()
		_, text, err := keys.New(t.Context(), auth.NewKey{Scopes: scopes})
		if err != nil {
			t.Fatal(err)
		}
		bustest.Eventually(t, "the key", func() bool {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.Header.Set("X-Api-Key", text)
			_, err := cfg.Guard.Authenticate(r)
			return err == nil
		})
		return text
	}
}

// Who may do what stands in the entry; where it does not, a credential is asked for.
func TestEntryAuth(t *testing.T) {
	t.Parallel()
	s, key := guarded(t, gateway.Config{}, map[string]string{
		"own": `{"path":"/own","call":"app.seen"}`, "open": `{"path":"/open","call":"app.seen","auth":{"anonymous":true}}`,
		"admin": `{"path":"/admin","call":"app.seen","auth":{"kinds":["key"],"scopes":["admin"]}}`, "token": `{"path":"/token","call":"app.seen","auth":{"kinds":["jwt"]}}`,
	})
	plain, admin := key(), key("admin", "read")
	for _, tt := range []struct {
		path, key string
		status    int
		code      bus.Code
	}{
		{"/own", "", 401, bus.Unauthenticated},
		{"/own", plain, 200, ""},
		{"/own", admin, 200, ""},
		{"/own", plain + "x", 401, bus.Unauthenticated},
		{"/open", "", 200, ""},
		{"/open", plain, 200, ""},
		{"/open", "nonsense", 401, bus.Unauthenticated},
		{"/admin", "", 401, bus.Unauthenticated},
		{"/admin", plain, 403, bus.PermissionDenied},
		{"/admin", admin, 200, ""},
		{"/token", admin, 403, bus.PermissionDenied},
	} {
		var headers []string
		if tt.key != "" {
			headers = []string{"X-Api-Key", tt.key}
		}
		a := send(t, "GET", s.at+tt.path, "", headers...)
		if a.status != tt.status || tt.code != "" && a.problem(t).Code != tt.code {
			t.Errorf("%s with %.8q: %d %s, want %d", tt.path, tt.key, a.status, a.body, tt.status)
		}
		if (a.header.Get("Www-Authenticate") != "") != (tt.code != "") {
			t.Errorf("%s with %.8q: WWW-Authenticate %q", tt.path, tt.key, a.header.Get("Www-Authenticate"))
		}
	}
	// Routes by their name ask for one too.
	before := s.calls.Load()
	if a := post(t, s.at+"/echo", "{}"); a.status != 401 || s.calls.Load() != before {
		t.Errorf("a route: %d", a.status)
	}
	if a := post(t, s.at+"/echo", "{}", "Authorization", "Bearer "+plain); a.status != 200 {
		t.Errorf("a route with a key: %d %s", a.status, a.body)
	}
}

// The target is told who sends the request by the gateway and by nobody else.
func TestEntryPrincipal(t *testing.T) {
	t.Parallel()
	s, key := guarded(t, gateway.Config{}, map[string]string{
		"seen": `{"path":"/seen","call":"app.seen","auth":{"anonymous":true},"headers":{"forward":["X-User","X-Tenant","Authorization","X-Api-Key"]}}`,
		"made": `{"path":"/made","call":"app.echo","request":{"fields":{"who":"{auth.id}","kind":"{auth.kind}","sent":"{header.X-User|default:none}","key":"{header.X-Api-Key|default:none}"}}}`,
	})
	text := key("read", "write")
	id := strings.Split(text, "_")[1]
	spoof := []string{"X-User", "root", "X_user", "root", "X-Tenant", "acme"}
	v, _ := s.seen(t, "/seen", append(spoof, "X-Api-Key", text)...)
	if v.Header.Get("X-User") != id || v.Header.Get("X-User-Scopes") != "read write" || v.Header.Get("X-Tenant") != "acme" || len(v.Header) != 3 {
		t.Errorf("with a key: %v", v.Header)
	}
	if v, _ = s.seen(t, "/seen", spoof...); v.Header.Get("X-User") != "" || v.Header.Get("X-Tenant") != "acme" || len(v.Header) != 1 {
		t.Errorf("without: %v", v.Header)
	}
	a := send(t, "GET", s.at+"/made", "", append(spoof, "X-Api-Key", text)...)
	if want := fmt.Sprintf(`{"key":"none","kind":"key","sent":"none","who":%q}`, id); a.body != want {
		t.Errorf("%d %s, want %s", a.status, a.body, want)
	}
}

// An entry that asks for a credential is never open: where none can be taken it is not served.
func TestAuthWithoutGuard(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{
		"asks": `{"path":"/asks","call":"app.echo","auth":{}}`, "open": `{"path":"/open","call":"app.echo","auth":{"anonymous":true}}`, "none": `{"path":"/none","call":"app.echo"}`,
	})
	if a := send(t, "GET", s.at+"/asks", ""); a.status != 404 || s.gate.Refused()["asks"] == nil {
		t.Errorf("%d %s, refused for %v", a.status, a.body, s.gate.Refused())
	}
	for _, path := range []string{"/open", "/none"} {
		if a := send(t, "GET", s.at+path, ""); a.status != 200 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if _, err := gateway.New(h.runner, gateway.Config{Policy: &auth.Policy{}}); bus.CodeOf(err) != bus.FailedPrecondition {
		t.Errorf("a policy without a guard: %v", err)
	}
}

// Rates hold per credential, per address and for all together, and an edit gives nobody a new bucket.
func TestEntryLimits(t *testing.T) {
	t.Parallel()
	s, key := guarded(t, gateway.Config{TrustedProxies: []string{"127.0.0.1"}}, map[string]string{
		"key":  `{"path":"/key","call":"app.echo","limits":{"key":{"requests":2,"per":"1h"}}}`,
		"ip":   `{"path":"/ip","call":"app.echo","auth":{"anonymous":true},"limits":{"ip":{"requests":1,"per":"1h"}}}`,
		"all":  `{"path":"/all","call":"app.echo","auth":{"anonymous":true},"limits":{"entry":{"requests":1,"per":"1h"}}}`,
		"busy": `{"path":"/busy","call":"app.wait","auth":{"anonymous":true},"limits":{"concurrent":1}}`,
	})
	first, second := key(), key()
	for i, want := range []int{200, 200, 429} {
		a := send(t, "GET", s.at+"/key", "", "X-Api-Key", first)
		if a.status != want || a.header.Get("RateLimit") == "" || (a.header.Get("Retry-After") != "") != (want == 429) {
			t.Errorf("request %d: %d, RateLimit %q, Retry-After %q", i, a.status, a.header.Get("RateLimit"), a.header.Get("Retry-After"))
		}
	}
	if a := send(t, "GET", s.at+"/key", "", "X-Api-Key", second); a.status != 200 {
		t.Errorf("another key: %d", a.status)
	}
	s.put(t, "key", `{"path":"/key","call":"app.echo","timeout":"3s","limits":{"key":{"requests":2,"per":"1h"}}}`)
	if a := send(t, "GET", s.at+"/key", "", "X-Api-Key", first); a.status != 429 {
		t.Errorf("after an edit: %d", a.status)
	}
	for _, tt := range []struct {
		from   string
		status int
	}{{"203.0.113.1", 200}, {"203.0.113.1", 429}, {"203.0.113.2", 200}, {"203.0.113.1, 203.0.113.3", 200}} {
		if a := send(t, "GET", s.at+"/ip", "", "X-Forwarded-For", tt.from); a.status != tt.status {
			t.Errorf("from %s: %d %s, want %d", tt.from, a.status, a.body, tt.status)
		}
	}
	if a, b := send(t, "GET", s.at+"/all", ""), send(t, "GET", s.at+"/all", ""); a.status != 200 || b.status != 429 {
		t.Errorf("all together: %d, %d", a.status, b.status)
	}
	done := make(chan answer, 1)
	go func() { done <- send(t, "GET", s.at+"/busy", "") }()
	bustest.Eventually(t, "the request", func() bool { return s.waiting.Load() == 1 })
	if a := send(t, "GET", s.at+"/busy", ""); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("a second one at a time: %d %s", a.status, a.body)
	}
	s.release()
	if a := bustest.Receive(t, "the first", done); a.status != 200 {
		t.Errorf("the first: %d %s", a.status, a.body)
	}
	if a := send(t, "GET", s.at+"/busy", ""); a.status != 200 {
		t.Errorf("afterwards: %d %s", a.status, a.body)
	}
}

// Pages of the origins that an entry names may use it, others may not.
func TestEntryCORS(t *testing.T) {
	t.Parallel()
	s, key := guarded(t, gateway.Config{}, map[string]string{
		"some": `{"method":"POST","path":"/some","call":"app.echo","cors":{"origins":["https://app.example.org"],"methods":["POST"]}}`,
		"any":  `{"method":"POST","path":"/any","call":"app.echo","auth":{"anonymous":true},"cors":{"origins":["*"]}}`,
		"none": `{"method":"POST","path":"/none","call":"app.echo","auth":{"anonymous":true}}`,
	})
	text := key()
	const page, evil = "https://app.example.org", "https://evil.example.org"
	for _, tt := range []struct{ path, origin, allowed string }{{"/some", page, page}, {"/some", evil, ""}, {"/any", evil, "*"}} {
		a := send(t, "OPTIONS", s.at+tt.path, "", "Origin", tt.origin, "Access-Control-Request-Method", "POST")
		if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != tt.allowed {
			t.Errorf("preflight of %s for %s: %d %q", tt.origin, tt.path, a.status, a.header.Get("Access-Control-Allow-Origin"))
		}
	}
	if a := send(t, "OPTIONS", s.at+"/none", "", "Origin", page, "Access-Control-Request-Method", "POST"); a.status != 405 {
		t.Errorf("preflight without CORS: %d", a.status)
	}
	for _, tt := range []struct {
		path, origin, allowed string
		headers               []string
		status                int
	}{
		{"/some", page, page, []string{"X-Api-Key", text}, 200},
		{"/some", page, page, nil, 401}, // which the page may read
		{"/some", evil, "", []string{"X-Api-Key", text}, 403},
		{"/any", evil, "*", nil, 200},
		{"/any", evil, "*", []string{"Cookie", "session=1"}, 403}, // the browser's doing
		{"/any", evil, "*", []string{"Authorization", "Basic YTpi"}, 403},
		{"/none", page, "", nil, 403},
	} {
		a := post(t, s.at+tt.path, "{}", append(tt.headers, "Origin", tt.origin, "Sec-Fetch-Site", "cross-site")...)
		if a.status != tt.status || a.header.Get("Access-Control-Allow-Origin") != tt.allowed {
			t.Errorf("%s from %s with %q: %d %q %s, want %d %q", tt.path, tt.origin, tt.headers, a.status, a.header.Get("Access-Control-Allow-Origin"), a.body, tt.status, tt.allowed)
		}
	}
}

// Answers are compressed where the entry says so and the client takes it.
func TestEntryCompress(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{
		"small": `{"method":"POST","path":"/small","call":"app.echo","compress":{}}`, "plain": `{"method":"POST","path":"/plain","call":"app.echo"}`,
	})
	body := `{"a":"` + strings.Repeat("x", 5000) + `"}`
	for path, want := range map[string]string{"/small": "gzip", "/plain": ""} {
		a := post(t, s.at+path, body, "Accept-Encoding", "gzip")
		if a.status != 200 || a.header.Get("Content-Encoding") != want {
			t.Fatalf("%s: %d, Content-Encoding %q", path, a.status, a.header.Get("Content-Encoding"))
		}
		got := a.body
		if want == "gzip" {
			zr, err := gzip.NewReader(strings.NewReader(a.body))
			if err != nil {
				t.Fatal(err)
			}
			all, err := io.ReadAll(zr)
			if err != nil {
				t.Fatal(err)
			}
			got = string(all)
		}
		if got != body {
			t.Errorf("%s: %d bytes are %.50q", path, len(a.body), got)
		}
	}
	if a := post(t, s.at+"/small", body, "Accept-Encoding", "identity"); a.header.Get("Content-Encoding") != "" || a.body != body {
		t.Errorf("who does not take it: %q", a.header.Get("Content-Encoding"))
	}
	// A body that is too large is refused, and the connection closed.
	if a := post(t, s.at+"/small", strings.Repeat("x", gateway.DefaultMaxBody+1)); a.status != 413 {
		t.Errorf("a large body: %d", a.status)
	}
}

// Who asked for something that is answered later is told to the target then, and is the only one to see the answer.
func TestEntryAuthLater(t *testing.T) {
	t.Parallel()
	s, key := guarded(t, gateway.Config{}, map[string]string{"job": `{"path":"/job","call":"app.seen","async":{"always":true}}`})
	mine, other := key("read"), key()
	if a := send(t, "GET", s.at+"/job", ""); a.status != 401 {
		t.Errorf("nobody: %d", a.status)
	}
	a := send(t, "GET", s.at+"/job", "", "X-Api-Key", mine, "X-User", "root")
	where := a.header.Get("Location")
	if a.status != 202 || where == "" {
		t.Fatalf("%d %s %v", a.status, a.body, a.header)
	}
	var got seen
	bustest.Eventually(t, "the answer", func() bool {
		a := send(t, "GET", s.at+where+"/answer", "", "X-Api-Key", mine)
		return a.status == 200 && json.Unmarshal([]byte(a.body), &got) == nil && got.LeftMS > 0 // else it is pending
	})
	if got.Header.Get("X-User") != strings.Split(mine, "_")[1] || got.Header.Get("X-User-Scopes") != "read" || got.Header.Get("X-Api-Key") != "" {
		t.Errorf("the target is told %v: %+v", got.Header, got)
	}
	for name, headers := range map[string][]string{"another key": {"X-Api-Key", other}, "no key": nil} {
		if a := send(t, "GET", s.at+where, "", headers...); a.status != 404 {
			t.Errorf("%s sees %d %s", name, a.status, a.body)
		}
	}
	if a := send(t, "GET", s.at+where, "", "X-Api-Key", mine+"x"); a.status != 401 {
		t.Errorf("a wrong key sees %d %s", a.status, a.body)
	}
}
