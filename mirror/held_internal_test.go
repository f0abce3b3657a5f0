package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// newHeld holds bodies whose loads are counted.
func newHeld() (*held, *atomic.Int64) {
	var loads atomic.Int64
	return &held{load: func(s *spilled) ([]byte, error) {
		loads.Add(1)
		if s.name == "gone" {
			return nil, errBodyGone
		}
		return []byte(s.name), nil
	}}, &loads
}

// A body is read once for all who need it, also one after the other.
func TestHeldOnce(t *testing.T) {
	t.Parallel()
	h, loads := newHeld()
	for range 3 {
		var releases []func()
		for range 3 {
			body, release, err := h.acquire(t.Context(), &spilled{"a", 10})
			if err != nil || string(body) != "a" {
				t.Fatalf("%q, %v", body, err)
			}
			releases = append(releases, release)
		}
		for _, release := range releases {
			release()
			release() // further calls do nothing
		}
	}
	if n := loads.Load(); n != 1 || h.used != 10 {
		t.Errorf("%d loads, %d bytes held", n, h.used)
	}
	h.expire()
	if h.used != 10 {
		t.Error("forgotten at once")
	}
	h.bodies["a"].idle = time.Now().Add(-heldIdle - time.Second)
	if h.expire(); h.used != 0 {
		t.Errorf("%d bytes held of what nobody uses", h.used)
	}
}

func TestHeldGone(t *testing.T) {
	t.Parallel()
	h, loads := newHeld()
	for range 2 {
		if _, _, err := h.acquire(t.Context(), &spilled{"gone", 10}); !errors.Is(err, errBodyGone) {
			t.Errorf("%v", err)
		}
	}
	if n := loads.Load(); n != 2 || h.used != 0 {
		t.Errorf("%d loads, %d bytes held", n, h.used)
	}
}

// There is a bound on what is held at once: others wait, and what nobody uses makes room.
func TestHeldBound(t *testing.T) {
	t.Parallel()
	h, _ := newHeld()
	var releases []func()
	for i := range 4 {
		_, release, err := h.acquire(t.Context(), &spilled{fmt.Sprint(i), maxHeld / 4})
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	if h.take(&spilled{"more", 1}) != nil {
		t.Fatal("more was taken than there is room for")
	}
	got := make(chan error, 1)
	go func() {
		_, release, err := h.acquire(t.Context(), &spilled{"more", 1})
		if err == nil {
			release()
		}
		got <- err
	}()
	releases[2]()
	if err := <-got; err != nil {
		t.Error(err)
	}
	if h.bodies["2"] != nil || h.bodies["1"] == nil {
		t.Error("another one made room")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := h.acquire(ended, &spilled{"huge", 2 * maxHeld}); !errors.Is(err, errEnded) {
		t.Errorf("%v", err)
	}
	for _, i := range []int{0, 1, 3} {
		releases[i]()
	}
	_, release, err := h.acquire(t.Context(), &spilled{"huge", 2 * maxHeld}) // there is no other
	if err != nil || h.used != 2*maxHeld {
		t.Errorf("%v, %d bytes held", err, h.used)
	}
	release()
}
