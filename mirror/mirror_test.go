package mirror_test

import (
	"fmt"
	"maps"
	"net/http"
	"testing"

	"github.com/skybus-io/skybus/mirror"
)

func TestWriteReachesAll(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	m := r.open(t, mirror.Config{Ack: mirror.All})
	run(t, m)
	front := serve(t, m)
	for i := range 100 {
		got := do(t, http.MethodPut, front.URL+fmt.Sprintf("/item/%d?x=%%2F", i%10), fmt.Sprint(i))
		if got.status != http.StatusOK || got.header.Get("Skybus-Seq") == "" {
			t.Fatalf("write %d: %d %q, header %v", i, got.status, got.body, got.header)
		}
	}
	for i, b := range r.backends {
		if got := b.all(); len(got) != 100 || got[3].target != "/item/3?x=%2F" || got[3].idempotency == "" || got[3].body != "3" {
			t.Errorf("backend %d got %d writes, the 4th %+v", i, len(got), got[3])
		}
		if !maps.Equal(b.state(), r.backends[0].state()) {
			t.Errorf("backend %d has %v, want %v", i, b.state(), r.backends[0].state())
		}
	}
}

func TestBackendThatWasDownCatchesUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{Window: 50})
	stop := run(t, m)
	front := serve(t, m)
	r.backends[1].setRefuse(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	for i := range 500 {
		if got := do(t, http.MethodPut, front.URL+fmt.Sprintf("/item/%d", i%20), fmt.Sprint(i)); got.status != http.StatusOK {
			t.Fatalf("write %d: %d %q", i, got.status, got.body)
		}
		if i == 250 { // the next sender goes on where this one ended
			stop()
			stop = run(t, m)
		}
	}
	if got := r.backends[1].all(); len(got) != 0 {
		t.Fatalf("%d writes applied by the backend that is down", len(got))
	}
	r.backends[1].setRefuse(nil)
	eventually(t, "backend level", func() bool { return maps.Equal(r.backends[0].state(), r.backends[1].state()) })
	for i, b := range r.backends {
		lanes := map[string]uint64{}
		for _, w := range b.all() {
			if w.seq <= lanes[w.lane] {
				t.Errorf("backend %d: lane %s: write %d after %d", i, w.lane, w.seq, lanes[w.lane])
			}
			lanes[w.lane] = w.seq
		}
		if len(b.all()) != 500 {
			t.Errorf("backend %d: %d writes, want 500", i, len(b.all()))
		}
	}
}

// TestMessageThatCannotBeSent is stored by who may publish to the stream itself. It must not hold up what is behind it in its lane.
func TestMessageThatCannotBeSent(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{})
	for _, text := range []string{"PUT /a b HTTP/1.1\r\nHost: h\r\n\r\n", "PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n", "no request", "PUT /good HTTP/1.1\r\nHost: h\r\n\r\nx"} {
		if _, err := r.conn.JetStream().Publish(t.Context(), "skybus.mir.default.dev.default.7", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	run(t, m) // they come after what the backends begin with
	for i, b := range r.backends {
		eventually(t, "the good one at backend "+name(i), func() bool { return b.state()["/good"] == "x" })
	}
}
