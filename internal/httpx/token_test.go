package httpx_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/internal/httpx"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	const one, two = "0123456789abcdef", "another-token-of-some-length"
	tokens, err := httpx.NewTokens([]string{one, two})
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]bool{
		"":                    false,
		"Bearer":              false,
		"Bearer ":             false,
		"Bearer " + one:       true,
		"bearer " + two:       true,
		"BEARER   " + two:     true,
		"Bearer " + one + "x": false,
		"Bearer " + one[1:]:   false,
		"Basic " + one:        false,
		one:                   false,
		"Bearer\t" + one:      false,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header.Set("Authorization", header)
		if got := tokens.Allow(r); got != want {
			t.Errorf("Authorization %q: %t, want %t", header, got, want)
		}
	}
	open, err := httpx.NewTokens(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !open.Allow(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)) {
		t.Error("without tokens a request was refused")
	}
}

func TestTokensRefused(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"", "short", strings.Repeat("x", 513), "0123456789 abcdef", "0123456789abcdef\n", "0123456789abcdef\u00e4"} {
		_, err := httpx.NewTokens([]string{token})
		if err == nil {
			t.Errorf("%q was taken", token)
			continue
		}
		if token != "" && strings.Contains(err.Error(), token) {
			t.Errorf("%v shows the token", err)
		}
	}
}
