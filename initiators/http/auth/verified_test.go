package auth_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/http/auth"
)

// who is whom a token is of. The same principal twice, by its address, says that it was remembered.
func who(t testing.TB, g *auth.Guard, token string) *auth.Principal {
	t.Helper()
	p, err := g.Authenticate(bearer(t, token))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A token that was verified is taken for a minute without another look, unless nothing is to be remembered.
func TestTokenIsRemembered(t *testing.T) {
	k := keysOnce()
	synctest.Test(t, func(t *testing.T) {
		cfg := tokenConfig(t, jwks(t, jwk(t, "1", k.ec["ES256"], nil)), "ES256")
		g := tokenGuard(t, cfg)
		token := sign(t, "ES256", k.ec["ES256"], nil, claims(nil))
		first := who(t, g, token)
		if again := who(t, g, token); again != first {
			t.Error("a token is verified twice at once")
		}
		if other := who(t, g, sign(t, "ES256", k.ec["ES256"], nil, claims(map[string]any{"sub": "u2"}))); other.ID != "u2" {
			t.Errorf("another token is of %q", other.ID)
		}
		time.Sleep(59 * time.Second)
		if again := who(t, g, token); again != first {
			t.Error("a token is verified again after 59 s")
		}
		time.Sleep(time.Second)
		if again := who(t, g, token); again == first || again.ID != first.ID {
			t.Error("a token is not verified again after a minute")
		}
		never := openGuard(t, nil, auth.Config{JWT: []auth.JWTConfig{cfg}, RememberTokens: -1}, auth.Options{})
		if first := who(t, never, token); first == who(t, never, token) {
			t.Error("a token is remembered by a guard that remembers none")
		}
	})
}

// Only what was verified is taken: not the same claims under another signature, and not another part of the header.
func TestForgedTokenIsNotTheRememberedOne(t *testing.T) {
	t.Parallel()
	k := keysOnce()
	g := tokenGuard(t, tokenConfig(t, jwks(t, jwk(t, "", k.secret, nil)), "HS256"))
	token := sign(t, "HS256", k.secret, nil, claims(nil))
	who(t, g, token)
	parts := strings.Split(token, ".")
	for name, forged := range map[string]string{
		"no signature":      parts[0] + "." + parts[1] + ".",
		"another signature": parts[0] + "." + parts[1] + "." + b64([]byte(strings.Repeat("x", 32))),
		"another subject":   parts[0] + "." + encode(t, claims(map[string]any{"sub": "root"})) + "." + parts[2],
		"no algorithm":      sign(t, "none", nil, nil, claims(nil)),
	} {
		wrong(t, g, name, forged)
	}
	if p := who(t, g, token); p.ID != "u1" {
		t.Errorf("then the token is of %q", p.ID)
	}
}

// What is remembered ends with the token, with the skew that its issuer is given.
func TestRememberedTokenExpires(t *testing.T) {
	k := keysOnce()
	synctest.Test(t, func(t *testing.T) {
		g := tokenGuard(t, tokenConfig(t, jwks(t, jwk(t, "", k.secret, nil)), "HS256"))
		token := sign(t, "HS256", k.secret, nil, claims(map[string]any{"exp": time.Now().Add(10 * time.Second).Unix()}))
		for range 4 { // up to 39 s, within the skew of 30 s
			who(t, g, token)
			time.Sleep(10 * time.Second)
		}
		time.Sleep(time.Second)
		_, err := g.Authenticate(bearer(t, token))
		if bus.CodeOf(err) != bus.Unauthenticated || !strings.Contains(err.Error(), "has expired") {
			t.Errorf("after its end: %v", err)
		}
	})
}

// A key that is taken out of its set takes along the tokens that were verified by it, as soon as that is known.
func TestRememberedTokenGoesWithItsKey(t *testing.T) {
	k := keysOnce()
	synctest.Test(t, func(t *testing.T) {
		s := &issuerServer{}
		first, second := jwk(t, "1", k.ec["ES256"], nil), jwk(t, "2", k.ec["ES256"], nil)
		s.set(serves(jwks(t, first)))
		g := remoteGuard(t, s, io.Discard)
		token := func(kid string) string {
			return sign(t, "ES256", k.ec["ES256"], map[string]any{"kid": kid}, claims(nil))
		}
		time.Sleep(30 * time.Second) // a fetch may be asked for again
		one := token("1")
		if p := who(t, g, one); p != who(t, g, one) {
			t.Fatal("it is not remembered")
		}
		s.set(serves(jwks(t, second)))
		who(t, g, token("2")) // has the set fetched
		if _, err := g.Authenticate(bearer(t, one)); bus.CodeOf(err) != bus.Unauthenticated {
			t.Errorf("a token of a key that went: %v", err)
		}
	})
}

// More tokens than are remembered come from many at once: each is that of its own subject.
func TestRememberedTokensUnderRace(t *testing.T) {
	t.Parallel()
	k := keysOnce()
	g := openGuard(t, nil, auth.Config{
		JWT:            []auth.JWTConfig{tokenConfig(t, jwks(t, jwk(t, "", k.secret, nil)), "HS256")},
		RememberTokens: 8,
	}, auth.Options{})
	var tokens []*http.Request
	for i := range 32 {
		tokens = append(tokens, bearer(t, sign(t, "HS256", k.secret, nil, claims(map[string]any{"sub": string(rune('A' + i))}))))
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 320 {
				r := tokens[i%len(tokens)]
				p, err := g.Authenticate(r)
				if want := string(rune('A' + i%len(tokens))); err != nil || p.ID != want {
					t.Errorf("%+v, %v: want %q", p, err, want)
					return
				}
			}
		})
	}
	all.Wait()
}
