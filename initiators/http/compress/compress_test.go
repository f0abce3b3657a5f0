package compress_test

import (
	"bufio"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/http/compress"
)

func serve(t *testing.T, cfg compress.Config, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	wrap, err := compress.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(wrap(h))
	t.Cleanup(srv.Close)
	return srv
}

// get asks without the client undoing what was compressed.
func get(t *testing.T, srv *httptest.Server, fields ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func TestCompress(t *testing.T) {
	t.Parallel()
	large := `{"x":"` + strings.Repeat("x", 2000) + `"}`
	for _, tt := range []struct {
		name        string
		cfg         compress.Config
		contentType string
		body        string
		accept      string
		want        bool
	}{
		{"JSON", compress.Config{}, "application/json", large, "gzip", true},
		{"JSON with a charset", compress.Config{}, "Application/JSON; charset=utf-8", large, "br, gzip;q=0.5", true},
		{"problem", compress.Config{}, "application/problem+json", large, "gzip", true},
		{"text", compress.Config{}, "text/html; charset=utf-8", large, "gzip", true},
		{"jitter", compress.Config{Jitter: 100}, "text/html", large, "gzip", true},
		{"small", compress.Config{}, "application/json", "{}", "gzip", false},
		{"small, and that is enough", compress.Config{MinSize: 2}, "application/json", "{\"a\":1}", "gzip", true},
		{"client takes none", compress.Config{}, "application/json", large, "", false},
		{"client refuses it", compress.Config{}, "application/json", large, "gzip;q=0", false},
		{"client takes another", compress.Config{}, "application/json", large, "zstd", false},
		{"picture", compress.Config{}, "image/png", large, "gzip", false},
		{"MessagePack", compress.Config{}, "application/msgpack", large, "gzip", false},
		{"no type, and it looks like text", compress.Config{}, "", large, "gzip", true},
		{"no type, and it looks like a picture", compress.Config{}, "", "\x89PNG\x0D\x0A\x1A\x0A" + large, "gzip", false},
		{"configured type", compress.Config{Types: []string{"application/msgpack"}}, "application/msgpack", large, "gzip", true},
		{"not a configured type", compress.Config{Types: []string{"application/msgpack"}}, "application/json", large, "gzip", false},
		{"configured types", compress.Config{Types: []string{"image/*"}, Level: 9}, "image/svg+xml", large, "gzip", true},
	} {
		srv := serve(t, tt.cfg, func(w http.ResponseWriter, _ *http.Request) {
			if tt.contentType != "" {
				w.Header().Set("Content-Type", tt.contentType)
			}
			w.Header().Set("ETag", `"v1"`)
			_, _ = io.WriteString(w, tt.body)
		})
		res := get(t, srv, "Accept-Encoding", tt.accept)
		var r io.Reader = res.Body
		if got := res.Header.Get("Content-Encoding") == "gzip"; got != tt.want {
			t.Errorf("%s: compressed %t", tt.name, got)
			continue
		}
		if tt.want {
			var err error
			if r, err = gzip.NewReader(res.Body); err != nil {
				t.Fatal(err)
			}
		}
		if body, err := io.ReadAll(r); err != nil || string(body) != tt.body {
			t.Errorf("%s: %q, %v", tt.name, body, err)
		}
		if got := res.Header.Get("Content-Type"); got == "" || tt.contentType != "" && got != tt.contentType {
			t.Errorf("%s: Content-Type %q", tt.name, got)
		}
		if (res.Header.Get("ETag") == "") != tt.want {
			t.Errorf("%s: ETag %q", tt.name, res.Header.Get("ETag"))
		}
		if res.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: Vary %q", tt.name, res.Header.Get("Vary"))
		}
	}
}

// Each event is there as soon as it is sent, whether the client says what it wants or only the handler does.
func TestEventsAreNotHeldBack(t *testing.T) {
	t.Parallel()
	for name, fields := range map[string][]string{
		"asked for": {"Accept-Encoding", "gzip", "Accept", "text/event-stream"},
		"not asked": {"Accept-Encoding", "gzip"},
	} {
		heard := make(chan struct{})
		srv := serve(t, compress.Config{MinSize: 1}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for range 3 {
				_, _ = io.WriteString(w, "data: x\n\n")
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
				select {
				case <-heard:
				case <-r.Context().Done():
					t.Error("the client does not hear")
					return
				}
			}
		})
		res := get(t, srv, fields...)
		if enc := res.Header.Get("Content-Encoding"); enc != "" {
			t.Errorf("%s: encoded as %q", name, enc)
		}
		lines := bufio.NewReader(res.Body)
		stuck := time.AfterFunc(10*time.Second, srv.CloseClientConnections)
		for range 3 {
			if line, err := lines.ReadString('\n'); err != nil || line != "data: x\n" {
				t.Fatalf("%s: %q, %v", name, line, err)
			}
			if _, err := lines.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			heard <- struct{}{}
		}
		stuck.Stop()
	}
}

func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	for field, cfg := range map[string]compress.Config{
		"compress.min_size": {MinSize: -1}, "compress.min_size:": {MinSize: 2 << 20}, "compress.level": {Level: 10}, "compress.jitter": {Jitter: 5000},
		"compress.types[0]": {Types: []string{"json"}}, "compress.types[1]": {Types: []string{"text/*", "*/*"}}, "compress.types[0]:": {Types: []string{"text/html; charset=utf-8"}},
		"compress.types:": {Types: make([]string, 200)}, "compress.types[0]: ": {Types: []string{"text/event-stream"}},
	} {
		if _, err := compress.New(cfg); bus.CodeOf(err) != bus.InvalidArgument || !strings.Contains(err.Error(), field) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
