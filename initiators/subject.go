package initiators

import (
	"fmt"
	"strings"

	"github.com/skybus-io/skybus/bus"
)

// Subject is a subject with placeholders (see [Mapping]) that stand for one token each. The zero value is none.
type Subject struct {
	template template
}

// ParseSubject reads a subject. With wildcards, tokens of it may be *, and the last one >; what a placeholder stands for never is one.
func ParseSubject(source string, wildcards bool) (Subject, error) {
	t, err := parseTemplate(source)
	if err != nil {
		return Subject{}, err
	}
	example, _, err := t.text(func(string) (any, bool) { return "x", true }, nil) // what a token would make of it
	if err != nil || !isSubject(example, wildcards) {
		more := ""
		if wildcards {
			more = ", or tokens that are *, or > at the end,"
		}
		return Subject{}, fmt.Errorf("%.80q: want at most %d characters, in tokens of A-Z a-z 0-9 _ - = or placeholders without filters but default and optional%s with dots between",
			source, bus.MaxSubject, more)
	}
	return Subject{t}, nil
}

// isSubject is bus.IsSubject that may allow wildcards.
func isSubject(s string, wildcards bool) bool {
	if !wildcards {
		return bus.IsSubject(s)
	}
	tokens := strings.Split(s, ".")
	for i, token := range tokens {
		if token == "*" || token == ">" && i == len(tokens)-1 {
			tokens[i] = "x"
		}
	}
	return bus.IsSubject(strings.Join(tokens, "."))
}

// Fixed is what stands before the first placeholder or wildcard.
func (s Subject) Fixed() string {
	fixed, _ := s.template.literal()
	if i := strings.IndexAny(fixed, "*>"); i >= 0 {
		fixed = fixed[:i]
	}
	return fixed
}

// String is the subject as it was written.
func (s Subject) String() string { return s.template.source }

// Expand is the subject with what its placeholders stand for. What is missing, or no token, is an error with the code invalid_argument.
func (s Subject) Expand(values func(name string) (value string, ok bool)) (string, error) {
	lookup := func(name string) (any, bool) {
		if values == nil {
			return nil, false
		}
		return values(name)
	}
	subject, ok, err := s.template.text(lookup, bus.CheckToken)
	if err != nil {
		return "", err
	}
	if !ok || !isSubject(subject, true) {
		return "", bus.Errorf(bus.InvalidArgument, "%.80q, made of %.80q, is no subject", subject, s.template.source)
	}
	return subject, nil
}
