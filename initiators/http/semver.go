package http

import (
	"cmp"
	"strings"
)

// newerFirst orders versions by their precedence (Semantic Versioning 2.0.0, section 11), the highest first. What is no version comes last.
func newerFirst(a, b string) int {
	return cmp.Or(-comparePrecedence(a, b), cmp.Compare(b, a)) // builds have no precedence, but an order
}

func comparePrecedence(a, b string) int {
	a, _, _ = strings.Cut(a, "+")
	b, _, _ = strings.Cut(b, "+")
	coreA, preA, hasA := strings.Cut(a, "-")
	coreB, preB, hasB := strings.Cut(b, "-")
	if c := compareParts(coreA, coreB); c != 0 {
		return c
	}
	switch {
	case hasA && hasB:
		return compareParts(preA, preB)
	case hasA:
		return -1
	case hasB:
		return 1
	}
	return 0
}

// compareParts compares identifiers with dots between: numbers by value and below words, and what has more of them is above.
func compareParts(a, b string) int {
	for a != "" && b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if c := compareIdentifiers(x, y); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func compareIdentifiers(x, y string) int {
	numberX, numberY := strings.Trim(x, "0123456789") == "", strings.Trim(y, "0123456789") == ""
	switch {
	case numberX && numberY: // without leading zeros, so the longer one is larger
		return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
	case numberX:
		return -1
	case numberY:
		return 1
	}
	return cmp.Compare(x, y)
}
