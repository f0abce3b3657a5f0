package mirror

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
)

// FuzzNewRequest: whatever a client's header says, what is stored is what is sent, and has nothing that only the mirror may say.
func FuzzNewRequest(f *testing.F) {
	f.Add("Connection", "X-A, close", "X-A", "1", "body")
	f.Add("X_forwarded_for", "192.0.2.1", "skybus-seq", "1", "")
	f.Add("Idempotency-Key", "k", "X-B", "a\r\nb: c", "\r\n\r\n")
	f.Add("Connection", "x-forwarded-for,idempotency-key", "Te", "trailers", "x")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2, body string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/x?y", strings.NewReader(body))
		r.Header.Add(name1, value1)
		r.Header.Add(name2, value2)
		m := &Mirror{space: space{ns: bus.Namespace{}, mirror: "m"}}
		req, err := m.newRequest(r, []byte(body))
		if err != nil {
			return
		}
		got, err := decodeRequest(req.encode())
		if err != nil {
			t.Fatalf("%v of %+v", err, req)
		}
		if !slices.Equal(got.fields, req.fields) || string(got.body) != body || got.target != "/x?y" || got.host != "example.com" {
			t.Errorf("stored %+v, decoded %+v", req, got)
		}
		n := map[string]int{}
		for _, f := range got.fields {
			name := dashed(http.CanonicalHeaderKey(f.Name))
			if isOurs(name) || isHopByHop(name) || name == "X-Real-Ip" {
				t.Errorf("%q: %q was stored", f.Name, f.Value)
			}
			n[name]++
		}
		if n["X-Forwarded-For"] != 1 || n["X-Forwarded-Host"] != 1 || n["X-Forwarded-Proto"] != 1 || n["Idempotency-Key"] != 1 {
			t.Errorf("%v", n)
		}
	})
}

func FuzzSpilled(f *testing.F) {
	f.Add("default.dev.m/abc 12")
	f.Add("a 1 2")
	f.Add(" -1")
	f.Fuzz(func(t *testing.T, text string) {
		if s := parseSpilled(text); s.size < 0 || s.size > mostBody || s.name != "" && *parseSpilled(s.String()) != *s {
			t.Errorf("%q is %+v", text, s)
		}
	})
}
