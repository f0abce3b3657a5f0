package auth_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/http/auth"
)

// Every algorithm, from a key set and from what else a file may hold.
func TestTokenAlgorithms(t *testing.T) {
	t.Parallel()
	k := keysOnce()
	private := map[string]any{
		"HS256": k.secret, "HS384": k.secret, "HS512": k.secret, "EdDSA": k.ed,
		"RS256": k.rsa, "RS384": k.rsa, "RS512": k.rsa, "PS256": k.rsa, "PS384": k.rsa, "PS512": k.rsa,
		"ES256": k.ec["ES256"], "ES384": k.ec["ES384"], "ES512": k.ec["ES512"],
	}
	for alg, key := range private {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			g := tokenGuard(t, tokenConfig(t, jwks(t, jwk(t, "k1", key, nil)), alg))
			for _, kid := range []string{"k1", ""} {
				header := map[string]any{}
				if kid != "" {
					header["kid"] = kid
				}
				p, err := g.Authenticate(bearer(t, sign(t, alg, key, header, claims(nil))))
				if err != nil || p.Kind != auth.Token || p.ID != "u1" || p.Issuer != issuerName || p.Name != "Ada" ||
					!slices.Equal(p.Scopes, []string{"orders:read", "orders:write"}) {
					t.Errorf("key id %q: %+v, %v", kid, p, err)
				}
			}
			// The same token by an algorithm that is not among those allowed.
			other := map[bool]string{true: "RS256", false: "RS512"}[alg != "RS256"]
			if alg[0] == 'H' {
				other = map[bool]string{true: "HS256", false: "HS512"}[alg != "HS256"]
			}
			g = tokenGuard(t, tokenConfig(t, jwks(t, jwk(t, "k1", key, nil), jwk(t, "k2", map[bool]any{true: k.secret, false: k.rsa}[alg[0] == 'H'], nil)), other))
			wrong(t, g, "algorithm that is not allowed", sign(t, alg, key, nil, claims(nil)))
		})
	}
	for name, data := range map[string][]byte{"secret": []byte(strings.Repeat("s", 32) + "\n"), "public key": publicPEM(t, k.rsa), "certificate": selfSigned(t, k.rsa)} {
		alg, key := "RS256", any(k.rsa)
		if name == "secret" {
			alg, key = "HS256", []byte(strings.Repeat("s", 32))
		}
		g := tokenGuard(t, tokenConfig(t, data, alg))
		for _, header := range []map[string]any{nil, {"kid": "whatever"}} {
			if _, err := g.Authenticate(bearer(t, sign(t, alg, key, header, claims(nil)))); err != nil {
				t.Errorf("%s, header %v: %v", name, header, err)
			}
		}
		wrong(t, g, name+" and a long key id", sign(t, alg, key, map[string]any{"kid": strings.Repeat("k", 300)}, claims(nil)))
	}
}

func selfSigned(t *testing.T, key *rsa.PrivateKey) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: serial(t), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// wrong wants a token refused with 401 and nothing told.
func wrong(t *testing.T, g *auth.Guard, name, token string) {
	t.Helper()
	h := http.Header{}
	p, err := g.Authorize(h, bearer(t, token), auth.Policy{Anonymous: true})
	if bus.CodeOf(err) != bus.Unauthenticated || p != nil {
		t.Errorf("%s: %+v, %v: want it refused", name, p, err)
		return
	}
	if message := bus.AsError(err).Message; message != "the credential is not valid" {
		t.Errorf("%s: the answer tells %q", name, message)
	}
	if got := h.Get("WWW-Authenticate"); got != `Bearer realm="skybus", error="invalid_token"` {
		t.Errorf("%s: WWW-Authenticate %q", name, got)
	}
}

// Attacks on signatures: none of these may pass.
func TestTokenAttacks(t *testing.T) {
	t.Parallel()
	k := keysOnce()
	set := jwks(t, jwk(t, "rsa", k.rsa, nil), jwk(t, "ec", k.ec["ES256"], nil))
	g := tokenGuard(t, tokenConfig(t, set, "RS256", "ES256"))
	good := sign(t, "RS256", k.rsa, map[string]any{"kid": "rsa"}, claims(nil))
	if _, err := g.Authenticate(bearer(t, good)); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	kid := map[string]any{"kid": "rsa"}
	attacker := jwk(t, "rsa", k.otherRSA, nil)
	public := publicPEM(t, k.rsa)
	for name, token := range map[string]string{
		"alg none":                        sign(t, "none", nil, kid, claims(nil)),
		"alg None":                        encode(t, map[string]any{"alg": "None"}) + "." + parts[1] + ".",
		"alg nOnE with the old signature": encode(t, map[string]any{"alg": "nOnE"}) + "." + parts[1] + "." + parts[2],
		"alg missing":                     encode(t, map[string]any{"kid": "rsa"}) + "." + parts[1] + "." + parts[2],
		"alg null":                        encode(t, map[string]any{"alg": nil}) + "." + parts[1] + "." + parts[2],
		"alg a list":                      encode(t, map[string]any{"alg": []string{"RS256"}}) + "." + parts[1] + "." + parts[2],
		"public key as secret":            sign(t, "HS256", public, kid, claims(nil)),
		"public key as secret, trimmed":   sign(t, "HS256", []byte(strings.TrimSpace(string(public))), kid, claims(nil)),
		"modulus as secret":               sign(t, "HS256", k.rsa.N.Bytes(), kid, claims(nil)),
		"key set as secret":               sign(t, "HS256", set, kid, claims(nil)),
		"empty secret":                    sign(t, "HS256", []byte{}, kid, claims(nil)),
		"another key":                     sign(t, "RS256", k.otherRSA, kid, claims(nil)),
		"another key without id":          sign(t, "RS256", k.otherRSA, nil, claims(nil)),
		"embedded key":                    sign(t, "RS256", k.otherRSA, map[string]any{"jwk": attacker}, claims(nil)),
		"embedded key with id":            sign(t, "RS256", k.otherRSA, map[string]any{"kid": "rsa", "jwk": attacker}, claims(nil)),
		"key of a URL":                    sign(t, "RS256", k.otherRSA, map[string]any{"kid": "x", "jku": "http://127.0.0.1:1/jwks"}, claims(nil)),
		"certificate URL":                 sign(t, "RS256", k.otherRSA, map[string]any{"kid": "x", "x5u": "http://127.0.0.1:1/x"}, claims(nil)),
		"key of another kind":             sign(t, "RS256", k.rsa, map[string]any{"kid": "ec"}, claims(nil)),
		"ES256 with the RSA key's id":     sign(t, "ES256", k.ec["ES256"], kid, claims(nil)),
		"PS256 is not allowed":            sign(t, "PS256", k.rsa, kid, claims(nil)),
		"ES512 is not allowed":            sign(t, "ES512", k.ec["ES512"], nil, claims(nil)),
		"no signature":                    parts[0] + "." + parts[1] + ".",
		"swapped claims":                  parts[0] + "." + encode(t, claims(map[string]any{"sub": "root"})) + "." + parts[2],
		"swapped header":                  encode(t, map[string]any{"alg": "RS256", "kid": "rsa", "x": 1}) + "." + parts[1] + "." + parts[2],
		"cut signature":                   good[:len(good)-8],
		"critical header":                 sign(t, "RS256", k.rsa, map[string]any{"kid": "rsa", "crit": []string{"exp"}, "exp": 1}, claims(nil)),
		"critical b64":                    sign(t, "RS256", k.rsa, map[string]any{"kid": "rsa", "crit": []string{"b64"}, "b64": false}, claims(nil)),
		"b64":                             sign(t, "RS256", k.rsa, map[string]any{"kid": "rsa", "b64": true}, claims(nil)),
		"key id of a path":                sign(t, "RS256", k.otherRSA, map[string]any{"kid": "../../../../dev/null"}, claims(nil)),
		"key id of SQL":                   sign(t, "HS256", []byte("x"), map[string]any{"kid": "x' UNION SELECT 'x"}, claims(nil)),
		"key id with a line break":        sign(t, "RS256", k.rsa, map[string]any{"kid": "rsa\n"}, claims(nil)),
		"long key id":                     sign(t, "RS256", k.rsa, map[string]any{"kid": strings.Repeat("k", 300)}, claims(nil)),
		"key id a number":                 sign(t, "RS256", k.rsa, map[string]any{"kid": 1}, claims(nil)),
		"algorithm twice":                 b64([]byte(`{"alg":"none","alg":"RS256","kid":"rsa"}`)) + "." + parts[1] + "." + parts[2],
		"four parts":                      good + ".x",
		"two parts":                       parts[0] + "." + parts[1],
		"five parts, as encrypted":        strings.Join([]string{parts[0], "", "", parts[1], parts[2]}, "."),
		"JSON serialization":              b64([]byte(`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`)),
		"not base64":                      "!" + good,
		"padded":                          parts[0] + "==." + parts[1] + "." + parts[2],
		"deep header":                     b64([]byte(`{"alg":"RS256","x":`+strings.Repeat("[", 3000)+strings.Repeat("]", 3000)+`}`)) + ".e30.",
		"header no object":                b64([]byte(`[]`)) + "." + parts[1] + "." + parts[2],
		"claims no object":                parts[0] + "." + b64([]byte(`"x"`)) + "." + parts[2],
		"oversized":                       sign(t, "RS256", k.rsa, kid, claims(map[string]any{"x": strings.Repeat("x", 8<<10)})),
	} {
		wrong(t, g, name, token)
	}
}

// tenantGuard takes tokens of two tenants, and token makes one.
func tenantGuard(t *testing.T) (g *auth.Guard, token func(changes map[string]any) string) {
	t.Helper()
	k := keysOnce()
	cfg := tokenConfig(t, jwks(t, jwk(t, "k", k.secret, nil)), "HS256")
	cfg.Require = map[string][]string{"tenant.id": {"7", "acme"}, "email": nil}
	return tokenGuard(t, cfg), func(changes map[string]any) string {
		t.Helper()
		c := claims(map[string]any{"tenant": map[string]any{"id": 7}, "email": "ada@example.org"})
		for name, v := range changes {
			c[name] = v
			if v == nil {
				delete(c, name)
			}
		}
		return sign(t, "HS256", k.secret, nil, c)
	}
}

func TestTokenClaims(t *testing.T) {
	t.Parallel()
	g, token := tenantGuard(t)
	now := time.Now()
	for name, changes := range map[string]map[string]any{
		"as it is":              {},
		"one of two audiences":  {"aud": []string{"x", audience}},
		"expired within skew":   {"exp": now.Add(-20 * time.Second).Unix()},
		"not before, with skew": {"nbf": now.Add(20 * time.Second).Unix()},
		"fraction":              {"exp": float64(now.Add(time.Hour).UnixMilli()) / 1000},
		"another tenant":        {"tenant": map[string]any{"id": "acme"}},
		"tenants":               {"tenant": map[string]any{"id": []any{"x", 7}}},
		"no issue time":         {"iat": nil},
	} {
		if _, err := g.Authenticate(bearer(t, token(changes))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Claims that a good signature does not help.
func TestTokenClaimsRefused(t *testing.T) {
	t.Parallel()
	g, token := tenantGuard(t)
	k, now := keysOnce(), time.Now()
	for name, changes := range map[string]map[string]any{
		"not before, in the future": {"nbf": now.Add(time.Minute).Unix()},
		"issued in the future":      {"iat": now.Add(time.Minute).Unix()},
		"never expires":             {"exp": nil},
		"expires as text":           {"exp": "tomorrow"},
		"expires at 1e300":          {"exp": json.RawMessage("1e300")},
		"not before -1e300 to 1e19": {"nbf": json.RawMessage("1e19")},
		"another audience":          {"aud": "https://other.example.org"},
		"audience as a prefix":      {"aud": audience + ".evil.org"},
		"no audience":               {"aud": nil},
		"empty audiences":           {"aud": []string{}},
		"audience an object":        {"aud": map[string]any{audience: true}},
		"another issuer":            {"iss": "https://evil.example.org"},
		"issuer with a slash":       {"iss": issuerName + "/"},
		"no issuer":                 {"iss": nil},
		"issuer a list":             {"iss": []string{issuerName}},
		"no subject":                {"sub": nil},
		"empty subject":             {"sub": ""},
		"subject with a line break": {"sub": "a\r\nX: y"},
		"subject too long":          {"sub": strings.Repeat("s", 600)},
		"required missing":          {"email": nil},
		"required null":             {"email": json.RawMessage("null")},
		"required another":          {"tenant": map[string]any{"id": 8}},
		"required of another shape": {"tenant": "7"},
		"scopes a number":           {"scope": 7},
		"scopes of numbers":         {"scope": []int{1}},
		"too many scopes":           {"scope": strings.Repeat("a ", 101)},
	} {
		wrong(t, g, name, token(changes))
	}
	// A good token that is over is told from the others: who has it knows to get another.
	_, err := g.Authenticate(bearer(t, token(map[string]any{"exp": now.Add(-time.Minute).Unix()})))
	if bus.CodeOf(err) != bus.Unauthenticated || bus.AsError(err).Message != "the token has expired" {
		t.Errorf("expired: %v", err)
	}
	wrong(t, g, "expired, of another's key", sign(t, "HS256", []byte(strings.Repeat("x", 32)), nil, claims(map[string]any{"exp": now.Add(-time.Minute).Unix()})))
	doubled := encode(t, map[string]any{"alg": "HS256"}) + "." + b64([]byte(`{"iss":"`+issuerName+`","sub":"u1","sub":"root","aud":"`+audience+`","exp":9999999999}`))
	wrong(t, g, "a claim twice", doubled+"."+b64(signature(t, "HS256", k.secret, doubled)))
}

func TestTokenScopesAndValues(t *testing.T) {
	t.Parallel()
	k := keysOnce()
	set := jwks(t, jwk(t, "", k.secret, nil))
	for _, tt := range []struct {
		claim string // configured
		give  map[string]any
		want  []string
	}{
		{"", map[string]any{"scope": "a b"}, []string{"a", "b"}},
		{"", map[string]any{"scope": nil, "scp": "a b"}, []string{"a", "b"}},
		{"", map[string]any{"scope": nil, "scp": []string{"a", "b"}}, []string{"a", "b"}},
		{"", map[string]any{"scope": "", "scp": "c"}, nil},
		{"", map[string]any{"scope": nil}, nil},
		{"realm.roles", map[string]any{"realm": map[string]any{"roles": []string{"admin"}}}, []string{"admin"}},
		{"https://x.org/roles", map[string]any{"https://x.org/roles": []string{"admin"}}, []string{"admin"}},
		{"roles", map[string]any{"scope": "a"}, nil},
		{"", map[string]any{"scope": "ok \"x\" \u00e4"}, []string{"ok"}},
	} {
		cfg := tokenConfig(t, set, "HS256")
		cfg.Scopes = tt.claim
		p, err := tokenGuard(t, cfg).Authenticate(bearer(t, sign(t, "HS256", k.secret, nil, claims(tt.give))))
		if err != nil || !slices.Equal(p.Scopes, tt.want) {
			t.Errorf("%q of %v: %+v, %v", tt.claim, tt.give, p, err)
		}
	}

	cfg := tokenConfig(t, set, "HS256")
	cfg.Subject, cfg.Name = "oid", "user.login"
	p, err := tokenGuard(t, cfg).Authenticate(bearer(t, sign(t, "HS256", k.secret, nil, claims(map[string]any{
		"oid": 12345678901234567, "user": map[string]any{"login": "ada", "a.b": "c"}, "groups": []string{"x", "y"}, "admin": true, "mixed": []any{1, "x"}, "null": json.RawMessage("null"),
	}))))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"auth.kind": "jwt", "auth.id": "12345678901234567", "auth.name": "ada", "auth.scopes": "orders:read orders:write",
		"claim.sub": "u1", "claim.oid": "12345678901234567", "claim.user.login": "ada", "claim.user.a.b": "c", "claim.user": `{"a.b":"c","login":"ada"}`,
		"claim.groups": "x y", "claim.admin": "true", "claim.mixed": `[1,"x"]`,
	} {
		if got, ok := p.Value(name); !ok || got != want {
			t.Errorf("%s is %q, %t: want %q", name, got, ok, want)
		}
	}
	for _, name := range []string{"claim.none", "claim.user.none", "claim.sub.x", "claim.null", "claim.", "claim", "other", ""} {
		if got, ok := p.Value(name); ok {
			t.Errorf("%s is %q", name, got)
		}
	}
	if p.Key() != "jwt:"+issuerName+"|12345678901234567" {
		t.Errorf("key %q", p.Key())
	}
}

// Each issuer's keys are for its own tokens.
func TestTokenIssuers(t *testing.T) {
	t.Parallel()
	k := keysOnce()
	first := tokenConfig(t, jwks(t, jwk(t, "k", k.rsa, nil)), "RS256")
	other := tokenConfig(t, jwks(t, jwk(t, "k", k.secret, nil)), "HS256")
	other.Issuer, other.Type, other.Audience, other.AnyAudience = "https://other.example.org", "at+jwt", nil, true
	g := tokenGuard(t, first, other)
	theirs := claims(map[string]any{"iss": other.Issuer, "aud": nil})
	for name, token := range map[string]string{
		"first":                   sign(t, "RS256", k.rsa, nil, claims(nil)),
		"other":                   sign(t, "HS256", k.secret, map[string]any{"typ": "at+jwt"}, theirs),
		"other, with a long type": sign(t, "HS256", k.secret, map[string]any{"typ": "application/AT+JWT"}, theirs),
	} {
		if _, err := g.Authenticate(bearer(t, token)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wrong(t, g, "the other's key for the first", sign(t, "HS256", k.secret, nil, claims(nil)))
	wrong(t, g, "the first's key for the other", sign(t, "RS256", k.rsa, map[string]any{"typ": "at+jwt"}, theirs))
	shared := tokenConfig(t, jwks(t, jwk(t, "k", k.rsa, nil)), "PS256")
	shared.Issuer = "https://third.example.org"
	third := claims(map[string]any{"iss": shared.Issuer})
	both := tokenGuard(t, first, shared)
	if _, err := both.Authenticate(bearer(t, sign(t, "PS256", k.rsa, nil, third))); err != nil {
		t.Error(err)
	}
	wrong(t, both, "an algorithm of another issuer alone", sign(t, "RS256", k.rsa, nil, third))
	wrong(t, g, "of another type", sign(t, "HS256", k.secret, nil, theirs))
	wrong(t, g, "without a type", sign(t, "HS256", k.secret, map[string]any{"typ": nil}, theirs))
}

// userGuard tells services who somebody is, and user makes a request.
func userGuard(t *testing.T) (g *auth.Guard, user func(email string) *http.Request) {
	t.Helper()
	k := keysOnce()
	g = openGuard(t, nil, auth.Config{
		Realm: "shop", JWT: []auth.JWTConfig{tokenConfig(t, jwks(t, jwk(t, "", k.secret, nil)), "HS256")}, MTLS: &auth.MTLSConfig{},
		Headers: map[string]string{"X-User": "auth.id", "x-email": "claim.email", "X-Kind": "auth.kind"},
	}, auth.Options{})
	return g, func(email string) *http.Request {
		t.Helper()
		return bearer(t, sign(t, "HS256", k.secret, nil, claims(map[string]any{"email": email})))
	}
}

func TestGuardPolicies(t *testing.T) {
	t.Parallel()
	g, user := userGuard(t)
	good := user("ada@example.org")
	for _, tt := range []struct {
		name      string
		r         *http.Request
		policy    auth.Policy
		want      bus.Code
		challenge string
	}{
		{"good", good, auth.Policy{}, "", ""},
		{"good, with scopes", good, auth.Policy{Scopes: []string{"orders:write", "orders:read"}, Kinds: []auth.Kind{auth.APIKey, auth.Token}}, "", ""},
		{"anonymous", request(t), auth.Policy{Anonymous: true}, "", ""},
		{"no credential", request(t), auth.Policy{}, bus.Unauthenticated, `Bearer realm="shop"`},
		{"another scheme", request(t, "Authorization", "Basic eDp5"), auth.Policy{Anonymous: true}, bus.Unauthenticated, `Bearer realm="shop", error="invalid_token"`},
		{"missing scope", good, auth.Policy{Scopes: []string{"orders:read", "admin"}}, bus.PermissionDenied, `Bearer realm="shop", error="insufficient_scope", scope="orders:read admin"`},
		{"another kind", good, auth.Policy{Kinds: []auth.Kind{auth.Certificate}}, bus.PermissionDenied, `Bearer realm="shop", error="insufficient_scope"`},
	} {
		h := http.Header{}
		p, err := g.Authorize(h, tt.r, tt.policy)
		if bus.CodeOf(err) != tt.want || h.Get("WWW-Authenticate") != tt.challenge || (p == nil) != (err != nil) {
			t.Errorf("%s: %+v, %v, %q", tt.name, p, err, h)
		}
		if tt.name == "missing scope" && (!strings.Contains(err.Error(), `"admin"`) || bus.AsError(err).Details["scope"] != "admin") {
			t.Errorf("%v does not name the scope", err)
		}
	}
}

// What services are told is what the guard knows, never what a client says.
func TestGuardHeaders(t *testing.T) {
	t.Parallel()
	g, user := userGuard(t)
	p, err := g.Authorize(http.Header{}, user("ada@example.org"), auth.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	h := map[string][]string{"X-User": {"spoofed"}, "X-Email": {"spoofed"}, "X-Other": {"kept"}}
	if err := g.SetHeader(h, p); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(h); got != "map[X-Email:[ada@example.org] X-Kind:[jwt] X-Other:[kept] X-User:[u1]]" {
		t.Errorf("headers are %s", got)
	}
	nobody, err := g.Authenticate(request(t))
	if err != nil {
		t.Fatal(err)
	}
	h = map[string][]string{"X-User": {"spoofed"}}
	if err := g.SetHeader(h, nobody); err != nil || len(h) != 0 {
		t.Errorf("headers of nobody are %v, %v", h, err)
	}
	if p, err = g.Authenticate(user("a\r\nX-Admin: 1")); err != nil {
		t.Fatal(err)
	}
	if err := g.SetHeader(h, p); bus.CodeOf(err) != bus.Unauthenticated {
		t.Errorf("a claim with a line break becomes a header: %v, %v", h, err)
	}
	for name, want := range map[string]bool{
		"authorization": true, "Proxy-Authorization": true, "X-USER": true, "x_user": true, "X_Email": true, "X-Other": false, "X-Api-Key": false,
	} {
		if got := g.Hides(name); got != want {
			t.Errorf("%s is hidden: %t", name, got)
		}
	}
}

func FuzzAuthorization(f *testing.F) {
	k := keysOnce()
	guard := newSecretGuard(f, k)
	good := sign(f, "HS256", k.secret, nil, claims(nil))
	for _, s := range []string{
		"Bearer " + good, "Bearer sbk_a_b", "Basic eDp5", "", "Bearer", "Bearer a.b.c", "Bearer " + sign(f, "none", nil, nil, claims(nil)),
		"Bearer " + sign(f, "HS256", k.secret, map[string]any{"crit": []string{"x"}}, claims(map[string]any{"aud": []any{nil, 1}})), "bearer \t" + good,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		p, err := guard.Authenticate(request(t, "Authorization", value))
		switch {
		case err == nil && p.Kind == auth.Anonymous:
			t.Errorf("%q counts as nothing", value)
		case err == nil && !strings.Contains(value, good[:len(good)-1]): // of the last character some bits count for nothing
			t.Errorf("%q is taken for %+v", value, p)
		case err != nil && bus.CodeOf(err) != bus.Unauthenticated:
			t.Errorf("%q: %v", value, err)
		}
	})
}

// newSecretGuard is a guard for tokens by secret.
func newSecretGuard(t testing.TB, k testKeys) *auth.Guard {
	t.Helper()
	return tokenGuard(t, tokenConfig(t, jwks(t, jwk(t, "", k.secret, nil)), "HS256"))
}

// BenchmarkToken verifies a token anew each time, and takes one that is remembered.
func BenchmarkToken(b *testing.B) {
	k := keysOnce()
	for _, remember := range []int{-1, 0} {
		for alg, key := range map[string]any{"HS256": k.secret, "RS256": k.rsa, "ES256": k.ec["ES256"], "EdDSA": k.ed} {
			b.Run(alg+map[int]string{-1: "/anew", 0: "/remembered"}[remember], func(b *testing.B) {
				cfg := auth.Config{JWT: []auth.JWTConfig{tokenConfig(b, jwks(b, jwk(b, "k", key, nil)), alg)}, RememberTokens: remember}
				guard := openGuard(b, nil, cfg, auth.Options{})
				r := bearer(b, sign(b, alg, key, map[string]any{"kid": "k"}, claims(nil)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := guard.Authenticate(r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
