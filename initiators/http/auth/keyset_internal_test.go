package auth

import (
	"crypto/rsa"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// Whatever a server or a file says, what comes of it is few keys that are strong enough, and of the sort that was asked for.
func FuzzParseKeySet(f *testing.F) {
	for _, s := range []string{
		`{"keys":[]}`, `{"keys":[{"kty":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","kid":"a"}]}`, `{"kty":"RSA","n":"AQAB","e":"AQAB"}`,
		`{"keys":[{"kty":"EC","crv":"P-256","x":"","y":""}]}`, `{"keys":{}}`, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}`,
		"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", strings.Repeat("s", 40), "", "{", `{"keys":[{"kty":"EC","x5c":["AAAA"]}]}`,
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, secret bool) {
		set, err := parseKeySet(data, secret)
		if err != nil {
			if set != nil {
				t.Error("keys beside an error")
			}
			return
		}
		if len(set.keys) == 0 || len(set.keys) > maxKeys {
			t.Errorf("%d keys", len(set.keys))
		}
		for _, v := range set.keys {
			switch k := v.key.(type) {
			case []byte:
				if !secret || len(k) < 32 {
					t.Errorf("a secret of %d bytes, wanted were secrets: %t", len(k), secret)
				}
			case *rsa.PublicKey:
				if bits := k.N.BitLen(); secret || bits < minRSABits || bits > maxRSABits {
					t.Errorf("an RSA key of %d bits", bits)
				}
			default:
				if secret {
					t.Errorf("a %T where secrets are wanted", k)
				}
			}
			for alg := range algorithms() {
				if hs := alg[0] == 'H'; suits(v.key, alg) && hs != secret {
					t.Errorf("%s by a %T", alg, v.key)
				}
			}
		}
		if found := set.find("", jose.HS256); !secret && len(found) > 0 {
			t.Error("a public key for HS256")
		}
	})
}
