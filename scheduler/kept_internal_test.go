package scheduler

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus/bustest"
)

// An owner whose lease was lost, as a server is that is too busy, goes on from what it knew: of what changed meanwhile it learns, and
// what it had taken out to fire is not forgotten.
func TestOwnerKeepsWhatItKnew(t *testing.T) {
	t.Parallel()
	n := bustest.Server(t)
	s := openIn(t, n, "dev")
	target := Target{URI: "http://127.0.0.1:9999/"}
	const many = pageBodies + 10
	createAll(t, s, many, target)
	running(t, s)
	sh := s.shards[0]
	poll(t, "all is read", func() bool { return s.Stats().Loaded && s.Stats().Pending == many })
	o := sh.owner.Load()
	o.mu.Lock()
	read := o.read
	o.mu.Unlock()
	if read < many {
		t.Fatalf("read up to %d of %d", read, many)
	}

	leases, err := s.js.KeyValue(t.Context(), "skybus_leases")
	if err != nil {
		t.Fatal(err)
	}
	key := s.conn.Namespace().Key("timers", "0")
	if _, err := s.js.Publish(t.Context(), "$KV.skybus_leases."+key, []byte(`{"owner":"another"}`), jetstream.WithMsgTTL(time.Hour)); err != nil {
		t.Fatal(err)
	}
	poll(t, "the shard is lost", func() bool { return sh.owner.Load() == nil })
	if err := s.Cancel(t.Context(), "t-5", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), Spec{ID: "new", After: time.Hour, Target: target}); err != nil {
		t.Fatal(err)
	}
	if err := leases.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	poll(t, "the shard is owned again", func() bool { return sh.owner.Load() != nil })
	if sh.owner.Load() != o {
		t.Error("the owner begins from nothing")
	}
	poll(t, "the new timer is known", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		_, ok := o.far.byID["new"]
		return ok && o.loaded
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.busy != 0 || o.far.len() < many {
		t.Errorf("%d timers are taken out, %d are known, want 0 and at least %d", o.busy, o.far.len(), many)
	}
}

// createAll makes n timers that are due in an hour.
func createAll(t *testing.T, s *Scheduler, n int, target Target) {
	t.Helper()
	for _, err := range s.CreateMany(t.Context(), func(yield func(Spec) bool) {
		for i := range n {
			if !yield(Spec{ID: "t-" + strconv.Itoa(i), After: time.Hour, Target: target}) {
				return
			}
		}
	}) {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// running runs a scheduler until the test ends.
func running(t *testing.T, s *Scheduler) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }() // ends with ctx
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// What was taken out when the lease was lost is looked at again.
func TestOwnerTakesUpWhatWasTakenOut(t *testing.T) {
	t.Parallel()
	s := openIn(t, bustest.Server(t), "dev")
	o := s.newOwner(s.shards[0])
	o.near.put(&stored{id: "near", due: 10, seq: 3})
	o.busy++
	o.recurring <- &stored{id: "recurring", due: 20, seq: 4}
	o.loaded = true
	o.resume()
	for _, id := range []string{"near", "recurring"} {
		if _, ok := o.far.byID[id]; !ok {
			t.Errorf("%s is forgotten", id)
		}
	}
	if o.loaded || o.busy != 0 || o.near.first() != nil {
		t.Errorf("loaded %v, %d taken out, near %v", o.loaded, o.busy, o.near.first())
	}
}

// poll looks each millisecond until a condition holds.
func poll(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for begin := time.Now(); !holds(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatalf("not so after a minute: %s", what)
		}
	}
}
