package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
)

const (
	keyPrefix   = "sbk_"
	keyIDSize   = 10 // bytes: enough that nobody meets another's by chance
	secretSize  = 32
	maxKeyID    = 32
	maxKeyName  = 128
	secretChars = 52 // of secretSize bytes
	keyAlphabet = "abcdefghijklmnopqrstuvwxyz234567"
)

// keyEncoding has no characters at which a double click ends.
func keyEncoding() *base32.Encoding {
	return base32.NewEncoding(keyAlphabet).WithPadding(base32.NoPadding)
}

// digest is what is kept of a secret: its SHA-256. For passwords that would be too fast, since people choose few of them and a
// thief can try all; of a secret of 32 random bytes he would have to try 2^255, at whatever speed, and every request would pay
// for a slow hash.
type digest [sha256.Size]byte

// MarshalText writes the digest in hexadecimal digits.
func (d digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText reads what MarshalText writes.
func (d *digest) UnmarshalText(text []byte) error {
	if len(text) != 2*len(d) {
		return errors.New("want a SHA-256 in hexadecimal digits")
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// newSecret makes the id and the secret of a key.
func newSecret() (id string, secret [secretSize]byte) {
	var random [keyIDSize]byte
	_, _ = rand.Read(random[:]) // never fails
	_, _ = rand.Read(secret[:])
	return keyEncoding().EncodeToString(random[:]), secret
}

// formatKey is a key as its owner has it.
func formatKey(id string, secret [secretSize]byte) string {
	return keyPrefix + id + "_" + keyEncoding().EncodeToString(secret[:])
}

// parseKey takes a key apart. False means that it can be none; what it is instead is not told.
func parseKey(s string) (id string, secret [secretSize]byte, ok bool) {
	rest, ok := strings.CutPrefix(s, keyPrefix)
	if !ok {
		return "", secret, false
	}
	id, text, ok := strings.Cut(rest, "_")
	if !ok || !validKeyID(id) || len(text) != secretChars {
		return "", secret, false
	}
	n, err := keyEncoding().Decode(secret[:], []byte(text))
	if err != nil || n != secretSize || keyEncoding().EncodeToString(secret[:]) != text {
		return "", [secretSize]byte{}, false // also a second way to write the same bits
	}
	return id, secret, true
}

func validKeyID(id string) bool {
	return id != "" && len(id) <= maxKeyID && strings.Trim(id, keyAlphabet) == ""
}

// Key is an API key, without its secret.
type Key struct {
	ID       string    `json:"id"`
	Name     string    `json:"name,omitempty"` // for people
	Scopes   []string  `json:"scopes,omitempty"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"`   // zero means never
	Disabled bool      `json:"disabled,omitempty"` // refused until it is enabled again
}

// keyRecord is what the bucket holds.
type keyRecord struct {
	Key

	Hash digest `json:"sha256"`
}

// admits tells whether secret is that of r, and r may be used now. It takes as long for a wrong secret as for the right one, and for
// the zero record, which stands for a key that is not there.
func (r *keyRecord) admits(secret [secretSize]byte, now time.Time) bool {
	hash := sha256.Sum256(secret[:])
	same := subtle.ConstantTimeCompare(hash[:], r.Hash[:]) == 1
	live := r.ID != "" && !r.Disabled && (r.Expires.IsZero() || now.Before(r.Expires))
	return same && live
}

// NewKey describes a key to make.
type NewKey struct {
	Name    string    // at most 128 bytes; for people
	Scopes  []string  // at most [MaxScopes]
	Expires time.Time // zero means never
}

func (n NewKey) validate() error {
	if n.Name != "" && (!validID(n.Name) || len(n.Name) > maxKeyName) {
		return bus.Errorf(bus.InvalidArgument, "name: %.80q: want at most %d bytes without control characters", n.Name, maxKeyName)
	}
	if !n.Expires.IsZero() && !n.Expires.After(time.Now()) {
		return bus.Errorf(bus.InvalidArgument, "expires: %s has passed: want a time to come, or none", n.Expires.Format(time.RFC3339))
	}
	return checkScopes("scopes", n.Scopes)
}
