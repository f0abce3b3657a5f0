//go:build unix

package mirror_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/mirror"
)

// BenchmarkRead is GET of 1 KB, 32 at a time, through a mirror and through httputil.ReverseProxy; the client and the backend share the process. cpu-µs/op is
// of all three.
func BenchmarkRead(b *testing.B) {
	body := strings.Repeat("x", 1024)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
	b.Cleanup(backend.Close)
	base, err := url.Parse(backend.URL)
	if err != nil {
		b.Fatal(err)
	}
	m, err := mirror.Open(b.Context(), connect(b, bustest.Server(b)), mirror.Config{})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := m.Set(b.Context(), mirror.Backend{Name: "a", URL: backend.URL, Active: true}); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = m.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-ended; _ = m.Close() })
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(base); r.SetXForwarded() },
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
	}
	for _, bench := range []struct {
		name    string
		handler http.Handler
	}{{"mirror", m}, {"reverse-proxy", proxy}, {"direct", nil}} {
		b.Run(bench.name, func(b *testing.B) {
			at := backend.URL
			if bench.handler != nil {
				front := httptest.NewServer(bench.handler)
				b.Cleanup(front.Close)
				at = front.URL
			}
			get(b, at)
		})
	}
}

func get(b *testing.B, at string) {
	b.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}
	b.Cleanup(client.CloseIdleConnections)
	b.SetParallelism(16)
	before := cpu(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, at+"/x", nil)
			if err != nil {
				b.Error(err)
				return
			}
			resp, err := client.Do(req)
			if err != nil {
				b.Error(err)
				return
			}
			if n, _ := io.Copy(io.Discard, resp.Body); n != 1024 || resp.StatusCode != http.StatusOK {
				b.Errorf("%d, %d bytes", resp.StatusCode, n)
			}
			_ = resp.Body.Close()
		}
	})
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// cpu is what the process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
