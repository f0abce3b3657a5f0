package http_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/initiators/http/auth"
)

// lobby is who may use a gateway: a key with the scope orders:read, and tokens by a secret.
type lobby struct {
	keys   *auth.Keys
	key    auth.Key
	text   string // of the key
	secret []byte
	guard  *auth.Guard
}

func (h *house) lobby(t testing.TB) *lobby {
	t.Helper()
	l := &lobby{secret: []byte(strings.Repeat("s", 32))}
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, l.secret, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if l.keys, err = auth.OpenKeys(t.Context(), h.conn, false); err != nil {
		t.Fatal(err)
	}
	if l.key, l.text, err = l.keys.New(t.Context(), auth.NewKey{Name: "billing", Scopes: []string{"orders:read"}}); err != nil {
		t.Fatal(err)
	}
	l.guard, err = auth.Open(t.Context(), h.conn, auth.Config{
		Keys:    &auth.KeysConfig{},
		JWT:     []auth.JWTConfig{{Issuer: "https://id.example.org", AnyAudience: true, Algorithms: []string{"HS256"}, File: file}},
		Headers: map[string]string{"X-User": "auth.id", "X-Tenant": "claim.tenant"},
	}, auth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.guard.Close() }) // has no error to tell
	return l
}

// token is a good one with these claims besides.
func (l *lobby) token(t testing.TB, more map[string]any) string {
	t.Helper()
	claims := map[string]any{"iss": "https://id.example.org", "sub": "ada", "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(claims, more)
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + base64.RawURLEncoding.EncodeToString(body)
	mac := hmac.New(sha256.New, l.secret)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func TestEntryLimitsByProxy(t *testing.T) {
	t.Parallel()
	h := build(t)
	l := h.lobby(t)
	s := h.open(t, gateway.Config{Guard: l.guard, Policy: &auth.Policy{Anonymous: true}, TrustedProxies: []string{"127.0.0.0/8"}}, map[string]string{
		"ip":   `{"path":"/ip","call":"app.seen","limits":{"ip":{"requests":2,"per":"1h"}}}`,
		"key":  `{"path":"/key","call":"app.seen","limits":{"key":{"requests":1,"per":"1h"}}}`,
		"all":  `{"path":"/all","call":"app.seen","limits":{"entry":{"requests":3,"per":"1h"}}}`,
		"some": `{"path":"/some","call":"app.wait","limits":{"concurrent":1}}`,
	})
	from := func(path, addr string, fields ...string) answer {
		return send(t, "GET", s.at+path, "", append(fields, "X-Forwarded-For", addr)...)
	}
	for i, want := range []int{200, 200, 429, 429} {
		a := from("/ip", "192.0.2.1")
		if a.status != want || !strings.HasPrefix(a.header.Get("RateLimit-Policy"), `"ip";q=2;w=3600`) || (a.header.Get("Retry-After") != "") != (want == 429) {
			t.Errorf("request %d: %d %v", i, a.status, a.header)
		}
	}
	if a := from("/ip", "192.0.2.2"); a.status != 200 {
		t.Errorf("another address: %d", a.status)
	}
	if a := from("/ip", "192.0.2.2, 192.0.2.1"); a.status != 429 {
		t.Errorf("an address that a client put before its own: %d", a.status)
	}
	for _, want := range []int{200, 429} {
		if a := from("/key", "192.0.2.3", "X-Api-Key", l.text); a.status != want {
			t.Errorf("by key: %d, want %d", a.status, want)
		}
	}
	if a := from("/key", "192.0.2.3", "Authorization", "Bearer "+l.token(t, nil)); a.status != 200 {
		t.Errorf("another credential: %d", a.status)
	}
	for i := range 4 {
		if a := from("/all", fmt.Sprint("192.0.2.", 10+i)); (a.status == 200) != (i < 3) {
			t.Errorf("request %d of all: %d", i, a.status)
		}
	}
	// An edit of something else gives nobody a new bucket.
	s.put(t, "ip", `{"path":"/ip","call":"app.seen","description":"x","limits":{"ip":{"requests":2,"per":"1h"}}}`)
	if a := from("/ip", "192.0.2.1"); a.status != 429 {
		t.Errorf("after an edit: %d", a.status)
	}

	held := make(chan answer, 1)
	go func() { held <- send(t, "GET", s.at+"/some", "") }()
	bustest.Eventually(t, "a request waits", func() bool { return h.waiting.Load() == 1 })
	if a := from("/some", "192.0.2.9"); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("one too many: %d %v", a.status, a.header)
	}
	h.release()
	if a := bustest.Receive(t, "the one that waited", held); a.status != 200 {
		t.Errorf("the one that waited: %d %s", a.status, a.body)
	}
	if a := from("/some", "192.0.2.9"); a.status != 200 {
		t.Errorf("after it: %d", a.status)
	}
}

func TestEntryCORSWithKeys(t *testing.T) {
	t.Parallel()
	h := build(t)
	l := h.lobby(t)
	s := h.open(t, gateway.Config{Guard: l.guard}, map[string]string{
		"app":  `{"path":"/app","method":"POST","call":"app.echo","cors":{"origins":["https://app.example.org"],"credentials":true}}`,
		"all":  `{"path":"/all","method":"POST","call":"app.echo","auth":{"anonymous":true},"cors":{"origins":["*"]}}`,
		"none": `{"path":"/none","method":"POST","call":"app.echo","auth":{"anonymous":true}}`,
	})
	preflight := func(path, origin, method string) answer {
		return send(t, "OPTIONS", s.at+path, "", "Origin", origin, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", "x-api-key")
	}
	a := preflight("/app", "https://app.example.org", "POST")
	if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != "https://app.example.org" || a.header.Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("preflight: %d %v", a.status, a.header)
	}
	if a := preflight("/app", "https://evil.org", "POST"); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("preflight of another origin: %d %v", a.status, a.header)
	}
	for path, method := range map[string]string{"/app": "DELETE", "/none": "POST", "/missing": "POST"} {
		if a := preflight(path, "https://app.example.org", method); a.header.Get("Access-Control-Allow-Origin") != "" || a.status < 400 {
			t.Errorf("preflight of %s %s: %d %v", method, path, a.status, a.header)
		}
	}
	cross := func(path, origin string, fields ...string) answer {
		return post(t, s.at+path, `{"a":1}`, append(fields, "Origin", origin, "Sec-Fetch-Site", "cross-site")...)
	}
	if a := cross("/app", "https://app.example.org", "X-Api-Key", l.text); a.status != 200 || a.header.Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("a page that may: %d %s", a.status, a.body)
	}
	// The page sees why it was refused.
	if a := cross("/app", "https://app.example.org"); a.status != 401 || a.header.Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("a page that may, without a key: %d %v", a.status, a.header)
	}
	for name, a := range map[string]answer{
		"another page":                     cross("/app", "https://evil.org", "X-Api-Key", l.text),
		"no page may":                      cross("/none", "https://app.example.org"),
		"all pages, and a cookie is along": cross("/all", "https://evil.org", "Cookie", "session=1"),
	} {
		if a.status != 403 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := cross("/all", "https://evil.org"); a.status != 200 || a.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("all pages: %d %v", a.status, a.header)
	}
}

// A gateway behind TLS that asks for certificates knows who shows one.
func TestEntryCertificate(t *testing.T) {
	t.Parallel()
	h := build(t)
	guard, err := auth.Open(t.Context(), nil, auth.Config{MTLS: &auth.MTLSConfig{}}, auth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = guard.Close() }) // has no error to tell
	s := h.open(t, gateway.Config{Guard: guard}, map[string]string{"a": `{"path":"/a","call":"app.seen"}`})
	srv := httptest.NewUnstartedServer(s.gate)
	client := mutualTLS(t, srv, "billing")
	for name, c := range map[string]*http.Client{"with": client, "without": srv.Client()} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/a", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if a := read(t, resp); (a.status == 200) != (name == "with") || a.status != 200 && a.status != 401 {
			t.Errorf("%s a certificate: %d %s", name, a.status, a.body)
		}
	}
}

// Endpoints by their names, and what tells of them, ask for what the gateway does.
func TestCallPolicy(t *testing.T) {
	t.Parallel()
	h := build(t)
	l := h.lobby(t)
	s := h.open(t, gateway.Config{Guard: l.guard, Policy: &auth.Policy{Scopes: []string{"orders:read"}}}, nil)
	token := []string{"Authorization", "Bearer " + l.token(t, map[string]any{"scope": "orders:read", "tenant": "acme"})}
	for _, path := range []string{"/v1/services", "/v1/openapi.json"} {
		if a := send(t, "GET", s.at+path, ""); a.status != 401 || a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		if a := send(t, "GET", s.at+path, "", "Authorization", "Bearer "+l.token(t, nil)); a.status != 403 {
			t.Errorf("%s without the scope: %d %s", path, a.status, a.body)
		}
		a := send(t, "GET", s.at+path, "", "X-Api-Key", l.text)
		if a.status != 200 {
			t.Errorf("%s with a key: %d %s", path, a.status, a.body)
		}
		if path == "/v1/openapi.json" && (!strings.Contains(a.body, `"apiKey"`) || !strings.Contains(a.body, `"bearer"`)) {
			t.Error("the description names no security schemes")
		}
	}
	if a := post(t, s.at+"/v1/call/app/seen", `{}`); a.status != 401 {
		t.Errorf("a call: %d %s", a.status, a.body)
	}
	a := post(t, s.at+"/v1/call/app/seen", `{}`, append(token, "X-User", "root")...)
	var v seen
	if err := json.Unmarshal([]byte(a.body), &v); err != nil || v.Header.Get("X-User") != "ada" || v.Header.Get("X-Tenant") != "acme" || len(v.Header) != 2 {
		t.Errorf("a call with a token: %d %s, %v", a.status, a.body, err)
	}
}

// A key for repeats is one's own: another principal's request with the same one is another request.
func TestIdempotencyKeyIsOfWhoAsks(t *testing.T) {
	t.Parallel()
	h := build(t)
	l := h.lobby(t)
	s := h.open(t, gateway.Config{Guard: l.guard}, map[string]string{"once": `{"path":"/once","method":"POST","call":"app.echo","idempotency":{}}`})
	ask := func(fields ...string) answer {
		return post(t, s.at+"/once", `{"a":1}`, append(fields, "Idempotency-Key", "same")...)
	}
	ada, billing := []string{"Authorization", "Bearer " + l.token(t, nil)}, []string{"X-Api-Key", l.text}
	for i, tt := range []struct {
		fields   []string
		replayed string
	}{{ada, ""}, {billing, ""}, {ada, "true"}, {billing, "true"}} {
		if a := ask(tt.fields...); a.status != 200 || a.header.Get("Idempotency-Replayed") != tt.replayed {
			t.Errorf("request %d: %d %s, replayed %q", i, a.status, a.body, a.header.Get("Idempotency-Replayed"))
		}
	}
	if n := h.calls.Load(); n != 2 {
		t.Errorf("done %d times, want 2", n)
	}
	// A token that was refreshed is the same principal's.
	ada = []string{"Authorization", "Bearer " + l.token(t, map[string]any{"exp": time.Now().Add(2 * time.Hour).Unix()})}
	if a := ask(ada...); a.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("with another token of the same: %d, %v", a.status, a.header)
	}
}

// What others serve at the gateway's address asks for what the gateway does.
func TestMuxPolicy(t *testing.T) {
	t.Parallel()
	h := build(t)
	l := h.lobby(t)
	for name, tt := range map[string]struct {
		cfg           gateway.Config
		without, with int
	}{
		"no guard":  {gateway.Config{}, 200, 200},
		"guard":     {gateway.Config{Guard: l.guard}, 401, 200},
		"scopes":    {gateway.Config{Guard: l.guard, Policy: &auth.Policy{Scopes: []string{"admin"}}}, 401, 403},
		"anonymous": {gateway.Config{Guard: l.guard, Policy: &auth.Policy{Anonymous: true}}, 200, 200},
	} {
		tt.cfg.Mux = http.NewServeMux()
		tt.cfg.Mux.HandleFunc("GET /mux", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") })
		at := h.listen(t, tt.cfg)
		if a := send(t, "GET", at+"/mux", ""); a.status != tt.without || a.status != 200 && a.header.Get("X-Request-Id") == "" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if a := send(t, "GET", at+"/mux", "", "X-Api-Key", l.text); a.status != tt.with {
			t.Errorf("%s, with a key: %d %s", name, a.status, a.body)
		}
	}
}
