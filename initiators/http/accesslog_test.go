package http_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus/bustest"
	gateway "github.com/skybus-io/skybus/initiators/http"
)

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A line for each request, without what is nobody's business.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	h := build(t)
	var log lines
	s := h.open(t, gateway.Config{AccessLog: true, Logger: slog.New(slog.NewJSONHandler(&log, nil))}, map[string]string{"item": `{"path":"/items/{id}","call":"app.echo"}`})
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	send(t, "GET", s.at+"/items/7?token=canary", "", "X-Request-Id", "r1", "Authorization", "Bearer canary", "Traceparent", trace)
	post(t, s.at+"/echo", `{"password":"canary"}`)
	send(t, "GET", s.at+"/nowhere", "")
	bustest.Eventually(t, "three lines", func() bool { return strings.Count(log.all(), `"msg":"request"`) == 3 })
	if strings.Contains(log.all(), "canary") {
		t.Errorf("a secret is in the log: %s", log.all())
	}
	var first map[string]any
	if err := json.Unmarshal([]byte(strings.Split(log.all(), "\n")[0]), &first); err != nil {
		t.Fatal(err)
	}
	delete(first, "time")
	delete(first, "ms")
	if diff := cmp.Diff(map[string]any{
		"level": "INFO", "msg": "request", "component": "gateway", "method": "GET", "path": "/items/7", "status": 200.0, "bytes": 27.0, "remote": "127.0.0.1",
		"proto": "HTTP/1.1", "entry": "item", "request_id": "r1", "trace_id": "0af7651916cd43dd8448eb211c80319c",
	}, first); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{
		"item": `{"path":"/items/{id}","call":"app.echo"}`, "wait": `{"path":"/wait","call":"app.wait"}`,
	})
	h.raw(t, "bad", "x")
	for range 3 {
		send(t, "GET", s.at+"/items/7", "")
	}
	send(t, "GET", s.at+"/items/7", "", "Accept", "image/png")
	post(t, s.at+"/echo", "{}")
	send(t, "GET", s.at+"/none", "")
	done := make(chan answer, 1)
	go func() { done <- send(t, "GET", s.at+"/wait", "") }()
	bustest.Eventually(t, "the request", func() bool { return h.waiting.Load() == 1 })
	var page string
	want := []string{
		`skybus_http_request_seconds_count{entry="item",status="200"} 3`, `skybus_http_request_seconds_bucket{entry="item",status="200",le="+Inf"} 3`,
		`skybus_http_request_seconds_count{entry="item",status="406"} 1`, `skybus_http_request_seconds_count{entry="",status="200"} 1`,
		`skybus_http_in_flight{entry="wait"} 1`, `skybus_http_in_flight{entry="item"} 0`, `skybus_http_unmatched_total 1`,
		`skybus_http_entries{state="served"} 2`, `skybus_http_entries{state="refused"} 1`, "# TYPE skybus_http_request_seconds histogram",
		fmt.Sprintf(`skybus_http_revision %d`, s.gate.Revision()),
	}
	bustest.Eventually(t, "the figures", func() bool { // an answer is there before it is counted
		var b strings.Builder
		if err := s.gate.WriteMetrics(&b); err != nil {
			t.Error(err)
		}
		page = b.String()
		for _, line := range want[:6] {
			if !strings.Contains(page, line+"\n") {
				return false
			}
		}
		return true
	})
	for _, line := range want {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("no %s in\n%s", line, page)
		}
	}
	h.release()
	bustest.Receive(t, "the answer", done)
	gone, err := s.store.Delete(t.Context(), "item", 0)
	if err != nil {
		t.Fatal(err)
	}
	s.await(t, gone)
	var b strings.Builder
	if err := s.gate.WriteMetrics(&b); err != nil || strings.Contains(b.String(), `"item"`) {
		t.Errorf("%v, a removed entry is told of: %s", err, b.String())
	}
}
