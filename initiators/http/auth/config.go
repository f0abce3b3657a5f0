package auth

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// Limits of a [Config].
const (
	MaxIssuers   = 32
	MaxHeaders   = 32
	DefaultRealm = "skybus"
	maxRealm     = 64

	DefaultRememberedTokens = 4096
	MaxRememberedTokens     = 1_000_000
)

// Config says which credentials a gateway takes, as data. The zero Config takes none.
type Config struct {
	// Realm is what WWW-Authenticate calls the gateway. Empty means "skybus".
	Realm string `json:"realm,omitempty"`
	// Keys takes API keys. Nil means none.
	Keys *KeysConfig `json:"keys,omitempty"`
	// JWT takes tokens, by issuer.
	JWT []JWTConfig `json:"jwt,omitempty"`
	// RememberTokens is how many tokens are remembered that were verified: each is taken again without another look at its signature for a minute at most,
	// and no longer than it and the keys of its issuer last. 0 means 4,096, at most 1,000,000; -1 verifies every time.
	RememberTokens int `json:"remember_tokens,omitempty"`
	// MTLS takes client certificates, which the listener must have asked for and verified. Nil means none.
	MTLS *MTLSConfig `json:"mtls,omitempty"`
	// Headers are set on what goes on to services, by name: "auth.id", "claim.email" and what else [Principal.Value] knows. What a
	// client sends under these names is never passed on.
	Headers map[string]string `json:"headers,omitempty"`
}

// remember is how many tokens are remembered.
func (c Config) remember() int { return max(0, cmp.Or(c.RememberTokens, DefaultRememberedTokens)) }

// KeysConfig is for API keys. The zero value works.
type KeysConfig struct {
	// Header has the key where Authorization does not. Empty means X-Api-Key.
	Header string `json:"header,omitempty"`
}

func (c *KeysConfig) header() string {
	if c.Header == "" {
		return "X-Api-Key"
	}
	return http.CanonicalHeaderKey(c.Header)
}

// Validate tells whether c can be used, without looking at files or servers. The error has the code [bus.InvalidArgument] and names
// the field.
func (c Config) Validate() error {
	if len(c.Realm) > maxRealm || strings.ContainsFunc(c.Realm, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		return bus.Errorf(bus.InvalidArgument, `realm: %.80q: want at most %d printable ASCII characters, without " and \`, c.Realm, maxRealm)
	}
	if c.Keys != nil {
		if h := c.Keys.header(); !validHeader(h) || slices.Contains([]string{"Authorization", "Cookie", "Host"}, h) {
			return bus.Errorf(bus.InvalidArgument, "keys.header: %.80q: want the name of a header that means nothing else", h)
		}
	}
	if len(c.JWT) > MaxIssuers {
		return bus.Errorf(bus.InvalidArgument, "jwt: there are %d issuers: want at most %d", len(c.JWT), MaxIssuers)
	}
	issuers := map[string]bool{}
	for i, j := range c.JWT {
		if err := j.validate(fmt.Sprintf("jwt[%d].", i)); err != nil {
			return err
		}
		if issuers[j.Issuer] {
			return bus.Errorf(bus.InvalidArgument, "jwt[%d].issuer: %.80q is there already: want each issuer once", i, j.Issuer)
		}
		issuers[j.Issuer] = true
	}
	if c.RememberTokens < -1 || c.RememberTokens > MaxRememberedTokens {
		return bus.Errorf(bus.InvalidArgument, "remember_tokens: %d: want -1, which is none, to %d", c.RememberTokens, MaxRememberedTokens)
	}
	if c.MTLS != nil {
		if err := c.MTLS.validate("mtls."); err != nil {
			return err
		}
	}
	return c.validateHeaders()
}

func (c Config) validateHeaders() error {
	if len(c.Headers) > MaxHeaders {
		return bus.Errorf(bus.InvalidArgument, "headers: there are %d: want at most %d", len(c.Headers), MaxHeaders)
	}
	seen := map[string]string{}
	for _, name := range sortedKeys(c.Headers) {
		if err := bus.CheckHeader(nats.Header{name: {""}}); err != nil {
			return bus.Errorf(bus.InvalidArgument, "headers: %s", bus.AsError(err).Message)
		}
		canonical := http.CanonicalHeaderKey(name)
		if !validHeader(canonical) || reservedHTTP(canonical) {
			return bus.Errorf(bus.InvalidArgument, "headers: %.80q: want the name of a header that means nothing else", name)
		}
		if other, ok := seen[canonical]; ok {
			return bus.Errorf(bus.InvalidArgument, "headers: %q and %q are the same header", other, name)
		}
		seen[canonical] = name
		value := c.Headers[name]
		if !slices.Contains([]string{"auth.kind", "auth.id", "auth.name", "auth.scopes"}, value) && (!strings.HasPrefix(value, "claim.") || value == "claim.") {
			return bus.Errorf(bus.InvalidArgument, "headers.%s: %.80q: want auth.kind, auth.id, auth.name, auth.scopes or claim.<name>", name, value)
		}
	}
	return nil
}

// validHeader tells whether name is a token of RFC 9110, without what servers behind us could read as another name.
func validHeader(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return name != "" && len(name) <= 64
}

// reservedHTTP are fields that mean something to HTTP itself, or are credentials.
func reservedHTTP(canonical string) bool {
	switch canonical {
	case "Authorization", "Connection", "Content-Length", "Content-Encoding", "Content-Type", "Cookie", "Host", "Set-Cookie", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade", "Proxy-Authorization":
		return true
	}
	return false
}
