package httpapi_test

import (
	"net/http"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

// A timer that is not readable keeps nobody from seeing the others.
func TestListUnreadable(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t)
	h := buildOn(t, node, httpapi.Config{})
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: node})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := conn.JetStream().Publish(t.Context(), "skybus.tmr.0.s.default.dev.bad", []byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b", "c"} {
		send(t, http.MethodPost, h.url+"/v1/timers", `{"id":"`+id+`","after":"1h",`+target+`}`).want(t, http.StatusCreated)
	}
	var p page
	send(t, http.MethodGet, h.url+"/v1/timers", "").want(t, http.StatusOK).decode(t, &p)
	if p.ids() != "a b c" {
		t.Errorf("listed %q", p.ids())
	}
}
