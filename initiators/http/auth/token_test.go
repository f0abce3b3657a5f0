package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/initiators/http/auth"
)

// testKeys are made once: those of RSA take long.
type testKeys struct {
	rsa, otherRSA *rsa.PrivateKey
	ec            map[string]*ecdsa.PrivateKey
	ed            ed25519.PrivateKey
	secret        []byte
}

var keysOnce = sync.OnceValue(func() testKeys { //nolint:gochecknoglobals // shared by all tests
	var k testKeys
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var err error
	k.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.otherRSA, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.ec = map[string]*ecdsa.PrivateKey{}
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		k.ec[alg], err = ecdsa.GenerateKey(curve, rand.Reader)
		must(err)
	}
	_, k.ed, err = ed25519.GenerateKey(rand.Reader)
	must(err)
	k.secret = make([]byte, 64)
	_, _ = rand.Read(k.secret)
	return k
})

const (
	issuerName = "https://id.example.org"
	audience   = "https://shop.example.org"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// claims are those of a good token, with changes; a nil value takes a claim away.
func claims(changes map[string]any) map[string]any {
	c := map[string]any{
		"iss": issuerName, "aud": audience, "sub": "u1", "name": "Ada", "scope": "orders:read orders:write",
		"exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
	}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func encode(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b64(b)
}

// sign makes a token by hand, so that it can be wrong in any way.
func sign(t testing.TB, alg string, key any, header, claims map[string]any) string {
	t.Helper()
	h := map[string]any{"alg": alg, "typ": "JWT"}
	maps.Copy(h, header)
	text := encode(t, h) + "." + encode(t, claims)
	return text + "." + b64(signature(t, alg, key, text))
}

func signature(t testing.TB, alg string, key any, text string) []byte {
	t.Helper()
	if alg == "none" {
		return nil
	}
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[len(alg)-3:]]
	var sum []byte
	if hash != 0 {
		h := hash.New()
		h.Write([]byte(text))
		sum = h.Sum(nil)
	}
	var sig []byte
	var err error
	switch k := key.(type) {
	case []byte:
		mac := hmac.New(hash.New, k)
		mac.Write([]byte(text))
		sig = mac.Sum(nil)
	case *rsa.PrivateKey:
		if alg[0] == 'P' {
			sig, err = rsa.SignPSS(rand.Reader, k, hash, sum, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			sig, err = rsa.SignPKCS1v15(rand.Reader, k, hash, sum)
		}
	case *ecdsa.PrivateKey:
		var r, s *big.Int
		r, s, err = ecdsa.Sign(rand.Reader, k, sum)
		if err == nil {
			size := (k.Curve.Params().BitSize + 7) / 8
			sig = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
		}
	case ed25519.PrivateKey:
		sig = ed25519.Sign(k, []byte(text))
	default:
		t.Fatalf("key %T", key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// jwk is a public key, or a secret, as a key set has it.
func jwk(t testing.TB, kid string, key any, more map[string]any) map[string]any {
	t.Helper()
	k := map[string]any{}
	if kid != "" {
		k["kid"] = kid
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		k["kty"], k["n"], k["e"] = "RSA", b64(key.N.Bytes()), b64(big.NewInt(int64(key.E)).Bytes())
	case *ecdsa.PrivateKey:
		size := (key.Curve.Params().BitSize + 7) / 8
		k["kty"], k["crv"] = "EC", key.Curve.Params().Name
		point, err := key.PublicKey.Bytes() // 4, x, y
		if err != nil {
			t.Fatal(err)
		}
		k["x"], k["y"] = b64(point[1:1+size]), b64(point[1+size:])
	case ed25519.PrivateKey:
		k["kty"], k["crv"], k["x"] = "OKP", "Ed25519", b64(key[32:])
	case []byte:
		k["kty"], k["k"] = "oct", b64(key)
	default:
		t.Fatalf("key %T", key)
	}
	maps.Copy(k, more)
	return k
}

func jwks(t testing.TB, keys ...map[string]any) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func publicPEM(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func write(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// tokenConfig is for tokens of the issuer of the tests, with keys in a file.
func tokenConfig(t testing.TB, data []byte, algs ...string) auth.JWTConfig {
	t.Helper()
	return auth.JWTConfig{Issuer: issuerName, Audience: []string{audience}, Algorithms: algs, File: write(t, data)}
}

func tokenGuard(t testing.TB, cfgs ...auth.JWTConfig) *auth.Guard {
	t.Helper()
	return openGuard(t, nil, auth.Config{JWT: cfgs}, auth.Options{})
}
