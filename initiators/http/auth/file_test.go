package auth_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators/http/auth"
)

// A file is read again when it changes, also by a rename above it, as mounted secrets do. While it is broken, the last keys are used on.
func TestKeyFileChanges(t *testing.T) {
	t.Parallel()
	k := keysOnce()
	first, second := []byte(strings.Repeat("1", 32)), []byte(strings.Repeat("2", 32))
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	put := func(data []byte) {
		t.Helper()
		if err := os.WriteFile(path+".new", data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	put(first)
	cfg := auth.JWTConfig{Issuer: issuerName, Audience: []string{audience}, Algorithms: []string{"HS256"}, File: path}
	var log syncBuffer
	g := openGuard(t, nil, auth.Config{JWT: []auth.JWTConfig{cfg}}, auth.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	taken := func(secret []byte) bool {
		_, err := g.Authenticate(bearer(t, sign(t, "HS256", secret, nil, claims(nil))))
		return err == nil
	}
	if !taken(first) || taken(second) {
		t.Fatal("not the first secret")
	}
	put(second)
	bustest.Eventually(t, "the second secret counts", func() bool { return taken(second) })
	if taken(first) {
		t.Error("the first secret counts still")
	}
	for i, broken := range [][]byte{[]byte("short"), nil, publicPEM(t, k.rsa)} {
		put(broken)
		bustest.Eventually(t, "the broken file is noticed", func() bool {
			return strings.Count(log.String(), "key file cannot be read") > i
		})
		if !taken(second) {
			t.Error("a broken file took the keys away")
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "the missing file is noticed", func() bool { return strings.Count(log.String(), "key file cannot be read") > 3 })
	put(first)
	bustest.Eventually(t, "the file that is there again counts", func() bool { return taken(first) })
	for _, secret := range [][]byte{first, second} {
		if strings.Contains(log.String(), string(secret)) {
			t.Error("a secret is in the log")
		}
	}
}

func TestKeyFilesRefused(t *testing.T) {
	t.Parallel()
	k := keysOnce()
	for name, tt := range map[string]struct {
		data []byte
		alg  string
		want string
	}{
		"public key for HS256":  {publicPEM(t, k.rsa), "HS256", "PEM, which is no secret"},
		"secret for RS256":      {[]byte(strings.Repeat("s", 32)), "RS256", "neither a key set nor PEM"},
		"short secret":          {[]byte("0123456789"), "HS256", "has 10 bytes"},
		"empty":                 {[]byte("\n"), "HS256", "empty"},
		"private key":           {[]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "RS256", "private key is not needed"},
		"PEM that is none":      {[]byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), "RS256", "PUBLIC KEY"},
		"short RSA key":         {jwks(t, map[string]any{"kty": "RSA", "n": b64(make1024(t)), "e": "AQAB"}), "RS256", "1024 bits"},
		"even RSA exponent":     {jwks(t, map[string]any{"kty": "RSA", "n": b64(k.rsa.N.Bytes()), "e": "Ag"}), "RS256", "odd exponent"},
		"public keys for HS256": {jwks(t, jwk(t, "", k.rsa, nil)), "HS256", "no key that can be used"},
		"secrets for ES256":     {jwks(t, jwk(t, "", k.secret, nil)), "ES256", "no key that can be used"},
		"key for encryption":    {jwks(t, jwk(t, "", k.rsa, map[string]any{"use": "enc"})), "RS256", "no key that can be used"},
		"key for signing":       {jwks(t, jwk(t, "", k.rsa, map[string]any{"key_ops": []string{"sign"}})), "RS256", "no key that can be used"},
		"point off the curve":   {jwks(t, jwk(t, "", k.ec["ES256"], map[string]any{"x": b64(make([]byte, 32))})), "ES256", "no key that can be used"},
		"JSON that is none":     {[]byte(`{"keys": secret-canary}`), "HS256", "no JSON object"},
		"too large":             {[]byte(strings.Repeat(" ", 300<<10)), "HS256", "more than"},
	} {
		cfg := tokenConfig(t, tt.data, tt.alg)
		g, err := auth.Open(t.Context(), nil, auth.Config{JWT: []auth.JWTConfig{cfg}}, auth.Options{})
		if err == nil {
			_ = g.Close()
		}
		if bus.CodeOf(err) != bus.InvalidArgument || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "jwt[0].file") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v: want %q in it", name, err, tt.want)
		}
	}
	cfg := tokenConfig(t, nil, "HS256")
	cfg.File = filepath.Join(t.TempDir(), "missing")
	if _, err := auth.Open(t.Context(), nil, auth.Config{JWT: []auth.JWTConfig{cfg}}, auth.Options{}); err == nil {
		t.Error("a missing file is taken")
	}
	// A set may hold keys that are not for us beside one that is.
	cfg = tokenConfig(t, jwks(t, map[string]any{"kty": "new"}, map[string]any{}, jwk(t, "", k.rsa, map[string]any{"use": "enc"}), jwk(t, "", k.rsa, nil)), "RS256")
	if _, err := tokenGuard(t, cfg).Authenticate(bearer(t, sign(t, "RS256", k.rsa, nil, claims(nil)))); err != nil {
		t.Error(err)
	}
	// A key that says for which algorithm it is, is for no other.
	cfg = tokenConfig(t, jwks(t, jwk(t, "", k.rsa, map[string]any{"alg": "PS256"})), "RS256", "PS256")
	guard := tokenGuard(t, cfg)
	wrong(t, guard, "algorithm that is not the key's", sign(t, "RS256", k.rsa, nil, claims(nil)))
	// Without an id not every key of a large set is tried: each costs.
	many := make([]map[string]any, 0, 9)
	for range 9 {
		many = append(many, jwk(t, "", k.ec["ES256"], map[string]any{"kid": "k"}))
	}
	guard = tokenGuard(t, tokenConfig(t, jwks(t, many...), "ES256"))
	wrong(t, guard, "a token without key id for a large set", sign(t, "ES256", k.ec["ES256"], nil, claims(nil)))
}

// make1024 is a modulus of 1024 bits.
func make1024(t *testing.T) []byte {
	t.Helper()
	n := make([]byte, 128)
	n[0], n[127] = 0x80, 1
	return n
}
