package http

import (
	"strings"
	"testing"
	"time"
)

func TestPrefer(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]preferences{
		"":                                      {},
		"respond-async":                         {async: true},
		"Respond-Async":                         {async: true},
		`respond-async=""`:                      {async: true},
		"respond-async=x":                       {},
		"respond-async; a=b":                    {async: true},
		"return=minimal, respond-async":         {async: true},
		`foo="a, respond-async"`:                {},
		`foo="a\", respond-async`:               {},
		"wait=10":                               {wait: 10 * time.Second},
		"wait = 10 , respond-async":             {async: true, wait: 10 * time.Second},
		"wait=10, wait=20":                      {wait: 10 * time.Second},
		"wait=1000":                             {wait: 30 * time.Second},
		"wait=-1":                               {},
		"wait=x":                                {},
		"wait":                                  {},
		"foo; respond-async":                    {},
		"respond-async=false, respond-async":    {},
		",,;;,":                                 {},
		"respond-async, wait=99999999999999999": {async: true},
	} {
		if got := parsePrefer([]string{in}); got != want {
			t.Errorf("%q: %+v, want %+v", in, got, want)
		}
	}
	if got := parsePrefer([]string{"wait=5", "respond-async"}); got != (preferences{true, 5 * time.Second}) {
		t.Errorf("two headers: %+v", got)
	}
}

func FuzzPrefer(f *testing.F) {
	for _, s := range []string{"", "respond-async", "respond-async, wait=10", `a="b, c"; d=e, wait="5"`, `"\`, "wait=99999999999999999999", ",;=", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := parsePrefer([]string{s})
		if p.wait < 0 || p.wait > maxPreferWait {
			t.Errorf("%q: wait %v", s, p.wait)
		}
		lower := strings.ToLower(s)
		if p.async && !strings.Contains(lower, "respond-async") || p.wait > 0 && !strings.Contains(lower, "wait") {
			t.Errorf("%q: %+v", s, p)
		}
		// Quotes and backslashes aside, what comes after counts as it does alone.
		if !strings.ContainsAny(s, `"\`) && !strings.Contains(lower, "respond-async") && !parsePrefer([]string{s + ", respond-async"}).async {
			t.Errorf("%q hides what comes after it", s)
		}
	})
}
