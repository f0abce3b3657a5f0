package httpx

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"
)

const (
	minToken = 16
	maxToken = 512
)

// Tokens are the bearer tokens that a listener takes (RFC 6750), of which only hashes are kept.
type Tokens struct {
	hashes [][sha256.Size]byte
}

// NewTokens takes tokens of 16 to 512 characters that a header can carry. None means that everybody may come in. Errors do
// not show the token.
func NewTokens(tokens []string) (*Tokens, error) {
	t := &Tokens{}
	for i, token := range tokens {
		if len(token) < minToken || len(token) > maxToken {
			return nil, fmt.Errorf("token %d has %d characters: want %d to %d", i+1, len(token), minToken, maxToken)
		}
		if strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
			return nil, fmt.Errorf("token %d has a character that is no printable ASCII, or a space", i+1)
		}
		t.hashes = append(t.hashes, sha256.Sum256([]byte(token)))
	}
	return t, nil
}

// Allow tells whether the request carries one of the tokens, in a time that says nothing of them.
func (t *Tokens) Allow(r *http.Request) bool {
	if len(t.hashes) == 0 {
		return true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	hash := sha256.Sum256([]byte(strings.TrimLeft(token, " ")))
	found := 0
	for _, h := range t.hashes {
		found |= subtle.ConstantTimeCompare(h[:], hash[:])
	}
	return found == 1 && strings.EqualFold(scheme, "Bearer")
}
