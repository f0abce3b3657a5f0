package leanhttp

import "strings"

// The characters of RFC 9110 and 3986, as bit sets of ASCII.
const (
	letters    = (1<<26 - 1) << ('A' - 64) // of the upper half, whose bit 0 is @
	lowers     = (1<<26 - 1) << ('a' - 64)
	digits     = (1<<10 - 1) << '0'
	tokenLow   = digits | 1<<'!' | 1<<'#' | 1<<'$' | 1<<'%' | 1<<'&' | 1<<'\'' | 1<<'*' | 1<<'+' | 1<<'-' | 1<<'.'
	tokenHigh  = letters | lowers | 1<<('^'-64) | 1<<('_'-64) | 1<<('`'-64) | 1<<('|'-64) | 1<<('~'-64)
	notAHost   = " \"#/<>?@\\^`{|}"
	asciiLimit = 0x80
)

// token tells whether s can be a method or the name of a field.
func token(s string) bool {
	for i := range len(s) {
		if !tokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func tokenByte(c byte) bool {
	if c < 64 {
		return tokenLow>>c&1 == 1
	}
	return c < asciiLimit && uint64(tokenHigh)>>(c-64)&1 == 1
}

// validValue tells whether s can be the value of a field: no control characters but tabs.
func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// validTarget tells whether s can be a path with a query as it is sent: no control characters, no space, no fragment. What a path
// means is the caller's.
func validTarget(s string) bool {
	if s == "" || s[0] != '/' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// validHost tells whether s can be the value of Host.
func validHost(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return s != "" && !strings.ContainsAny(s, notAHost)
}

// equalFold is strings.EqualFold of ASCII: others have characters that fold to ASCII letters.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// hasToken tells whether a list separated by commas has the word.
func hasToken(list, word string) bool {
	for item := range strings.SplitSeq(list, ",") {
		if equalFold(strings.Trim(item, " \t"), word) {
			return true
		}
	}
	return false
}
