// Package auth tells who sends an HTTP request, and whether that is enough for what it asks for: by API keys, JSON web tokens and
// client certificates. It knows nothing of what is asked for: a [Policy] stands beside each entry of a gateway, and a [Guard]
// holds the requests against it.
//
// # What is a credential
//
// An API key (sbk_<id>_<secret>) or a JWT in the header Authorization as a Bearer token, an API key in X-Api-Key, and the certificate
// that the client showed in the TLS handshake. Never the query of a URL: it ends up in logs and histories. A request with two of
// the headers, or with one of them twice, is refused: what stands in front of the gateway may have looked at the other one.
//
// A credential that is wrong is refused (401) also where none is needed: who sends one means to be somebody. What is wrong with it is
// not told, save that a token whose signature is good has expired.
//
// # What changes while it runs
//
// Keys are followed in their bucket: one that is disabled or removed is refused some milliseconds later by every gateway that is
// connected, and one without a connection has nothing to serve. Key sets of tokens are read again from time to time, and when a token
// names a key that is not known; what was read last is good until something else was.
package auth

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/skybus-io/skybus/bus"
)

// Kind is how somebody showed who it is.
type Kind string

// The kinds of principals.
const (
	Anonymous   Kind = "anonymous"   // nobody said
	APIKey      Kind = "key"         // a key of [Keys]
	Token       Kind = "jwt"         // a JSON web token
	Certificate Kind = "certificate" // a client certificate
)

// Bounds of what principals are made of.
const (
	MaxScopes = 100 // of a key, a token or a policy
	MaxScope  = 128 // bytes of a scope
	maxID     = 512 // bytes of an id or name
)

// Principal is who sends a request. It is shared between requests and must not be changed.
type Principal struct {
	Kind Kind
	// ID is the id of a key, the subject of a token, or the name in a certificate.
	ID string
	// Issuer tells the same ids of several issuers apart. Only tokens have one.
	Issuer string
	// Name is for people. It may be empty, and says nothing that can be relied on.
	Name   string
	Scopes []string
	// Claims are those of a token; numbers are [json.Number]s.
	Claims map[string]any
}

// Key tells principals apart, for what is counted of each: kind, issuer and id.
func (p *Principal) Key() string {
	if p.Issuer == "" {
		return string(p.Kind) + ":" + p.ID
	}
	return string(p.Kind) + ":" + p.Issuer + "|" + p.ID
}

// Value is what a placeholder stands for: auth.kind, auth.id, auth.name, auth.scopes, or claim.<name>, where dots lead into
// objects (claim.realm.roles). A claim that is a list of texts is these with spaces between them, another that is no text is its
// JSON. False means that there is none of that name.
func (p *Principal) Value(name string) (string, bool) {
	switch name {
	case "auth.kind":
		return string(p.Kind), true
	case "auth.id":
		return p.ID, p.ID != ""
	case "auth.name":
		return p.Name, p.Name != ""
	case "auth.scopes":
		return strings.Join(p.Scopes, " "), true
	}
	path, ok := strings.CutPrefix(name, "claim.")
	if !ok {
		return "", false
	}
	v, ok := claim(p.Claims, path)
	if !ok {
		return "", false
	}
	return text(v)
}

// missing is the first of scopes that p does not have.
func (p *Principal) missing(scopes []string) string {
	for _, s := range scopes {
		if !slices.Contains(p.Scopes, s) {
			return s
		}
	}
	return ""
}

// claim finds a claim by its name, or by a path into objects. A claim whose own name has the dots comes first.
func claim(claims map[string]any, path string) (any, bool) {
	if v, ok := claims[path]; ok {
		return v, true
	}
	for i := range len(path) {
		if path[i] != '.' {
			continue
		}
		inner, ok := claims[path[:i]].(map[string]any)
		if !ok {
			continue
		}
		if v, ok := claim(inner, path[i+1:]); ok {
			return v, true
		}
	}
	return nil, false
}

// text is a claim as a placeholder or a header has it.
func text(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "", false
	case string:
		return v, true
	case []any:
		if words, ok := texts(v); ok {
			return strings.Join(words, " "), true
		}
	}
	b, err := json.Marshal(v)
	return string(b), err == nil
}

func texts(list []any) ([]string, bool) {
	words := make([]string, 0, len(list))
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, false
		}
		words = append(words, s)
	}
	return words, true
}

// Authenticator finds out who sends a request. It must be safe for concurrent use.
type Authenticator interface {
	// Authenticate returns nil and no error for a request without a credential that is its concern. The error is a [bus.Error],
	// with the code [bus.Unauthenticated] for a credential that is wrong and [bus.Unavailable] where that cannot be told now. Its text
	// is the answer, its cause is for the log; neither holds the credential.
	Authenticate(r *http.Request) (*Principal, error)
}

// Policy is what an entry asks of who sends a request. The zero Policy asks for a credential, of whatever kind.
type Policy struct {
	// Anonymous lets requests without a credential pass. It goes with no scopes.
	Anonymous bool `json:"anonymous,omitempty"`
	// Kinds are the credentials that count: key, jwt, certificate. Empty means all.
	Kinds []Kind `json:"kinds,omitempty"`
	// Scopes must be had, all of them.
	Scopes []string `json:"scopes,omitempty"`
}

// Validate tells whether p can be held against requests. The error has the code [bus.InvalidArgument] and names the field.
func (p Policy) Validate() error {
	for i, k := range p.Kinds {
		if !slices.Contains([]Kind{APIKey, Token, Certificate}, k) {
			return bus.Errorf(bus.InvalidArgument, "auth.kinds[%d]: %.40q: want one of key, jwt and certificate", i, k)
		}
	}
	if err := checkScopes("auth.scopes", p.Scopes); err != nil {
		return err
	}
	if p.Anonymous && len(p.Scopes) > 0 {
		return bus.Errorf(bus.InvalidArgument, "auth.scopes: who is anonymous has none: want no scopes or no anonymous")
	}
	return nil
}

// checkScopes holds scopes to what RFC 6749 lets a scope be (section 3.3).
func checkScopes(field string, scopes []string) error {
	if len(scopes) > MaxScopes {
		return bus.Errorf(bus.InvalidArgument, "%s: there are %d: want at most %d", field, len(scopes), MaxScopes)
	}
	for i, s := range scopes {
		if !validScope(s) {
			return bus.Errorf(bus.InvalidArgument, `%s[%d]: %.80q: want 1 to %d printable ASCII characters, without space, " and \`, field, i, s, MaxScope)
		}
	}
	return nil
}

func validScope(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return s != "" && len(s) <= MaxScope
}

// validID keeps ids and names to what logs, headers and counters can take.
func validID(s string) bool {
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' {
			return false
		}
	}
	return s != "" && len(s) <= maxID
}

// sortedKeys are the keys of a map in order, so that what is checked first is always the same.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
