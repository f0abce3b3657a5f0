package auth_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/http/auth"
	"github.com/skybus-io/skybus/micro/route"
)

// jwtWith is a good configuration with a change.
func jwtWith(change func(*auth.JWTConfig)) auth.Config {
	c := remoteConfig("RS256")
	change(&c)
	return auth.Config{JWT: []auth.JWTConfig{c}}
}

// refused is a configuration and the field that is wrong in it.
type refused struct {
	field string
	cfg   auth.Config
}

func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	if err := jwtWith(func(*auth.JWTConfig) {}).Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range slices.Concat(refusedTokens(), refusedOthers()) {
		err := tt.cfg.Validate()
		if bus.CodeOf(err) != bus.InvalidArgument || !strings.HasPrefix(bus.AsError(err).Message, tt.field) || strings.Contains(fmt.Sprint(err), "canary") {
			t.Errorf("%+v: %v: want it to begin with %q", tt.cfg, err, tt.field)
		}
		if g, err := auth.Open(t.Context(), nil, tt.cfg, auth.Options{}); err == nil {
			_ = g.Close()
			t.Errorf("%s: opened", tt.field)
		}
	}
	for _, u := range []string{"http://127.0.0.1:9/k", "http://[::1]/k", "http://localhost:9/k", "https://id.example.org:8443/k?x=y"} {
		if err := jwtWith(func(c *auth.JWTConfig) { c.JWKS = u }).Validate(); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
}

func refusedTokens() []refused {
	good := remoteConfig("RS256")
	return []refused{
		{"jwt[0].issuer", jwtWith(func(c *auth.JWTConfig) { c.Issuer = "" })},
		{"jwt[1].issuer", auth.Config{JWT: []auth.JWTConfig{good, good}}},
		{"jwt", auth.Config{JWT: make([]auth.JWTConfig, 33)}},
		{"jwt[0].audience", jwtWith(func(c *auth.JWTConfig) { c.Audience = nil })},
		{"jwt[0].audience", jwtWith(func(c *auth.JWTConfig) { c.Audience = []string{""} })},
		{"jwt[0].any_audience", jwtWith(func(c *auth.JWTConfig) { c.AnyAudience = true })},
		{"jwt[0].algorithms", jwtWith(func(c *auth.JWTConfig) { c.Algorithms = nil })},
		{"jwt[0].algorithms", jwtWith(func(c *auth.JWTConfig) { c.Algorithms = []string{"none"} })},
		{"jwt[0].algorithms", jwtWith(func(c *auth.JWTConfig) { c.Algorithms = []string{"RS256", "none"} })},
		{"jwt[0].algorithms", jwtWith(func(c *auth.JWTConfig) { c.Algorithms = []string{""} })},
		{"jwt[0].algorithms", jwtWith(func(c *auth.JWTConfig) { c.Algorithms = []string{"rs256"} })},
		{"jwt[0].algorithms", jwtWith(func(c *auth.JWTConfig) { c.Algorithms = []string{"RS256", "HS256"} })},
		{"jwt[0].algorithms", jwtWith(func(c *auth.JWTConfig) { c.Algorithms = []string{"RS256", "RS256"} })},
		{"jwt[0].jwks", jwtWith(func(c *auth.JWTConfig) { c.Algorithms = []string{"HS256"} })},
		{"jwt[0].jwks", jwtWith(func(c *auth.JWTConfig) { c.JWKS = "" })},
		{"jwt[0].jwks", jwtWith(func(c *auth.JWTConfig) { c.File = "x" })},
		{"jwt[0].jwks", jwtWith(func(c *auth.JWTConfig) { c.JWKS = "http://id.example.org/keys" })},
		{"jwt[0].jwks", jwtWith(func(c *auth.JWTConfig) { c.JWKS = "http://127.0.0.1.example.org/keys" })},
		{"jwt[0].jwks", jwtWith(func(c *auth.JWTConfig) { c.JWKS = "http://localhost.example.org/keys" })},
		{"jwt[0].jwks", jwtWith(func(c *auth.JWTConfig) { c.JWKS = "http://0177.0.0.1/keys" })},
		{"jwt[0].jwks", jwtWith(func(c *auth.JWTConfig) { c.JWKS = "https://user:canary@id.example.org/keys" })},
		{"jwt[0].jwks", jwtWith(func(c *auth.JWTConfig) { c.JWKS = "file:///etc/passwd" })},
		{"jwt[0].jwks", jwtWith(func(c *auth.JWTConfig) { c.JWKS = "https://" })},
		{"jwt[0].jwks", jwtWith(func(c *auth.JWTConfig) { c.JWKS = "https://x/" + strings.Repeat("x", 2048) })},
		{"jwt[0].skew", jwtWith(func(c *auth.JWTConfig) { c.Skew = route.Duration(6 * time.Minute) })},
		{"jwt[0].skew", jwtWith(func(c *auth.JWTConfig) { c.Skew = -1 })},
		{"jwt[0].refresh", jwtWith(func(c *auth.JWTConfig) { c.Refresh = route.Duration(time.Second) })},
		{"jwt[0].refresh", jwtWith(func(c *auth.JWTConfig) { c.Refresh = route.Duration(48 * time.Hour) })},
		{"jwt[0].subject", jwtWith(func(c *auth.JWTConfig) { c.Subject = strings.Repeat("x", 129) })},
		{"jwt[0].require", jwtWith(func(c *auth.JWTConfig) { c.Require = map[string][]string{"": nil} })},
	}
}

func refusedOthers() []refused {
	return []refused{
		{"realm", auth.Config{Realm: `a"b`}},
		{"realm", auth.Config{Realm: "a\nb"}},
		{"keys.header", auth.Config{Keys: &auth.KeysConfig{Header: "X Key"}}},
		{"keys.header", auth.Config{Keys: &auth.KeysConfig{Header: "authorization"}}},
		{"keys.header", auth.Config{Keys: &auth.KeysConfig{Header: "X_Key"}}},
		{"mtls.name", auth.Config{MTLS: &auth.MTLSConfig{Name: "ip"}}},
		{"mtls.scopes[0]", auth.Config{MTLS: &auth.MTLSConfig{Scopes: []string{""}}}},
		{"mtls.grants", auth.Config{MTLS: &auth.MTLSConfig{Grants: map[string][]string{"a\nb": nil}}}},
		{"mtls.grants", auth.Config{MTLS: &auth.MTLSConfig{Grants: map[string][]string{"a": {"b c"}}}}},
		{"mtls.only", auth.Config{MTLS: &auth.MTLSConfig{Only: true}}},
		{"headers", auth.Config{Headers: map[string]string{"Nats-Msg-Id": "auth.id"}}},
		{"headers", auth.Config{Headers: map[string]string{"Skybus-From": "auth.id"}}},
		{"headers", auth.Config{Headers: map[string]string{"Content-Length": "auth.id"}}},
		{"headers", auth.Config{Headers: map[string]string{"Cookie": "auth.id"}}},
		{"headers", auth.Config{Headers: map[string]string{"X User": "auth.id"}}},
		{"headers", auth.Config{Headers: map[string]string{"X-User\r\nX": "auth.id"}}},
		{"headers", auth.Config{Headers: map[string]string{"X_User": "auth.id"}}},
		{"headers", auth.Config{Headers: map[string]string{"X-User": "auth.id", "x-user": "auth.id"}}},
		{"headers.X-User", auth.Config{Headers: map[string]string{"X-User": "sub"}}},
		{"headers.X-User", auth.Config{Headers: map[string]string{"X-User": "claim."}}},
	}
}

func TestPolicyRefuses(t *testing.T) {
	t.Parallel()
	for field, p := range map[string]auth.Policy{
		"auth.kinds[0]":  {Kinds: []auth.Kind{"password"}},
		"auth.kinds[1]":  {Kinds: []auth.Kind{auth.Token, auth.Anonymous}},
		"auth.scopes[0]": {Scopes: []string{"a b"}},
		"auth.scopes:":   {Anonymous: true, Scopes: []string{"a"}},
	} {
		if err := p.Validate(); bus.CodeOf(err) != bus.InvalidArgument || !strings.Contains(err.Error(), field) {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

// A configuration reads from JSON as the documentation writes it.
func TestConfigJSON(t *testing.T) {
	t.Parallel()
	const text = `{
		"realm": "shop",
		"keys": {},
		"jwt": [{"issuer": "https://id.example.org", "audience": ["shop"], "algorithms": ["RS256"], "jwks": "https://id.example.org/keys",
			"skew": "10s", "refresh": "5m", "require": {"tenant": ["acme"]}, "scopes": "realm_access.roles"}],
		"mtls": {"name": "uri", "grants": {"spiffe://acme/billing": ["orders:write"]}, "only": true},
		"headers": {"X-User": "auth.id", "X-Tenant": "claim.tenant"}
	}`
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	var cfg auth.Config
	if err := dec.Decode(&cfg); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if cfg.Keys == nil || time.Duration(cfg.JWT[0].Skew) != 10*time.Second || !cfg.MTLS.Only {
		t.Errorf("read %+v", cfg)
	}
}
