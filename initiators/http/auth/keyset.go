package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxKeySet  = 256 << 10 // bytes of a key set
	maxKeys    = 100       // of a set
	maxTries   = 4         // keys that are tried for one token
	maxKID     = 256       // bytes of a key's id
	minRSABits = 2048
	maxRSABits = 8192 // verifying costs more with the size
)

// keySet is what verifies the tokens of an issuer. It never changes.
type keySet struct{ keys []verifier }

// verifier is a public key or a secret.
type verifier struct {
	id  string                  // empty: it may be any token's
	alg jose.SignatureAlgorithm // empty: any that suits the key
	key any                     // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey or []byte
}

// find returns the keys that a token of that key id and algorithm may be signed with. The algorithm has to suit the kind of the key, so
// a public key is never taken for a secret. Without an id, all that suit are tried, if they are few.
func (s *keySet) find(kid string, alg jose.SignatureAlgorithm) []any {
	var found []any
	for _, v := range s.keys {
		if (kid == "" || v.id == "" || v.id == kid) && (v.alg == "" || v.alg == alg) && suits(v.key, alg) {
			found = append(found, v.key)
		}
	}
	if len(found) > maxTries {
		return nil
	}
	return found
}

func suits(key any, alg jose.SignatureAlgorithm) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return alg[0] == 'R' || alg[0] == 'P'
	case *ecdsa.PublicKey:
		curve := map[jose.SignatureAlgorithm]elliptic.Curve{jose.ES256: elliptic.P256(), jose.ES384: elliptic.P384(), jose.ES512: elliptic.P521()}[alg]
		return curve != nil && k.Curve == curve
	case ed25519.PublicKey:
		return alg == jose.EdDSA
	case []byte:
		size := algorithms()[alg]
		return size > 0 && len(k) >= size
	}
	return false
}

// parseKeySet reads what an issuer or a file says. secret tells whether secrets are wanted or public keys; the other sort is left
// out of a key set, and an error as a file. No error holds anything of a key.
func parseKeySet(data []byte, secret bool) (*keySet, error) {
	if len(data) > maxKeySet {
		return nil, fmt.Errorf("there are more than %d bytes", maxKeySet)
	}
	trimmed := bytes.TrimSpace(data)
	var keys []verifier
	var err error
	switch {
	case len(trimmed) == 0:
		return nil, errors.New("it is empty")
	case trimmed[0] == '{':
		keys, err = parseJWKS(trimmed, secret)
	case bytes.Contains(trimmed, []byte("-----BEGIN ")):
		if secret {
			return nil, errors.New("there is PEM, which is no secret: want one that is made of random bytes")
		}
		keys, err = parsePEM(trimmed)
	case secret:
		keys = []verifier{{key: bytes.TrimRight(data, "\r\n")}}
	default:
		return nil, errors.New("there is neither a key set nor PEM")
	}
	if err != nil {
		return nil, err
	}
	return checkKeys(keys)
}

// checkKeys refuses sets that are too large, and leaves out keys that are too weak or too costly.
func checkKeys(keys []verifier) (*keySet, error) {
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("there are %d keys: want at most %d", len(keys), maxKeys)
	}
	set := &keySet{}
	var last error
	for _, v := range keys {
		switch k := v.key.(type) {
		case *rsa.PublicKey:
			if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits || k.E < 3 || k.E&1 == 0 {
				last = fmt.Errorf("an RSA key has %d bits: want %d to %d, and an odd exponent from 3", bits, minRSABits, maxRSABits)
				continue
			}
		case []byte:
			if least := algorithms()[jose.HS256]; len(k) < least {
				last = fmt.Errorf("a secret has %d bytes: want at least %d", len(k), least)
				continue
			}
		}
		set.keys = append(set.keys, v)
	}
	switch {
	case len(set.keys) > 0:
		return set, nil
	case last != nil:
		return nil, last
	}
	return nil, errors.New("there is no key that can be used")
}

// parseJWKS reads a key set (RFC 7517), or a single key. Keys of kinds that are not known, or for something else than
// signatures, are left out, as section 5 wants it.
func parseJWKS(data []byte, secret bool) ([]verifier, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
		Kty  string            `json:"kty"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, errors.New("there is no JSON object with a list of keys") // the decoder's error may show what is there
	}
	if set.Kty != "" {
		set.Keys = []json.RawMessage{data}
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("there are %d keys: want at most %d", len(set.Keys), maxKeys)
	}
	var keys []verifier
	for _, raw := range set.Keys {
		var jwk jose.JSONWebKey
		var more struct {
			Operations []string `json:"key_ops"`
		}
		if jwk.UnmarshalJSON(raw) != nil || json.Unmarshal(raw, &more) != nil {
			continue
		}
		if jwk.Use != "" && jwk.Use != "sig" || len(more.Operations) > 0 && !slices.Contains(more.Operations, "verify") || len(jwk.KeyID) > maxKID {
			continue
		}
		v := verifier{id: jwk.KeyID, alg: jose.SignatureAlgorithm(jwk.Algorithm)}
		if v.key = public(jwk.Key); v.key == nil {
			continue
		}
		if _, symmetric := v.key.([]byte); symmetric == secret {
			keys = append(keys, v)
		}
	}
	return keys, nil
}

// public is the half of a key that verifies; a secret is its own.
func public(key any) any {
	switch k := key.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey, []byte:
		return k
	case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey:
		if s, ok := k.(crypto.Signer); ok {
			return public(s.Public())
		}
	}
	return nil
}

// parsePEM reads public keys and certificates.
func parsePEM(data []byte) ([]verifier, error) {
	var keys []verifier
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return keys, nil
		}
		var key any
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			key, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var cert *x509.Certificate
			if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
				key = cert.PublicKey
			}
		default:
			return nil, fmt.Errorf("there is a PEM block %.40q: want PUBLIC KEY or CERTIFICATE; a private key is not needed here", block.Type)
		}
		if err != nil {
			return nil, fmt.Errorf("a PEM block %q: %w", block.Type, err)
		}
		if key = public(key); key == nil {
			return nil, fmt.Errorf("a PEM block %q holds a key of a kind that verifies no tokens", block.Type)
		}
		keys = append(keys, verifier{key: key})
	}
}
