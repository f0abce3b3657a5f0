package auth

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What a guard takes, and what a policy asks of that, as OpenAPI has it.
func TestSecurity(t *testing.T) {
	t.Parallel()
	type requirements = []map[string][]string
	all := Config{Keys: &KeysConfig{Header: "x-key"}, JWT: []JWTConfig{{}}, MTLS: &MTLSConfig{}}
	for name, tt := range map[string]struct {
		cfg     Config
		policy  Policy
		schemes map[string]any
		want    requirements
	}{
		"all": {all, Policy{Scopes: []string{"a", "b"}}, map[string]any{
			"apiKey":      map[string]string{"type": "apiKey", "in": "header", "name": "X-Key"},
			"bearer":      map[string]string{"type": "http", "scheme": "bearer", "description": "An API key or a JSON web token."},
			"certificate": map[string]string{"type": "mutualTLS"},
		}, requirements{{"apiKey": {"a", "b"}}, {"bearer": {"a", "b"}}, {"certificate": {"a", "b"}}}},
		"tokens": {Config{JWT: []JWTConfig{{}}}, Policy{Anonymous: true}, map[string]any{
			"bearer": map[string]string{"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
		}, requirements{{"bearer": {}}, {}}},
		"one kind": {all, Policy{Kinds: []Kind{Token}}, nil, requirements{{"bearer": {}}}},
		"keys":     {all, Policy{Kinds: []Kind{APIKey}}, nil, requirements{{"apiKey": {}}, {"bearer": {}}}},
		"no one":   {Config{Keys: &KeysConfig{}}, Policy{Kinds: []Kind{Certificate}}, nil, nil},
		"nothing":  {Config{}, Policy{Anonymous: true}, map[string]any{}, requirements{{}}},
	} {
		g := &Guard{cfg: tt.cfg}
		if diff := cmp.Diff(tt.want, g.SecurityRequirements(tt.policy)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if diff := cmp.Diff(tt.schemes, g.SecuritySchemes()); tt.schemes != nil && diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
