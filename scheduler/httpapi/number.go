package httpapi

import (
	"math"
	"strconv"
	"strings"
	"unicode"
)

// number is what JavaScript's Number() makes of a JSON value: Skyring compared timeouts of any type by it.
func number(raw []byte) float64 {
	for {
		switch kind(raw) {
		case '0':
			f, _ := strconv.ParseFloat(string(raw), 64) // infinite where it is too large, as there
			return f
		case '"':
			return numberOf(unquote(raw))
		case 't':
			return 1
		case 'f', 'n':
			return 0
		case '[':
			one, n := []byte(nil), 0
			elements(raw, func(v []byte) { one, n = v, n+1 })
			switch {
			case n == 0:
				return 0
			case n > 1 || kind(one) == 't' || kind(one) == 'f':
				return math.NaN() // of "1,2", or "true"
			}
			raw = one // its only element, as text
		default:
			return math.NaN()
		}
	}
}

// numberOf is Number() of a string.
func numberOf(s string) float64 {
	s = strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) && r != 0x85 || r == 0xfeff })
	if s == "" {
		return 0
	}
	if len(s) > 2 && s[0] == '0' {
		base := 0
		switch s[1] | 0x20 {
		case 'x':
			base = 16
		case 'o':
			base = 8
		case 'b':
			base = 2
		}
		if base != 0 {
			n, err := strconv.ParseUint(s[2:], base, 64)
			if err != nil && n == 0 {
				return math.NaN()
			}
			return float64(n) // the largest there is, where it is larger
		}
	}
	switch s {
	case "Infinity", "+Infinity":
		return math.Inf(1)
	case "-Infinity":
		return math.Inf(-1)
	}
	if strings.Trim(s, "0123456789+-.eE") != "" {
		return math.NaN() // what Go reads beside: inf, nan, hexadecimal fractions
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(f, 0) {
		return math.NaN()
	}
	return f
}
