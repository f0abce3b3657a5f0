package mirror_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/mirror"
)

// house is a mirror with backends a and b, without a network, as there is none in fake time.
type house struct {
	*mirror.Mirror

	conn *bus.Conn

	mu   sync.Mutex
	away map[string]bool
	got  map[string][]string // paths of the writes applied
}

// inFakeTime runs f with a mirror that runs.
func inFakeTime(t *testing.T, cfg mirror.Config, f func(t *testing.T, h *house)) {
	t.Helper()
	bustest.Bubble(t, func(t *testing.T) {
		h := &house{away: map[string]bool{}, got: map[string][]string{}, conn: connect(t, bustest.Server(t))}
		cfg.Transport, cfg.Health.Every = h, -1
		var err error
		if h.Mirror, err = mirror.Open(t.Context(), h.conn, cfg); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.Close() })
		for _, name := range []string{"a", "b"} {
			if _, err := h.Set(t.Context(), mirror.Backend{Name: name, URL: "http://" + name, Active: true}); err != nil {
				t.Fatal(err)
			}
		}
		run(t, h.Mirror)
		f(t, h)
	})
}

// RoundTrip is a backend.
func (h *house) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	w := httptest.NewRecorder()
	if h.away[r.URL.Host] {
		w.WriteHeader(http.StatusServiceUnavailable)
	} else {
		h.got[r.URL.Host] = append(h.got[r.URL.Host], r.URL.Path)
	}
	return w.Result(), nil
}

func (h *house) setAway(backend string, away bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.away[backend] = away
}

// maintain begins or ends the maintenance of b.
func (h *house) maintain(t *testing.T, on bool) {
	t.Helper()
	if _, err := h.Set(t.Context(), mirror.Backend{Name: "b", URL: "http://b", Active: true, Maintenance: on}); err != nil {
		t.Fatal(err)
	}
}

func (h *house) applied(backend string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.got[backend])
}

// put makes a write, and returns the status of its answer.
func (h *house) put(t *testing.T, path, body string) int {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPut, path, strings.NewReader(body)))
	return w.Code
}

// All that waits for a backend that is down grows old at the same time: it does not take an attempt at each, of which there are few then. What comes later finds the
// backend when it is back.
func TestAllOldWritesAreGivenUp(t *testing.T) {
	const age, n = time.Minute, 150
	inFakeTime(t, mirror.Config{MaxAge: age}, func(t *testing.T, h *house) {
		t.Helper()
		h.setAway("b", true)
		for i := range n {
			if status := h.put(t, fmt.Sprintf("/item/%d", i), "x"); status != http.StatusOK {
				t.Fatalf("answered %d", status)
			}
		}
		time.Sleep(age - 20*time.Second) // fake time: they are not old yet
		if got := parked(t, h.Mirror, mirror.ParkedFilter{}); len(got) > 0 {
			t.Errorf("parked before they were old: %q", got)
		}
		time.Sleep(26 * time.Second) // the same: now they are, and it was looked once more
		if got := parked(t, h.Mirror, mirror.ParkedFilter{Backend: "b"}); len(got) != n || !slices.Contains(got, "b 1 0 taken") {
			t.Errorf("%d are parked: %.200q", len(got), got)
		}
		h.setAway("b", false)
		h.put(t, "/new", "x")
		time.Sleep(10 * time.Second) // the same: its breaker has let one through
		if got := h.applied("b"); !slices.Equal(got, []string{"/new"}) {
			t.Errorf("the backend got %q, want what came later", got)
		}
		if _, err := h.Repair(t.Context(), "b", 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // the same: it has been repaired
		if got := h.applied("b"); len(got) != 1+n+1 {
			t.Errorf("after the repair it got %d writes, want all %d", len(got)-1, n+1)
		}
	})
}

// What was stored with a large body that is gone, all of it or a part, is given up and parked, and its lane goes on.
func TestBodiesRemoved(t *testing.T) {
	const objects, chunks = "OBJ_skybus_mirror_bodies", "$O.skybus_mirror_bodies.C.>"
	ways := map[string]func(context.Context, jetstream.JetStream) error{
		"with their stream": func(ctx context.Context, js jetstream.JetStream) error { return js.DeleteStream(ctx, objects) },
		"all their parts": func(ctx context.Context, js jetstream.JetStream) error {
			return purge(ctx, js, objects, jetstream.WithPurgeSubject(chunks))
		},
		"all their parts but the last": func(ctx context.Context, js jetstream.JetStream) error {
			return purge(ctx, js, objects, jetstream.WithPurgeSubject(chunks), jetstream.WithPurgeKeep(1))
		},
	}
	for way, remove := range ways {
		t.Run(way, func(t *testing.T) {
			inFakeTime(t, mirror.Config{Lanes: 1}, func(t *testing.T, h *house) {
				t.Helper()
				h.maintain(t, true)
				large := strings.Repeat("x", 1<<20)
				if status := h.put(t, "/large", large); status != http.StatusOK {
					t.Fatalf("answered %d", status)
				}
				h.put(t, "/small", "x")
				time.Sleep(25 * time.Second) // until the sender has forgotten it
				if err := remove(t.Context(), h.conn.JetStream()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(6 * time.Second) // until the stream is made anew
				h.maintain(t, false)
				time.Sleep(45 * time.Second) // fake time: tried often enough to be given up
				if got, want := parked(t, h.Mirror, mirror.ParkedFilter{}), []string{"b 1 0 taken"}; !slices.Equal(got, want) {
					t.Errorf("parked %q, want %q", got, want)
				}
				if _, err := h.Parked().Retry(t.Context(), "b", 1); bus.CodeOf(err) != bus.FailedPrecondition {
					t.Errorf("tried again: %v, want failed_precondition", err)
				}
				if status := h.put(t, "/large2", large); status != http.StatusOK {
					t.Errorf("another is answered %d", status)
				}
				time.Sleep(time.Second) // the same: it was sent
				if got, want := h.applied("b"), []string{"/small", "/large2"}; !slices.Equal(got, want) {
					t.Errorf("the backend got %q, want %q", got, want)
				}
			})
		})
	}
}

// That the store fills is said when it begins, when it gets notably worse, and when it is over; also where a backend has applied nothing yet, as one at a wrong address.
func TestStoreFills(t *testing.T) {
	var log lines
	inFakeTime(t, mirror.Config{Ack: mirror.Queued, History: -1, Logger: log.logger()}, func(t *testing.T, h *house) {
		t.Helper()
		h.setAway("b", true)
		stream, err := h.conn.JetStream().Stream(t.Context(), "SKYBUS_MIR")
		if err != nil {
			t.Fatal(err)
		}
		small := stream.CachedInfo().Config
		small.MaxBytes = 1000 << 10
		if _, err := h.conn.JetStream().UpdateStream(t.Context(), small); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct{ puts, warnings int }{{4, 0}, {1, 1}, {1, 1}, {2, 2}, {1, 3}, {0, 3}} {
			for range step.puts { // of about a tenth
				if status := h.put(t, "/x", strings.Repeat("x", 105<<10)); status != http.StatusAccepted {
					t.Fatalf("answered %d", status)
				}
			}
			time.Sleep(time.Minute) // fake time: the store was looked at
			if warnings, over := log.count("is more than half full"), log.count("is no longer half full"); warnings != step.warnings || over != 0 {
				t.Errorf("after %d more writes: %d warnings and %d that it is over, want %d and none", step.puts, warnings, over, step.warnings)
			}
		}
		h.setAway("b", false)
		time.Sleep(2 * time.Minute) // the same: all was applied, and removed
		if warnings, over := log.count("is more than half full"), log.count("is no longer half full"); warnings != 3 || over != 1 {
			t.Errorf("when there is room again: %d warnings and %d that it is over, want 3 and 1", warnings, over)
		}
	})
}

// Of a mirror without an active backend no more writes are kept than of others: nobody lacks them, and they take the room of all mirrors.
func TestWritesOfNobodyAreRemoved(t *testing.T) {
	inFakeTime(t, mirror.Config{Ack: mirror.Queued, History: -1}, func(t *testing.T, h *house) {
		t.Helper()
		kept := func() uint64 {
			stream, err := h.conn.JetStream().Stream(t.Context(), "SKYBUS_MIR")
			if err != nil {
				t.Fatal(err)
			}
			return stream.CachedInfo().State.Msgs
		}
		h.setAway("a", true)
		for range 5 {
			if status := h.put(t, "/x", "x"); status != http.StatusAccepted {
				t.Fatalf("answered %d", status)
			}
		}
		if err := h.Delete(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(12 * time.Second) // fake time: it was looked what may be removed
		if n := kept(); n != 5 {
			t.Errorf("%d writes are kept, want the 5 that a lacks", n)
		}
		if _, err := h.Set(t.Context(), mirror.Backend{Name: "a", URL: "http://a"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(12 * time.Second) // the same
		if n := kept(); n != 0 {
			t.Errorf("%d writes are kept, and no backend is active", n)
		}
		_, err := h.Set(t.Context(), mirror.Backend{Name: "a", URL: "http://a", Active: true}, mirror.From(3))
		if bus.CodeOf(err) != bus.FailedPrecondition {
			t.Errorf("a from a write that was removed: %v, want failed_precondition", err)
		}
		h.setAway("a", false)
		if _, err := h.Set(t.Context(), mirror.Backend{Name: "a", URL: "http://a", Active: true}); err != nil {
			t.Fatal(err)
		}
		h.put(t, "/new", "x")
		time.Sleep(10 * time.Second) // the same: it was sent
		if got := h.applied("a"); !slices.Equal(got, []string{"/new"}) {
			t.Errorf("a got %q, want what came since it is active again", got)
		}
	})
}

func purge(ctx context.Context, js jetstream.JetStream, stream string, opts ...jetstream.StreamPurgeOpt) error {
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return err
	}
	return s.Purge(ctx, opts...)
}
