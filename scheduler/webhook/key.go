package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Secret is a secret as it is written (whsec_... or whsk_...). Printed, logged or encoded as a value it comes out as [redacted];
// string(secret) is the secret itself. As the key of a map it is not safe: JSON takes keys of this kind as they are.
type Secret string

const redacted = "[redacted]"

// String is [redacted].
func (Secret) String() string { return redacted }

// Format writes [redacted], whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue is [redacted].
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText is [redacted]: what JSON, XML and YAML encode.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// NewSecret makes a random secret of 32 bytes for v1 signatures.
func NewSecret() Secret {
	b := make([]byte, generatedSecret)
	_, _ = rand.Read(b) // never fails
	return Secret(prefixSecret + base64.StdEncoding.EncodeToString(b))
}

// NewKeyPair makes a random pair of Ed25519 keys for v1a signatures: the sender keeps private (whsk_...), the receiver gets public
// (whpk_...). Private holds the seed and the public key, 64 bytes; implementations that want 32 take the first half.
func NewKeyPair() (private Secret, public string) {
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic("webhook: " + err.Error()) // cannot happen: the system's randomness never fails
	}
	return Secret(prefixPrivate + base64.StdEncoding.EncodeToString(priv)), prefixPublic + base64.StdEncoding.EncodeToString(pub)
}

// PublicKey is what a receiver needs for signatures made with a private key (whsk_...). A secret for v1 signatures has none: that is
// an error.
func PublicKey(private Secret) (string, error) {
	k, err := parseKey(string(private))
	if err != nil {
		return "", fmt.Errorf("webhook: %w", err)
	}
	if k.private == nil {
		return "", fmt.Errorf("webhook: only a private key (%s) has a public one", prefixPrivate)
	}
	return prefixPublic + base64.StdEncoding.EncodeToString(k.public), nil
}

// key is one of the three kinds.
type key struct {
	secret  []byte             // v1
	private ed25519.PrivateKey // v1a
	public  ed25519.PublicKey  // v1a
}

func parseKeys(written []string) ([]key, error) {
	if len(written) == 0 || len(written) > maxKeys {
		return nil, fmt.Errorf("webhook: %d keys, want 1 to %d", len(written), maxKeys)
	}
	keys := make([]key, len(written))
	for i, w := range written {
		k, err := parseKey(w)
		if err != nil {
			return nil, fmt.Errorf("webhook: key %d: %w", i, err)
		}
		keys[i] = k
	}
	return keys, nil
}

// parseKey never puts any of the key into its error.
func parseKey(written string) (key, error) {
	if encoded, ok := strings.CutPrefix(written, prefixSecret); ok {
		b, err := decodeKey(encoded)
		if err != nil {
			return key{}, err
		}
		if len(b) < minSecret || len(b) > maxSecret {
			return key{}, fmt.Errorf("secret of %d bytes, want %d to %d", len(b), minSecret, maxSecret)
		}
		return key{secret: b}, nil
	}
	if encoded, ok := strings.CutPrefix(written, prefixPrivate); ok {
		b, err := decodeKey(encoded)
		if err != nil {
			return key{}, err
		}
		return parsePrivate(b)
	}
	if encoded, ok := strings.CutPrefix(written, prefixPublic); ok {
		b, err := decodeKey(encoded)
		if err != nil {
			return key{}, err
		}
		if len(b) != ed25519.PublicKeySize {
			return key{}, fmt.Errorf("public key of %d bytes, want %d", len(b), ed25519.PublicKeySize)
		}
		return key{public: b}, nil
	}
	return key{}, fmt.Errorf("it begins with none of %s, %s and %s", prefixSecret, prefixPrivate, prefixPublic)
}

// parsePrivate takes a seed, and a seed with its public key, as different implementations write it.
func parsePrivate(b []byte) (key, error) {
	if len(b) != ed25519.SeedSize && len(b) != ed25519.PrivateKeySize {
		return key{}, fmt.Errorf("private key of %d bytes, want %d or %d", len(b), ed25519.SeedSize, ed25519.PrivateKeySize)
	}
	private := ed25519.NewKeyFromSeed(b[:ed25519.SeedSize])
	if len(b) == ed25519.PrivateKeySize && !private.Equal(ed25519.PrivateKey(b)) {
		return key{}, errors.New("the halves of the private key do not belong together")
	}
	return key{private: private, public: ed25519.PublicKey(private[ed25519.SeedSize:])}, nil
}

func decodeKey(encoded string) ([]byte, error) {
	b, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(encoded, "="))
	if err != nil || strings.ContainsAny(encoded, "\r\n") {
		return nil, errors.New("what follows the prefix is not base64")
	}
	return b, nil
}

// sign makes one entry of the header's list.
func (k key) sign(content []byte) string {
	if k.secret != nil {
		return signatureV1 + keySeparator + k.hmac(content)
	}
	return signatureV1a + keySeparator + base64.StdEncoding.EncodeToString(ed25519.Sign(k.private, content))
}

func (k key) hmac(content []byte) string {
	h := hmac.New(sha256.New, k.secret)
	h.Write(content)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// matcher returns what tells whether an entry of the header's list is a signature of content by k.
func (k key) matcher(content []byte) func(signature string) bool {
	if k.secret != nil {
		want := []byte(signatureV1 + keySeparator + k.hmac(content))
		return func(signature string) bool { return hmac.Equal(want, []byte(signature)) }
	}
	return func(signature string) bool {
		encoded, ok := strings.CutPrefix(signature, signatureV1a+keySeparator)
		if !ok || len(encoded) != base64.StdEncoding.EncodedLen(ed25519.SignatureSize) {
			return false
		}
		b, err := base64.StdEncoding.Strict().DecodeString(encoded)
		return err == nil && len(b) == ed25519.SignatureSize && ed25519.Verify(k.public, content, b)
	}
}
