package msgjson

import (
	"strconv"
	"strings"
)

// sameNumber tells whether two numbers as JSON has them are the same, digit by digit.
func sameNumber(a, b string) bool {
	x, ok := parseDecimal(a)
	y, ok2 := parseDecimal(b)
	return ok && ok2 && x == y
}

// decimal is the number 0.DIGITS times ten to the power of exp.
type decimal struct {
	negative bool
	digits   string // none of the outer ones is 0; empty for 0
	exp      int
}

// parseDecimal is false for exponents that no float has.
func parseDecimal(s string) (d decimal, ok bool) {
	s, d.negative = strings.CutPrefix(s, "-")
	mantissa, exp := s, "0"
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, exp = s[:i], s[i+1:]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	leading := len(whole) + len(fraction) - len(digits)
	if d.digits = strings.TrimRight(digits, "0"); d.digits == "" {
		return d, true
	}
	n, err := strconv.Atoi(exp)
	d.exp = n + len(whole) - leading
	return d, err == nil
}
