package kv

import (
	"fmt"
	"strings"

	"github.com/skybus-io/skybus/bus"
)

const maxKey = 255

// CheckKey tells whether key can be a key: tokens of 1 to 64 characters of A-Z, a-z, 0-9, "_", "-" and "=", joined by dots,
// at most 255 characters in all. The error is [ErrBadKey].
func CheckKey(key string) error { return check(key, false) }

// CheckPattern tells whether pattern can select keys: a key in which "*" may stand for any one token, and ">" at the end
// for one or more. The error is [ErrBadKey].
func CheckPattern(pattern string) error { return check(pattern, true) }

func check(key string, pattern bool) error {
	if key == "" {
		return fmt.Errorf("%w: it is empty", ErrBadKey)
	}
	if len(key) > maxKey {
		return fmt.Errorf("%w: it has %d characters, want at most %d", ErrBadKey, len(key), maxKey)
	}
	for rest, more := key, true; more; {
		var token string
		token, rest, more = strings.Cut(rest, ".")
		if pattern && (token == "*" || token == ">" && !more) {
			continue
		}
		if err := checkToken(token); err != nil {
			return fmt.Errorf("%w: %w", ErrBadKey, err)
		}
	}
	return nil
}

func checkToken(token string) error {
	switch {
	case token == "":
		return fmt.Errorf("a token between dots is empty")
	case len(token) > bus.MaxToken:
		return fmt.Errorf("token %.16q... has %d characters, want at most %d", token, len(token), bus.MaxToken)
	}
	for i := range len(token) {
		c := token[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == '=':
		default:
			return fmt.Errorf("character %q in token %q is not one of A-Z a-z 0-9 _ - =", token[i:i+1], token)
		}
	}
	return nil
}
