package http_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus/bustest"
	gateway "github.com/skybus-io/skybus/initiators/http"
)

// Who asks for an answer takes a place as all do, and makes nothing on the bus.
func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{MaxInFlight: 1}, map[string]string{"slow": `{"method":"POST","path":"/slow","call":"app.wait"}`})
	if a := send(t, "GET", s.at+"/v1/requests/x", ""); a.status != http.StatusNotFound || !strings.Contains(a.body, "no such request") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if _, err := h.conn.JetStream().Stream(t.Context(), "KV_"+gateway.AnswersBucket); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("the bucket of answers: %v", err)
	}
	done := make(chan int, 1)
	go func() {
		w := httptest.NewRecorder()
		s.gate.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/slow", nil))
		done <- w.Code
	}()
	bustest.Eventually(t, "the request that takes the place", func() bool { return h.waiting.Load() == 1 })
	if a := send(t, "GET", s.at+"/v1/requests/x", ""); a.status != http.StatusServiceUnavailable {
		t.Errorf("without a place: %d %s", a.status, a.body)
	}
	h.release()
	if status := <-done; status != http.StatusOK {
		t.Errorf("the other one: %d", status)
	}
	s.put(t, "later", `{"method":"POST","path":"/later","call":"app.echo","async":{"always":true}}`)
	bustest.Eventually(t, "the entry", func() bool { return post(t, s.at+"/later", "{}").status == http.StatusAccepted })
	if a := send(t, "GET", s.at+"/v1/requests/x", ""); a.status != http.StatusNotFound {
		t.Errorf("%d %s", a.status, a.body)
	}
}
