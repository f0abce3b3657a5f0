package registry_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/registry"
)

// watch runs f in a loop over a watch until the test ends, and returns when the loop runs and knows what there is.
func watch(t *testing.T, r *registry.Registry, c registry.Criteria, f func(registry.Change)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		for change := range r.Watch(ctx, c) {
			f(change)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// isNotTold checks that a wait for shop/id lasts as long as its ctx.
func isNotTold(t *testing.T, r *registry.Registry, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.WaitTold(ctx, "shop", id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while a loop is busy with the change: %v", err)
	}
}

func TestWaitTold(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	r := open(t, conn, nil)
	records, liveness := tables(t, conn)
	shops := registry.Criteria{Services: []registry.ServiceCriterion{{Name: "shop"}}}
	told := make([]atomic.Bool, 3)
	hold, held := make(chan struct{}), make(chan struct{}, 1)
	release := sync.OnceFunc(func() { close(hold) })
	begun := make(chan struct{}, 3)
	if err := write(t.Context(), records, liveness, "shop", "first"); err != nil {
		t.Fatal(err)
	}
	becomes(t, r, "shop", "first", registry.Online)
	for n := range told {
		watch(t, r, shops, func(c registry.Change) {
			if c.Instance.Instance == "first" {
				begun <- struct{}{}
				return
			}
			if n == 1 {
				held <- struct{}{}
				bustest.Hold(t, hold)
			}
			told[n].Store(true)
		})
		<-begun
	}
	t.Cleanup(release)
	// Loops that have nothing to do with it are not waited for.
	never := make(chan struct{})
	defer close(never)
	watch(t, r, registry.Criteria{Regions: []string{"mars"}}, func(registry.Change) {})
	watch(t, r, registry.Criteria{Instances: []string{"first"}}, func(registry.Change) { <-never })

	done := make(chan error, 1)
	go func() { done <- r.WaitTold(t.Context(), "shop", "second") }()
	if err := write(t.Context(), records, liveness, "shop", "second"); err != nil {
		t.Fatal(err)
	}
	<-held
	becomes(t, r, "shop", "second", registry.Online)
	isNotTold(t, r, "second")
	select {
	case err := <-done:
		t.Fatalf("it did not wait for a loop that is busy with the change: %v", err)
	default:
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for n := range told {
		if !told[n].Load() {
			t.Errorf("loop %d was not told", n)
		}
	}
	if err := r.WaitTold(t.Context(), "shop", "second"); err != nil {
		t.Error(err)
	}
}

// A loop that is left is not waited for any more.
func TestWaitToldOfLoopThatEnds(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	r := open(t, conn, nil)
	records, liveness := tables(t, conn)
	if err := write(t.Context(), records, liveness, "shop", "a"); err != nil {
		t.Fatal(err)
	}
	becomes(t, r, "shop", "a", registry.Online)
	waits := make(chan error, 1)
	for range r.Watch(t.Context(), registry.Criteria{}) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if err := r.WaitTold(ctx, "shop", "a"); err == nil {
			t.Error("told before the loop came back")
		}
		cancel()
		go func() { waits <- r.WaitTold(t.Context(), "shop", "a") }()
		break
	}
	if err := <-waits; err != nil {
		t.Error(err)
	}
}

// What a loop was told of an earlier life does not count for the present one.
func TestWaitToldOfNewLife(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	r := open(t, conn, nil)
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	held := make(chan struct{}, 10)
	watch(t, r, registry.Criteria{}, func(c registry.Change) {
		if c.Instance.Instance == "blocks" {
			held <- struct{}{}
			bustest.Hold(t, hold)
		}
	})
	t.Cleanup(release)
	a := announce(t, conn, record("shop", "a"), quickly())
	if err := r.WaitTold(t.Context(), "shop", "a"); err != nil {
		t.Fatal(err)
	}
	announce(t, conn, record("shop", "blocks"), quickly())
	<-held
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	becomes(t, r, "shop", "a", "")
	announce(t, conn, record("shop", "a"), quickly())
	becomes(t, r, "shop", "a", registry.Online)
	isNotTold(t, r, "a") // of this life
	release()
	if err := r.WaitTold(t.Context(), "shop", "a"); err != nil {
		t.Error(err)
	}
}

// The order that it is for: who waits for the sender of each message finds that the watcher has seen it, however the two
// race, also for an id that had a life before.
func TestWatchersSeeBeforeHandlers(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	r := open(t, connect(t, s), nil)
	var mu sync.Mutex
	seen := map[string]string{} // session by instance
	watch(t, r, registry.Criteria{}, func(c registry.Change) {
		<-time.After(time.Millisecond) // the slower the watcher, the sooner this fails
		mu.Lock()
		defer mu.Unlock()
		if c.Instance.State == registry.Online && c.Kind != registry.Removed {
			seen[c.Instance.Instance] = c.Instance.Session
		}
	})
	for n := range 60 {
		id := fmt.Sprintf("i%d", n%20)
		a := announce(t, conn, record("shop", id), quickly())
		if err := r.WaitTold(t.Context(), "shop", id); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		got := seen[id]
		mu.Unlock()
		if got != a.Record().Session {
			t.Fatalf("%s was seen as %q by the watcher and is %q", id, got, a.Record().Session)
		}
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
		becomes(t, r, "shop", id, "")
	}
}

// A slow loop is told the last state, in a number of changes that depends on it and not on what happened.
func TestSlowWatcher(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	r := open(t, conn, nil)
	const instances, changes = 5, 100
	var all []*announcement
	for n := range instances {
		id := fmt.Sprintf("i%d", n)
		all = append(all, announce(t, conn, record("shop", id), quickly()))
		becomes(t, r, "shop", id, registry.Online)
	}
	slow, told := make(chan struct{}), 0
	last := map[string]string{}
	var mu sync.Mutex
	blocked := make(chan struct{}, 1)
	watch(t, r, registry.Criteria{}, func(c registry.Change) {
		if blocked <- struct{}{}; c.Kind == registry.Added && c.Instance.Instance == "i0" {
			<-slow
		}
		bustest.Hold(t, blocked)
		mu.Lock()
		defer mu.Unlock()
		told++
		last[c.Instance.Instance] = string(c.Instance.Attributes["n"])
	})
	bustest.Eventually(t, "the loop to be busy", func() bool { return len(blocked) == 1 })
	for n := range changes {
		for _, a := range all {
			if err := a.Update(t.Context(), setAttributes("n", fmt.Sprint(n))); err != nil {
				t.Fatal(err)
			}
		}
	}
	bustest.Eventually(t, "the copy", func() bool {
		for n := range instances {
			if string(find(r, "shop", fmt.Sprintf("i%d", n)).Attributes["n"]) != fmt.Sprint(changes-1) {
				return false
			}
		}
		return true
	})
	close(slow)
	bustest.Eventually(t, "the last values", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for n := range instances {
			if last[fmt.Sprintf("i%d", n)] != fmt.Sprint(changes-1) {
				return false
			}
		}
		return true
	})
	if err := r.WaitTold(t.Context(), "shop", "i0"); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if told > 2*instances {
		t.Errorf("%d changes were told of %d instances", told, instances)
	}
}
