package mirror_test

import (
	"maps"
	"net/http"
	"strconv"
	"testing"

	"github.com/skybus-io/skybus/mirror"
)

// TestStreamMadeAnew removes the stream of writes while nobody runs: no write may be taken for one that was applied.
func TestStreamMadeAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{})
	stop := run(t, m)
	front := serve(t, m)
	put := func(front, path string) response {
		t.Helper()
		got := do(t, http.MethodPut, front+path, path)
		if got.status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, got.status, got.body)
		}
		return got
	}
	var last response
	for i := range 50 {
		last = put(front.URL, "/old/"+strconv.Itoa(i))
	}
	eventually(t, "all applied and committed", func() bool {
		for _, c := range m.Conditions() {
			if strconv.FormatUint(c.Applied, 10) != last.header.Get("Skybus-Seq") {
				return false
			}
		}
		return true
	})
	stop()
	// As if the first had been removed.
	if _, err := r.conn.JetStream().Publish(t.Context(), "skybus.mirw.default.dev.default._", []byte(`{"up_to":30}`)); err != nil {
		t.Fatal(err)
	}
	if err := r.conn.JetStream().DeleteStream(t.Context(), "SKYBUS_MIR"); err != nil {
		t.Fatal(err)
	}
	for i := range 2 { // also who sends after the first
		again := r.open(t, mirror.Config{})
		stop := run(t, again)
		front = serve(t, again)
		for j := range 5 {
			got := put(front.URL, "/new/"+strconv.Itoa(5*i+j))
			if seq := got.header.Get("Skybus-Seq"); len(seq) <= len(last.header.Get("Skybus-Seq")) {
				t.Errorf("write %s, after %s", seq, last.header.Get("Skybus-Seq"))
			}
		}
		stop()
	}
	run(t, m)
	eventually(t, "all applied", func() bool {
		return len(r.backends[1].state()) == 60 && maps.Equal(r.backends[0].state(), r.backends[1].state())
	})
}
