package auth

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/route"
)

// Defaults and limits of a [JWTConfig].
const (
	DefaultSkew    = 30 * time.Second
	MaxSkew        = 5 * time.Minute
	DefaultRefresh = 10 * time.Minute
	MinRefresh     = 10 * time.Second
	MaxRefresh     = 24 * time.Hour
	MaxAudiences   = 32
	maxClaimName   = 128
	maxURL         = 2048
)

// JWTConfig is for the tokens of one issuer: signed ones, in compact form (RFC 7515). Encrypted ones are not taken.
type JWTConfig struct {
	// Issuer is the claim iss. Required, each issuer once.
	Issuer string `json:"issuer"`
	// Audience are the values of the claim aud of which a token must have one. Required, unless AnyAudience says that tokens
	// which were made for somebody else are taken too.
	Audience    []string `json:"audience,omitempty"`
	AnyAudience bool     `json:"any_audience,omitempty"`
	// Algorithms are those that tokens may be signed by: HS256, RS256, PS256, ES256 (each also with 384 and 512) and EdDSA. Required.
	// HS is for secrets and the others for public keys, so they do not go together.
	Algorithms []string `json:"algorithms"`
	// JWKS is the URL of the key set, https, or http on this machine.
	JWKS string `json:"jwks,omitempty"`
	// File has the keys in place of JWKS: a key set, or public keys and certificates as PEM; for HS algorithms a key set of secrets, or one
	// secret, of at least as many bytes as the hash has, a line break at its end left out. It is read again when it changes.
	File string `json:"file,omitempty"`
	// Refresh is how often the URL is fetched. 0 means 10 min; 10 s to 24 h.
	Refresh route.Duration `json:"refresh,omitempty"`
	// Skew is how far clocks may differ, for exp, nbf and iat. 0 means 30 s; at most 5 min.
	Skew route.Duration `json:"skew,omitempty"`
	// Type is what the header typ must say, such as at+jwt (RFC 9068). Empty means that it is not looked at.
	Type string `json:"type,omitempty"`
	// Subject is the claim that is the principal's id, and Name the one that is its name. Empty means sub and name. A token
	// without id is refused.
	Subject string `json:"subject,omitempty"`
	Name    string `json:"name,omitempty"`
	// Scopes is the claim with the scopes, texts in a list or with spaces between them. Empty means scope, or else scp.
	Scopes string `json:"scopes,omitempty"`
	// Require are claims that must be there, with one of the values where some are given. Dots lead into objects.
	Require map[string][]string `json:"require,omitempty"`
}

// algorithms are those of tokens, and the bytes that a secret for them must have; 0 means that it is a matter of public keys.
func algorithms() map[jose.SignatureAlgorithm]int {
	return map[jose.SignatureAlgorithm]int{
		jose.HS256: 32, jose.HS384: 48, jose.HS512: 64,
		jose.RS256: 0, jose.RS384: 0, jose.RS512: 0, jose.PS256: 0, jose.PS384: 0, jose.PS512: 0,
		jose.ES256: 0, jose.ES384: 0, jose.ES512: 0, jose.EdDSA: 0,
	}
}

func (c *JWTConfig) algorithms() []jose.SignatureAlgorithm {
	algs := make([]jose.SignatureAlgorithm, len(c.Algorithms))
	for i, a := range c.Algorithms {
		algs[i] = jose.SignatureAlgorithm(a)
	}
	return algs
}

// secret tells whether the keys are secrets.
func (c *JWTConfig) secret() bool { return strings.HasPrefix(c.Algorithms[0], "HS") }

func (c *JWTConfig) skew() time.Duration {
	if c.Skew == 0 {
		return DefaultSkew
	}
	return time.Duration(c.Skew)
}

func (c *JWTConfig) refresh() time.Duration {
	if c.Refresh == 0 {
		return DefaultRefresh
	}
	return time.Duration(c.Refresh)
}

func (c *JWTConfig) validate(prefix string) error {
	bad := func(field, format string, args ...any) error {
		return bus.Errorf(bus.InvalidArgument, prefix+field+": "+format, args...)
	}
	if !validID(c.Issuer) {
		return bad("issuer", "%.80q: want 1 to %d bytes without control characters", c.Issuer, maxID)
	}
	switch {
	case c.AnyAudience && len(c.Audience) > 0:
		return bad("any_audience", "there is an audience: want one of the two")
	case !c.AnyAudience && len(c.Audience) == 0, len(c.Audience) > MaxAudiences:
		return bad("audience", "there are %d: want 1 to %d, or any_audience", len(c.Audience), MaxAudiences)
	case slices.Contains(c.Audience, ""):
		return bad("audience", "one is empty")
	}
	if err := c.validateAlgorithms(bad); err != nil {
		return err
	}
	if err := c.validateSource(bad); err != nil {
		return err
	}
	if c.Skew < 0 || time.Duration(c.Skew) > MaxSkew {
		return bad("skew", "%s: want 0s to %s", time.Duration(c.Skew), MaxSkew)
	}
	if r := c.refresh(); r < MinRefresh || r > MaxRefresh {
		return bad("refresh", "%s: want %s to %s", r, MinRefresh, MaxRefresh)
	}
	for field, name := range map[string]string{"subject": c.Subject, "name": c.Name, "scopes": c.Scopes, "type": c.Type} {
		if len(name) > maxClaimName {
			return bad(field, "has %d bytes: want at most %d", len(name), maxClaimName)
		}
	}
	if len(c.Require) > MaxHeaders {
		return bad("require", "there are %d claims: want at most %d", len(c.Require), MaxHeaders)
	}
	for _, name := range sortedKeys(c.Require) {
		if name == "" || len(name) > maxClaimName {
			return bad("require", "claim %.80q: want 1 to %d bytes", name, maxClaimName)
		}
	}
	return nil
}

func (c *JWTConfig) validateAlgorithms(bad func(field, format string, args ...any) error) error {
	if len(c.Algorithms) == 0 {
		return bad("algorithms", "there are none: want those that tokens of this issuer are signed by")
	}
	known := algorithms()
	for i, a := range c.algorithms() {
		if _, ok := known[a]; !ok {
			return bad("algorithms", "%.40q: want HS256, RS256, PS256, ES256 (or 384, 512) or EdDSA", a)
		}
		if slices.Contains(c.Algorithms[:i], string(a)) {
			return bad("algorithms", "%q is there twice", a)
		}
		if strings.HasPrefix(string(a), "HS") != c.secret() {
			return bad("algorithms", "%q: secrets (HS) and public keys do not go together", a)
		}
	}
	return nil
}

func (c *JWTConfig) validateSource(bad func(field, format string, args ...any) error) error {
	switch {
	case c.JWKS == "" && c.File == "", c.JWKS != "" && c.File != "":
		return bad("jwks", "want one of jwks and file")
	case c.JWKS == "":
		return nil
	case c.secret():
		return bad("jwks", "secrets are not fetched: want a file for HS algorithms")
	case len(c.JWKS) > maxURL:
		return bad("jwks", "has %d bytes: want at most %d", len(c.JWKS), maxURL)
	}
	u, err := url.Parse(c.JWKS)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return bad("jwks", "want a URL with a host, without login and fragment") // which is not shown: there may be a login in it
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return bad("jwks", "%.80q: want https, or http on this machine", u.Redacted())
	}
	return nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
