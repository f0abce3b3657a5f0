package mirror_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/mirror"
)

// HTTPS to backends, and HTTPS with HTTP/2 from clients.
func TestTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	secure := httptest.NewUnstartedServer(r.backends[0])
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	toBackends, ok := secure.Client().Transport.(*http.Transport)
	if !ok {
		t.Fatal("no transport")
	}
	m := r.open(t, mirror.Config{Transport: toBackends, Cookie: "m"})
	if _, err := m.Set(t.Context(), mirror.Backend{Name: "a", URL: secure.URL, Active: true}); err != nil {
		t.Fatal(err)
	}
	run(t, m)
	front := httptest.NewUnstartedServer(m)
	front.EnableHTTP2 = true
	front.StartTLS()
	t.Cleanup(front.Close)
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
