//go:build unix

package integration_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hs256 is a token signed with a secret, however wrong.
func hs256(t *testing.T, secret string, header, claims map[string]any) string {
	t.Helper()
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	h := map[string]any{"alg": "HS256", "typ": "JWT"}
	maps.Copy(h, header)
	text := part(h) + "." + part(claims)
	if h["alg"] == "none" {
		return text + "."
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// guardedVictim is a gateway that takes keys, and tokens by a secret. Its clock may differ by 30 s.
func guardedVictim(t *testing.T, args ...string) (v *victim, token func(header, claims map[string]any) string) {
	t.Helper()
	dir := t.TempDir()
	const secret = "a secret of thirty-two bytes, or more"
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	access := filepath.Join(dir, "access.yaml")
	if err := os.WriteFile(access, fmt.Appendf(nil, "keys: {}\njwt:\n- {issuer: https://id.example.org, audience: [shop], algorithms: [HS256], file: %q}\n", filepath.Join(dir, "secret")), 0o600); err != nil {
		t.Fatal(err)
	}
	return startVictim(t, append(args, "--access", access)...), func(header, claims map[string]any) string {
		c := map[string]any{"iss": "https://id.example.org", "aud": "shop", "sub": "ada", "exp": time.Now().Add(time.Hour).Unix()}
		maps.Copy(c, claims)
		maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
		return hs256(t, secret, header, c)
	}
}

// forged are credentials that are wrong, given a good token and a key that was revoked.
func forged(t *testing.T, good, revoked string, token func(header, claims map[string]any) string) map[string]string {
	t.Helper()
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	parts := strings.Split(good, ".")
	return map[string]string{
		"a key that was revoked":      revoked,
		"a key of nobody":             "sbk_" + strings.Repeat("a", 16) + "_" + strings.Repeat("a", 52),
		"no algorithm":                token(map[string]any{"alg": "none"}, nil),
		"no signature":                parts[0] + "." + parts[1] + ".",
		"another's signature":         hs256(t, strings.Repeat("x", 32), nil, map[string]any{"iss": "https://id.example.org", "aud": "shop", "sub": "ada", "exp": at(time.Hour)}),
		"another subject":             parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"https://id.example.org","aud":"shop","sub":"root","exp":9999999999}`)) + "." + parts[2],
		"another audience":            token(nil, map[string]any{"aud": "bank"}),
		"no audience":                 token(nil, map[string]any{"aud": nil}),
		"another issuer":              token(nil, map[string]any{"iss": "https://evil.example"}),
		"never expires":               token(nil, map[string]any{"exp": nil}),
		"not yet, by an hour":         token(nil, map[string]any{"nbf": at(time.Hour)}),
		"made an hour from now":       token(nil, map[string]any{"iat": at(time.Hour)}),
		"nobody":                      token(nil, map[string]any{"sub": nil}),
		"a header that must be known": token(map[string]any{"crit": []string{"x"}, "x": 1}, nil),
		"its own key":                 token(map[string]any{"jwk": map[string]any{"kty": "oct", "k": "eA"}}, map[string]any{"aud": "bank"}),
		"no token":                    "a.b.c",
		"a very long one":             strings.Repeat("a", 9<<10),
	}
}

// TestHostileCredentials (row 38): credentials that are expired, revoked, forged or for somebody else are refused alike, and tell nobody what is wrong with them.
func TestHostileCredentials(t *testing.T) {
	t.Parallel()
	v, token := guardedVictim(t)
	b := newBrowser(t)
	ask := func(credential string) answer {
		return b.post(t, v.Ports["http"]+"/echo", `{"a":1}`, "Authorization", "Bearer "+credential)
	}
	var key struct{ ID, Key string }
	if err := json.Unmarshal([]byte(skybus(t, v.Ports["nats"], "keys", "new", "-o", "json")), &key); err != nil {
		t.Fatal(err)
	}
	good := token(nil, nil)
	eventually(t, patience, "the key is taken", func() bool { return ask(key.Key).status == http.StatusOK })
	if a := ask(good); a.status != http.StatusOK {
		t.Fatalf("a good token: %d %s", a.status, a.body)
	}
	skybus(t, v.Ports["nats"], "keys", "disable", key.ID)
	eventually(t, patience, "the key is refused", func() bool { return ask(key.Key).status == http.StatusUnauthorized })
	v.taken()

	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	const says = `"detail":"the credential is not valid"`
	for name, credential := range forged(t, good, key.Key, token) {
		a := ask(credential)
		if a.status != http.StatusUnauthorized || !strings.Contains(a.body, says) || a.header.Get("WWW-Authenticate") != `Bearer realm="skybus", error="invalid_token"` {
			t.Errorf("%s: %d %s %q", name, a.status, a.body, a.header.Get("WWW-Authenticate"))
		}
	}
	if a := ask(token(nil, map[string]any{"exp": at(-time.Hour)})); a.status != http.StatusUnauthorized || !strings.Contains(a.body, "the token has expired") {
		t.Errorf("expired an hour ago: %d %s", a.status, a.body)
	}
	for name, claims := range map[string]map[string]any{"20 s ago, within the skew": {"exp": at(-20 * time.Second)}, "in 20 s": {"nbf": at(20 * time.Second)}} {
		if a := ask(token(nil, claims)); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	for name, headers := range map[string][]string{
		"two credentials": {"Authorization", "Bearer " + good, "X-Api-Key", key.Key}, "the scheme of others": {"Authorization", "Basic eDp5"}, "none": nil,
	} {
		if a := b.post(t, v.Ports["http"]+"/echo", `{}`, headers...); a.status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := b.post(t, v.Ports["http"]+"/echo?access_token="+good+"&key="+good, `{}`); a.status != http.StatusUnauthorized {
		t.Errorf("in the query: %d %s", a.status, a.body)
	}
	if calls := v.taken(); len(calls) != 2 {
		t.Errorf("the service has %d requests, want the two that are within the skew", len(calls))
	}
}

// TestHostileOrigins (row 39): a page of another site makes a browser change nothing, neither by the gateway nor by what else stands at its address, also with what the browser adds by itself.
func TestHostileOrigins(t *testing.T) {
	t.Parallel()
	v := startVictim(t)
	b := newBrowser(t)
	timer := `{"id":"t","after":"1h","target":{"uri":"nats://default.dev.pub.x"}}`
	for _, to := range []struct{ method, url, body string }{
		{"POST", v.Ports["http"] + "/echo", `{}`},
		{"POST", v.Ports["http"] + "/v1/call/victim/echo", `{}`},
		{"PUT", v.Ports["http"] + "/admin/x", `{}`},
		{"DELETE", v.Ports["http"] + "/admin/x", ""},
		{"POST", v.Ports["http"] + "/v1/timers", timer},
		{"POST", v.Ports["timers"] + "/v1/timers", timer},
	} {
		for name, headers := range map[string][]string{
			"an origin alone":            {"Origin", "https://evil.example"},
			"an origin and a cookie":     {"Origin", "https://evil.example", "Cookie", "session=1"},
			"the origin of a file":       {"Origin", "null"},
			"the browser's word":         {"Sec-Fetch-Site", "cross-site"},
			"another page of the site":   {"Sec-Fetch-Site", "same-site", "Origin", "https://other.example"},
			"a form of its own encoding": {"Origin", "https://evil.example", "Content-Type", "text/plain"},
		} {
			a, err := b.do(t.Context(), to.method, to.url, to.body, headers...)
			if err != nil || a.status != http.StatusForbidden {
				t.Errorf("%s to %s %s: %d %s, %v", name, to.method, to.url, a.status, a.body, err)
			}
		}
	}
	if calls := v.taken(); len(calls) != 0 {
		t.Errorf("the service has %v", calls)
	}
	if a := b.post(t, v.Ports["http"]+"/v1/timers", timer, "Content-Type", "application/json"); a.status != http.StatusCreated {
		t.Errorf("a program's own timer: %d %s", a.status, a.body)
	}
	// A name that an attacker has lead here is not this machine's.
	for _, at := range []string{v.addr, strings.TrimPrefix(v.Ports["timers"], "http://"), strings.TrimPrefix(v.Ports["admin"], "http://")} {
		w := &victim{addr: at}
		if answers := w.raw(t, "GET /debug/vars HTTP/1.1\r\nHost: rebound.evil.example\r\n\r\n", 1, false); len(answers) != 1 || answers[0].status != http.StatusMisdirectedRequest {
			t.Errorf("%s answers another host by %v", at, answers)
		}
	}
}

// canary is a secret that can be looked for.
const canary = "canary5ecret"

// TestHostileSecrets (row 40): what is secret is in no log at any level, no figure, no page for operators and no answer, whatever goes wrong with it.
func TestHostileSecrets(t *testing.T) {
	t.Parallel()
	v, token := guardedVictim(t, "--access-log", "--log-level", "trace")
	b := newBrowser(t)
	good := token(nil, map[string]any{"sub": "ada", "note": canary})
	headers := [][]string{
		{"Authorization", "Bearer " + good, "Cookie", "session=" + canary, "Idempotency-Key", "k", "Referer", "https://x.example/?token=" + canary},
		{"Authorization", "Bearer " + canary},
		{"Authorization", "Basic " + canary},
		{"X-Api-Key", "sbk_" + strings.Repeat("a", 16) + "_" + canary},
		{"Authorization", "Bearer a." + canary + ".c"},
		{"Authorization", "Bearer " + token(nil, map[string]any{"iss": "https://" + canary + ".example"})},
		{"Authorization", "Bearer " + token(map[string]any{"kid": canary, "alg": "none"}, nil)},
	}
	signature := good[strings.LastIndexByte(good, '.')+1:]
	for _, to := range []struct{ method, path, body string }{
		{"POST", "/echo?key=" + canary, `"` + canary + `"`},
		{"POST", "/typed?token=" + canary, `{"number":"` + canary + `"}`},
		{"POST", "/typed", `{"id":"` + canary},
		{"POST", "/v1/call/victim/typed?password=" + canary, `{}`},
		{"POST", "/v1/call/nobody/here", `"` + canary + `"`},
		{"POST", "/nowhere", `{"a":"` + canary + `"}`},
		{"GET", "/v1/services?secret=" + canary, ""},
		{"PUT", "/echo", canary},
		{"POST", "/publish/x", canary},
		{"POST", "/v1/timers", `{"id":"t","after":"1h","target":{"uri":"https://user:` + canary + `@example.org/"}}`},
		{"GET", "/../x?" + canary, ""},
	} {
		for _, h := range headers {
			a, err := b.do(t.Context(), to.method, v.Ports["http"]+to.path, to.body, h...)
			if err != nil {
				t.Fatal(err)
			}
			echoes := a.status == http.StatusOK && strings.HasPrefix(to.path, "/echo")
			if text := a.body + fmt.Sprint(a.header); !echoes && strings.Contains(text, canary) || strings.Contains(text, signature) {
				t.Errorf("%s %s: %d %s %v", to.method, to.path, a.status, a.body, a.header)
			}
		}
	}
	v.unharmedBy(t, headers[0])
	for _, page := range []string{"/metrics", "/debug/vars", "/readyz", "/debug/pprof/goroutine?debug=2"} {
		if a := b.get(t, v.Ports["admin"]+page); a.status != http.StatusOK || strings.Contains(a.body, canary) || strings.Contains(a.body, signature) {
			t.Errorf("%s: %d, the secret in it: %v", page, a.status, strings.Contains(a.body, canary))
		}
	}
	v.leave()
	_ = v.conn.Close() // likewise before its server
	v.Stop(os.Interrupt)
	text := v.Output()
	for line := range strings.Lines(text) {
		if strings.Contains(line, canary) || strings.Contains(line, signature) {
			t.Errorf("the log has %s", line)
		}
	}
	if !strings.Contains(text, `"msg":"request"`) {
		t.Error("no request is in the log: nothing was seen")
	}
}

// TestHostileSecretsOfFiles (row 40): what is wrong with a file of secrets is told without them.
func TestHostileSecretsOfFiles(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	dir := t.TempDir()
	for name, file := range map[string]string{
		"a secret that is short":        "jwt: [{issuer: a, audience: [b], algorithms: [HS256], file: secret}]\n",
		"a URL with a login":            "jwt: [{issuer: a, audience: [b], algorithms: [RS256], jwks: \"https://user:" + canary + "@id.example/keys\"}]\n",
		"a URL with a bad port":         "jwt: [{issuer: a, audience: [b], algorithms: [RS256], jwks: \"https://" + canary + ":x/\"}]\n",
		"a password in the wrong place": "jwt: [{issuer: a, audience: [b], algorithms: [HS256], secret: " + canary + "}]\n",
	} {
		path := filepath.Join(dir, "access.yaml")
		for at, text := range map[string]string{path: file, filepath.Join(dir, "secret"): canary} {
			if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		code, stdout, stderr := programs().Run(t, "skybus", "gateway", "--access", path, "--http", "127.0.0.1:0", "--server", "nats://127.0.0.1:1", "--log-level", "trace")
		if code == 0 || strings.Contains(stdout+stderr, canary) {
			t.Errorf("%s: exit code %d, %s", name, code, stdout+stderr)
		}
	}
}

// unharmedBy fails the test where a request with these headers is not answered.
func (v *victim) unharmedBy(t *testing.T, headers []string) {
	t.Helper()
	if a := newBrowser(t).post(t, v.Ports["http"]+"/v1/call/victim/typed", `{"id":"fine"}`, headers...); a.status != http.StatusOK || !strings.Contains(a.body, "fine") {
		t.Errorf("a good request: %d %s", a.status, a.body)
	}
}
