package mirror_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/mirror"
)

// serveTLS serves with TLS, and so by HTTP/2.
func serveTLS(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// HTTPS to backends, and HTTPS with HTTP/2 from clients.
func TestTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	secure := serveTLS(t, r.backends[0])
	toBackends, ok := secure.Client().Transport.(*http.Transport)
	if !ok {
		t.Fatal("no transport")
	}
	m := r.open(t, mirror.Config{Transport: toBackends, Cookie: "m"})
	if _, err := m.Set(t.Context(), mirror.Backend{Name: "a", URL: secure.URL, Active: true}); err != nil {
		t.Fatal(err)
	}
	run(t, m)
	front := serveTLS(t, m)
	for _, method := range []string{"PUT", "GET"} {
		req, err := http.NewRequestWithContext(t.Context(), method, front.URL+"/x", strings.NewReader("one"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := front.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
			t.Errorf("%s: %d %q by HTTP/%d, %v", method, resp.StatusCode, body, resp.ProtoMajor, err)
		}
		if cookie := resp.Header.Get("Set-Cookie"); method == "PUT" && !strings.HasSuffix(cookie, "; HttpOnly; Secure; SameSite=Lax") {
			t.Errorf("cookie %q", cookie)
		}
	}
	if w := r.backends[0].all()[0]; w.header.Get("X-Forwarded-Proto") != "https" || w.body != "one" {
		t.Errorf("backend got %+v", w)
	}
}
