package kv_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
)

const ttl = 3 * time.Second

func openLeases(t testing.TB, c *bus.Conn) *kv.Leases {
	t.Helper()
	l, err := kv.OpenLeases(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func acquire(t testing.TB, l *kv.Leases, owner string) *kv.Lease {
	t.Helper()
	lease, err := l.Acquire(t.Context(), "default.dev.test.x", owner, ttl)
	return own(t, lease, err)
}

func await(t testing.TB, l *kv.Leases, owner string) *kv.Lease {
	t.Helper()
	lease, err := l.Wait(t.Context(), "default.dev.test.x", owner, ttl)
	return own(t, lease, err)
}

// own releases the lease when the test ends.
func own(t testing.TB, l *kv.Lease, err error) *kv.Lease {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Second)
		defer cancel()
		_ = l.Release(ctx) // the server may be gone
	})
	return l
}

func TestLease(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := bustest.Server(t)
	a, b := openLeases(t, connect(t, server)), openLeases(t, connect(t, server))
	const key = "default.dev.test.x"
	if _, err := b.Holder(ctx, key); !errors.Is(err, kv.ErrNotFound) {
		t.Errorf("Holder of nothing: %v", err)
	}
	before := time.Now()
	lease := acquire(t, a, "a")
	if !lease.Valid() || lease.Key() != key {
		t.Errorf("valid %v, key %q", lease.Valid(), lease.Key())
	}
	if d := lease.Deadline().Sub(before); d < ttl/2 || d > ttl {
		t.Errorf("deadline in %v", d)
	}
	_, err := b.Acquire(ctx, key, "b", ttl)
	held, ok := errors.AsType[*kv.HeldError](err)
	if !ok || !errors.Is(err, kv.ErrHeld) || held.Holder != (kv.Holder{Key: key, Owner: "a", Term: lease.Term()}) {
		t.Errorf("Acquire of a held lease: %v", err)
	}
	if _, err := a.Acquire(ctx, key, "a", ttl); !errors.Is(err, kv.ErrHeld) {
		t.Errorf("Acquire by the holder: %v", err)
	}
	for range 2 {
		if err := lease.Release(ctx); err != nil {
			t.Error(err)
		}
	}
	<-lease.Lost()
	if lease.Valid() {
		t.Error("valid after Release")
	}
	second := acquire(t, b, "b")
	if second.Term().Compare(lease.Term()) <= 0 {
		t.Errorf("term %v after %v", second.Term(), lease.Term())
	}
	// The first has nothing to do with it any more.
	if err := lease.Release(ctx); err != nil || !second.Valid() {
		t.Errorf("Release again: %v", err)
	}
	if h, err := a.Holder(ctx, key); err != nil || h.Owner != "b" || h.Term != second.Term() {
		t.Errorf("Holder = %v, %v", h, err)
	}
}

func TestLeaseRefuses(t *testing.T) {
	t.Parallel()
	l := openLeases(t, connect(t, bustest.Server(t)))
	for _, c := range []struct {
		key, owner string
		ttl        time.Duration
	}{
		{"a.*", "o", ttl},
		{"", "o", ttl},
		{"a", "", ttl},
		{"a", string(make([]byte, 300)), ttl},
		{"a", "o", 2*time.Second - 1},
		{"a", "o", time.Hour + 1},
	} {
		if _, err := l.Acquire(t.Context(), c.key, c.owner, c.ttl); err == nil || errors.Is(err, kv.ErrHeld) {
			t.Errorf("Acquire(%q, %.9q, %v): %v", c.key, c.owner, c.ttl, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Wait(ctx, "a", "o", ttl); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait: %v", err)
	}
}

func TestTerm(t *testing.T) {
	t.Parallel()
	terms := []kv.Term{{}, {1, 5}, {1, 6}, {2, 1}, {2, 1 << 63}}
	for i, a := range terms {
		if got, err := kv.ParseTerm(a.String()); err != nil || got != a {
			t.Errorf("ParseTerm(%q) = %v, %v", a, got, err)
		}
		for j, b := range terms {
			if got := a.Compare(b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%v compared with %v is %d", a, b, got)
			}
		}
	}
	for _, bad := range []string{"", "1", "1.", ".1", "a.b", "1.2.3", "1.-2"} {
		if got, err := kv.ParseTerm(bad); err == nil {
			t.Errorf("ParseTerm(%q) = %v", bad, got)
		}
	}
}

// A released lease goes to who waits, at once.
func TestLeaseHandover(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		server := bustest.Server(t)
		a, b := openLeases(t, connect(t, server)), openLeases(t, connect(t, server))
		first := acquire(t, a, "a")
		got := make(chan *kv.Lease, 1)
		go func() {
			l, err := b.Wait(t.Context(), first.Key(), "b", ttl)
			if err != nil {
				t.Error(err)
			}
			got <- l
		}()
		time.Sleep(10 * time.Minute) // renewed hundreds of times
		select {
		case <-got:
			t.Fatal("two have it")
		default:
		}
		if !first.Valid() {
			t.Fatal("lost in quiet")
		}
		released := time.Now()
		if err := first.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		second := own(t, <-got, nil)
		if took := time.Since(released); took > 100*time.Millisecond {
			t.Errorf("took %v", took)
		}
		if second.Term().Compare(first.Term()) <= 0 {
			t.Errorf("term %v after %v", second.Term(), first.Term())
		}
	})
}

// A holder that is frozen, or cut off: its lease ends on its own side before another gets it.
func TestLeaseTakeover(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		server := bustest.Server(t)
		gate := &gate{server: server}
		a := openLeases(t, connectWith(t, bus.Config{InProcess: gate}))
		b := openLeases(t, connect(t, server))
		first := acquire(t, a, "a")
		time.Sleep(10 * ttl)
		gate.shut()
		stopped := time.Now() // the last renewal was sent at most ttl/3 before
		go func() {
			<-first.Lost()
			t.Logf("the holder knew after %v", time.Since(stopped))
		}()
		second := await(t, b, "b")
		took := time.Since(stopped)
		t.Logf("taken over after %v", took)
		if took > ttl+500*time.Millisecond {
			t.Errorf("taken over after %v, want at most %v", took, ttl+500*time.Millisecond)
		}
		if first.Valid() {
			t.Error("two are valid")
		}
		select {
		case <-first.Lost():
		default:
			t.Error("not told that it is lost")
		}
		if second.Term().Compare(first.Term()) <= 0 {
			t.Errorf("term %v after %v", second.Term(), first.Term())
		}
		gate.open()
		time.Sleep(10 * ttl)
		if first.Valid() || !second.Valid() {
			t.Errorf("later: first valid %v, second valid %v", first.Valid(), second.Valid())
		}
	})
}

// The server is away for longer than the ttl.
func TestLeaseServerDown(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		server := bustest.Server(t)
		a, b := openLeases(t, connect(t, server)), openLeases(t, connect(t, server))
		first := acquire(t, a, "a")
		server.Stop()
		time.Sleep(ttl)
		if first.Valid() {
			t.Error("valid without renewal")
		}
		time.Sleep(time.Minute)
		server.Start(t)
		second := await(t, b, "b")
		if first.Valid() || second.Term().Compare(first.Term()) <= 0 {
			t.Errorf("first valid %v, terms %v and %v", first.Valid(), first.Term(), second.Term())
		}
	})
}

// The server is away for less than the ttl.
func TestLeaseSurvivesRestart(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		server := bustest.Server(t)
		a, b := openLeases(t, connect(t, server)), openLeases(t, connect(t, server))
		lease := acquire(t, a, "a")
		for range 5 {
			time.Sleep(ttl)
			server.Stop()
			time.Sleep(ttl / 3)
			server.Start(t)
			time.Sleep(ttl / 3)
			if !lease.Valid() {
				t.Fatal("lost by a restart")
			}
		}
		if h, err := b.Holder(t.Context(), lease.Key()); err != nil || h.Term != lease.Term() {
			t.Errorf("Holder = %v, %v", h, err)
		}
	})
}

// Everything the server knew is lost. Who has the lease may go by it until its deadline; who comes gets it after that,
// with a higher term.
func TestLeaseBucketLost(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		server := bustest.Server(t, bustest.Memory())
		gate := &gate{server: server}
		a := openLeases(t, connectWith(t, bus.Config{InProcess: gate}))
		b := openLeases(t, connect(t, server))
		first := acquire(t, a, "a")
		time.Sleep(10 * ttl)
		gate.shut() // so that it does not hear of the loss
		server.Restart(t)
		lost := time.Now()
		if _, err := b.Acquire(t.Context(), first.Key(), "b", ttl); err == nil {
			t.Fatal("acquired at once")
		} else if held, ok := errors.AsType[*kv.HeldError](err); !ok || held.RetryAfter <= 0 || held.RetryAfter > ttl {
			t.Errorf("Acquire: %v", err)
		}
		second := await(t, b, "b")
		t.Logf("acquired %v after the loss", time.Since(lost))
		if first.Valid() {
			t.Error("two are valid")
		}
		if second.Term().Compare(first.Term()) <= 0 || second.Term().Revision <= first.Term().Revision {
			t.Errorf("term %v after %v", second.Term(), first.Term())
		}
		gate.open()
		time.Sleep(10 * ttl)
		if first.Valid() || !second.Valid() {
			t.Errorf("later: first valid %v, second valid %v", first.Valid(), second.Valid())
		}
	})
}

// A holder that hears of the loss knows at once.
func TestLeaseHearsOfLoss(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		server := bustest.Server(t, bustest.Memory())
		l, err := openLeases(t, connect(t, server)).Acquire(t.Context(), "x", "a", time.Hour)
		lease := own(t, l, err)
		time.Sleep(time.Minute)
		server.Restart(t)
		lost := time.Now()
		<-lease.Lost()
		checkPromise(t, "lease", time.Since(lost))
	})
}

// Many campaign, holders come and go in every way: at no time two are valid, and the terms increase.
func TestLeaseNeverTwo(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		server := bustest.Server(t)
		var mu sync.Mutex
		var current *kv.Lease
		var held int
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		for i := range 4 {
			gate := &gate{server: server}
			leases := openLeases(t, connectWith(t, bus.Config{InProcess: gate}))
			wg.Go(func() {
				for ctx.Err() == nil {
					l, err := leases.Wait(ctx, "x", "owner", ttl)
					if err != nil {
						if ctx.Err() == nil {
							t.Error(err)
						}
						return
					}
					mu.Lock()
					if current != nil && current.Valid() {
						t.Errorf("%v and %v are valid", current.Term(), l.Term())
					}
					if current != nil && l.Term().Compare(current.Term()) <= 0 {
						t.Errorf("term %v after %v", l.Term(), current.Term())
					}
					current = l
					held++
					mu.Unlock()
					time.Sleep(time.Duration(i+1) * time.Second)
					if i%2 == 0 {
						gate.shut()
						<-l.Lost()
						time.Sleep(ttl)
						gate.open()
					}
					if err := l.Release(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if held < 20 {
			t.Errorf("held %d times: the test shows little", held)
		}
		t.Logf("held %d times", held)
	})
}
