package http_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	gateway "github.com/skybus-io/skybus/initiators/http"
)

// BenchmarkEntry is a request through an entry to a service in this process and back, without a network of HTTP.
func BenchmarkEntry(b *testing.B) {
	h := build(b)
	s := h.open(b, gateway.Config{}, map[string]string{
		"pass": `{"method":"POST","path":"/pass","call":"app.echo"}`, "merge": `{"method":"GET","path":"/merge/{id}","call":"app.echo"}`,
		"refused": `{"method":"POST","path":"/refused","call":"app.echo","max_body":1}`,
	})
	for _, bench := range []struct{ name, method, path, body string }{
		{"pass", "POST", "/pass", `{"name":"someone","number":17,"list":[1,2,3]}`},
		{"merge", "GET", "/merge/17?verbose=1", ""},
		{"refused", "POST", "/refused", `{"name":"someone","number":17,"list":[1,2,3]}`},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequestWithContext(b.Context(), bench.method, bench.path, strings.NewReader(bench.body))
				r.Header["Content-Type"] = []string{typeJSON}
				w := httptest.NewRecorder()
				s.gate.ServeHTTP(w, r)
				if w.Code != http.StatusOK && bench.name != "refused" {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
}
