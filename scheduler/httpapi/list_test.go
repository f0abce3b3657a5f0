package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

// A timer that is not readable keeps nobody from seeing the others; it is told of, and removed, by its id.
func TestListUnreadable(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t)
	h := buildOn(t, node, httpapi.Config{})
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: node})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	for _, subject := range []string{"skybus.tmr.0.s.default.dev.bad", "skybus.tmr.1.s.default.dev.bad"} { // one is its shard
		if _, err := conn.JetStream().Publish(t.Context(), subject, []byte("nonsense")); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"a", "b", "c"} {
		send(t, http.MethodPost, h.url+"/v1/timers", `{"id":"`+id+`","after":"1h",`+target+`}`).want(t, http.StatusCreated)
	}
	var p page
	send(t, http.MethodGet, h.url+"/v1/timers", "").want(t, http.StatusOK).decode(t, &p)
	if p.ids() != "a b c" {
		t.Errorf("listed %q", p.ids())
	}
	bad := h.url + "/v1/timers/bad"
	var problem struct{ Code, Detail string }
	send(t, http.MethodGet, bad, "").want(t, http.StatusInternalServerError).decode(t, &problem)
	if problem.Code != string(bus.DataLoss) || !strings.Contains(problem.Detail, "to cancel the timer removes it") {
		t.Errorf("shown as %+v", problem)
	}
	send(t, http.MethodDelete, bad, "").want(t, http.StatusNoContent)
	send(t, http.MethodGet, bad, "").want(t, http.StatusNotFound)
}
