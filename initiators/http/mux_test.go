package http_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus/bustest"
	gateway "github.com/skybus-io/skybus/initiators/http"
)

// What others serve at the gateway's address is logged, counted and bounded as all else is.
func TestMuxIsAnEntry(t *testing.T) {
	t.Parallel()
	h := build(t)
	var log lines
	entered, release := make(chan struct{}), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /timer", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.Copy(w, r.Body)
	})
	mux.HandleFunc("GET /slow", func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-release
	})
	g := h.gateway(t, gateway.Config{AccessLog: true, MaxInFlight: 1, Mux: mux, Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	srv := httptest.NewServer(g)
	defer srv.Close()
	if a := post(t, srv.URL+"/timer?token=canary", "{}", "X-Request-Id", "r1"); a.status != http.StatusAccepted || a.body != "{}" || a.header.Get("X-Request-Id") != "r1" {
		t.Errorf("%d %s %v", a.status, a.body, a.header)
	}
	bustest.Eventually(t, "a line", func() bool { return strings.Contains(log.all(), "\n") })
	var line map[string]any
	if err := json.Unmarshal([]byte(log.all()), &line); err != nil {
		t.Fatal(err)
	}
	delete(line, "time")
	delete(line, "ms")
	if diff := cmp.Diff(map[string]any{
		"level": "INFO", "msg": "request", "component": "gateway", "method": "POST", "path": "/timer", "status": 202.0, "bytes": 2.0, "remote": "127.0.0.1",
		"proto": "HTTP/1.1", "entry": "(mux)", "request_id": "r1",
	}, line); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}

	done := make(chan answer, 1)
	go func() { done <- send(t, "GET", srv.URL+"/slow", "") }()
	bustest.Receive(t, "the slow one", entered)
	if a := post(t, srv.URL+"/timer", "{}"); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("while the only place is taken: %d %s", a.status, a.body)
	}
	close(release)
	bustest.Receive(t, "its answer", done)
	bustest.Eventually(t, "the figures", func() bool {
		var page strings.Builder
		if err := g.WriteMetrics(&page); err != nil {
			t.Error(err)
		}
		for _, want := range []string{`request_seconds_count{entry="(mux)",status="202"} 1`, `request_seconds_count{entry="(mux)",status="200"} 1`, `request_seconds_count{entry="(mux)",status="503"} 1`} {
			if !strings.Contains(page.String(), "skybus_http_"+want+"\n") {
				return false
			}
		}
		return true
	})
}
