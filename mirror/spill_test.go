package mirror_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus/bustest"
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
		eventually(t, "backend level", func() bool {
			s := b.state()
			return len(s["/a"]) == 3<<20+7 && len(s["/b"]) == 3<<20+7 && s["/c"] == "small"
		})
		if n := len(b.all()); n < 11 || !maps.Equal(b.state(), r.backends[0].state()) {
			t.Errorf("backend %d got %d writes, and may differ", i, n)
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

// objectNames are the objects that are kept.
func (r *rig) objectNames(t *testing.T) (names []string) {
	t.Helper()
	store, err := r.conn.JetStream().ObjectStore(t.Context(), "skybus_mirror_bodies")
	if err != nil {
		t.Fatal(err)
	}
	all, err := store.List(t.Context())
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		t.Fatal(err)
	}
	for _, o := range all {
		names = append(names, o.Name)
	}
	slices.Sort(names)
	return names
}

// litter leaves an object without a write, one of another mirror, and a part of one that was not finished.
func (r *rig) litter(t *testing.T, like string) {
	t.Helper()
	store, err := r.conn.JetStream().ObjectStore(t.Context(), "skybus_mirror_bodies")
	if err != nil {
		t.Fatal(err)
	}
	prefix, _, _ := strings.Cut(like, "/")
	for _, name := range []string{prefix + "/orphan", "another.mirror/object"} {
		if _, err := store.PutString(t.Context(), name, "body"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.conn.JetStream().Publish(t.Context(), "$O.skybus_mirror_bodies.C.unfinished", []byte("part")); err != nil {
		t.Fatal(err)
	}
}

// Bodies are removed with their writes, unless they are parked, and so are those without a write; others stay.
func TestSweep(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	m := r.open(t, mirror.Config{Ack: mirror.All})
	run(t, m)
	front := serve(t, m)
	large := strings.Repeat("x", 600<<10)
	for range 2 {
		do(t, "PUT", front.URL+"/x", large)
	}
	kept := r.objectNames(t)
	r.backends[0].setRefuse(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodPut {
			return false
		}
		w.WriteHeader(http.StatusConflict)
		return true
	})
	do(t, "PUT", front.URL+"/odd", large)
	r.backends[0].setRefuse(nil)
	all := r.objectNames(t)
	if len(kept) != 2 || len(all) != 3 {
		t.Fatalf("objects %q, then %q", kept, all)
	}
	parked := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return slices.Contains(kept, name) })
	r.litter(t, parked[0])
	before := r.objects(t)
	if err := m.Sweep(t.Context(), time.Hour, time.Hour); err != nil || r.objects(t) != before {
		t.Errorf("%v, %d messages, want all %d", err, r.objects(t), before)
	}
	if err := m.Sweep(t.Context(), time.Hour, -time.Hour); err != nil {
		t.Error(err)
	}
	if got, want := r.objectNames(t), slices.Sorted(slices.Values(append(all, "another.mirror/object"))); !slices.Equal(got, want) || r.objects(t) != before-3 {
		t.Errorf("without orphans: %q, want %q; %d messages of %d", got, want, r.objects(t), before)
	}
	writes, err := r.conn.JetStream().Stream(t.Context(), "SKYBUS_MIR")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "write parked", func() bool { return len(parkedOf(t, m)) == 1 })
	if err := writes.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Sweep(t.Context(), 0, time.Hour); err != nil {
		t.Error(err)
	}
	if got, want := r.objectNames(t), slices.Sorted(slices.Values(append(parked, "another.mirror/object"))); !slices.Equal(got, want) {
		t.Errorf("without those of removed writes: %q, want %q", got, want)
	}
	if _, err := m.Parked().Retry(t.Context(), "a", 3); err != nil {
		t.Error(err)
	}
	if got := r.backends[0].state()["/odd"]; got != large {
		t.Errorf("the parked write arrived with %d bytes", len(got))
	}
}

// parkedOf are the writes that are parked.
func parkedOf(t *testing.T, m *mirror.Mirror) (all []mirror.ParkedWrite) {
	t.Helper()
	for w, err := range m.Parked().List(t.Context(), mirror.ParkedFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, w)
	}
	return all
}

// Writes that are removed while it is looked for their bodies do not keep the sender from removing bodies ever after.
func TestSweepWhileWritesAreRemoved(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := &rig{node: bustest.Server(t)}
		r.conn = connect(t, r.node)
		r.open(t, mirror.Config{Name: "shop"})
		writes, err := r.conn.JetStream().Stream(t.Context(), "SKYBUS_MIR")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.conn.JetStream().Publish(t.Context(), "skybus.mir.default.dev.shop.0", []byte("PUT /x HTTP/1.1\r\nHost: h\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		m := openOver(t, onceSent(r, "$JS.API.CONSUMER.MSG.NEXT.SKYBUS_MIR.", 1, func() {
			if err := writes.Purge(t.Context()); err != nil {
				t.Error(err)
			}
		}), mirror.Config{Name: "shop"})
		bodies, err := r.conn.JetStream().ObjectStore(t.Context(), "skybus_mirror_bodies")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bodies.PutBytes(t.Context(), "default.dev.shop/orphan", []byte("x")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := m.Sweep(ctx, time.Hour, -time.Hour); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			t.Errorf("while the writes are removed: %v", err)
		}
		if err := m.Sweep(ctx, time.Hour, -time.Hour); err != nil || r.objects(t) != 0 {
			t.Errorf("then: %v, %d bodies are left", err, r.objects(t))
		}
	})
}
