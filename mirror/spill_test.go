package mirror_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/mirror"
)

const bodies = "OBJ_skybus_mirror_bodies"

// objects is how many messages the store of bodies has.
func (r *rig) objects(t *testing.T) uint64 {
	t.Helper()
	s, err := r.conn.JetStream().Stream(t.Context(), bodies)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// Bodies of any length reach all backends, also one that was down, and in order with others.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	m := r.open(t, mirror.Config{Ack: mirror.Quorum, Lanes: 2})
	run(t, m)
	front := serve(t, m)
	r.backends[2].setRefuse(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	for _, size := range []int{1, 500 << 10, 512 << 10, 600 << 10, 3<<20 + 7} {
		for _, path := range []string{"/a", "/b"} {
			if got := do(t, "PUT", front.URL+path, strings.Repeat(path[1:], size)); got.status != http.StatusOK {
				t.Fatalf("%d bytes: %d %.200q", size, got.status, got.body)
			}
		}
	}
	if n := r.objects(t); n < 4 {
		t.Errorf("the store of bodies has %d messages", n)
	}
	do(t, "PUT", front.URL+"/c", "small")
	r.backends[2].setRefuse(nil)
	for i, b := range r.backends {
		eventually(t, "backend level", func() bool { return len(b.all()) == 11 })
		if !maps.Equal(b.state(), r.backends[0].state()) || len(b.state()["/a"]) != 3<<20+7 {
			t.Errorf("backend %d differs", i)
		}
	}
}

// Nothing is left in the store of bodies by a write that could not be stored, and nothing is stored by one whose body could not.
func TestLargeBodyNotStored(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{StoreTimeout: 2 * time.Second, Ack: mirror.Queued})
	front := serve(t, m)
	large := strings.Repeat("x", 1<<20)
	r.stream(t, func(c *jetstream.StreamConfig) { c.MaxMsgs = 1 })
	do(t, "PUT", front.URL+"/x", "")
	if got := do(t, "PUT", front.URL+"/x", large); got.status != http.StatusInsufficientStorage {
		t.Errorf("%d %q", got.status, got.body)
	}
	if n := r.objects(t); n != 0 {
		t.Errorf("%d messages left", n)
	}
	r.stream(t, func(c *jetstream.StreamConfig) { c.MaxMsgs = -1 })
	s, err := r.conn.JetStream().Stream(t.Context(), bodies)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.MaxBytes = 600 << 10
	if _, err := r.conn.JetStream().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	before := lastSeq(t, m)
	got := do(t, "PUT", front.URL+"/x", large)
	if _, _, stored := problem(t, got); got.status != http.StatusInsufficientStorage || stored != "no" || lastSeq(t, m) != before {
		t.Errorf("%d %q, %d writes stored", got.status, got.body, lastSeq(t, m)-before)
	}
}

// A repeat of a write with a large body leaves one body.
func TestLargeBodyRepeated(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{})
	run(t, m)
	front := serve(t, m)
	large := strings.Repeat("x", 1<<20)
	for i, want := range []int{http.StatusOK, http.StatusAccepted, http.StatusAccepted} {
		if got := do(t, "PUT", front.URL+"/x", large, "Idempotency-Key", "k"); got.status != want {
			t.Errorf("%d: %d %q", i, got.status, got.body)
		}
	}
	if n := r.objects(t); n != 9 { // chunks of 128 KiB, and what they are
		t.Errorf("%d messages, want 9", n)
	}
	if n := len(r.backends[0].all()); n != 1 {
		t.Errorf("applied %d times", n)
	}
}
