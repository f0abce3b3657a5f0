package kv_test

import (
	"errors"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
)

func TestTTLTooShort(t *testing.T) {
	t.Parallel()
	table := open(t, connect(t, bustest.Server(t)), kv.Config{})
	for _, d := range []time.Duration{-time.Second, 0, time.Second - 1} {
		if _, err := table.Put(t.Context(), "a", widget{}, kv.TTL(d)); err == nil {
			t.Errorf("a ttl of %v is no error", d)
		}
	}
}

// Ten renewals, each before the ttl is over, then none.
func TestRenewedKeyExpires(t *testing.T) {
	for name, history := range map[string]int{"one revision": 1, "history": 20} {
		t.Run(name, func(t *testing.T) {
			bustest.Bubble(t, func(t *testing.T) {
				ctx := t.Context()
				table := open(t, connect(t, bustest.Server(t)), kv.Config{History: history})
				const ttl = 2500 * time.Millisecond // rounded up to 3 s
				c := copyOf(t, table, ">")
				rev, err := table.Create(ctx, "a", widget{"a", 0}, kv.TTL(ttl))
				for i := range 10 {
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(2 * time.Second)
					if i%2 == 0 {
						rev, err = table.Update(ctx, "a", widget{"a", i}, rev, kv.TTL(ttl))
					} else {
						rev, err = table.Put(ctx, "a", widget{"a", i}, kv.TTL(ttl))
					}
				}
				renewed := time.Now()
				time.Sleep(2900 * time.Millisecond)
				if _, ok := c.Get("a"); !ok {
					t.Error("gone before its time")
				}
				until(t, c, "the key to expire", lacks("a"))
				took := time.Since(renewed)
				t.Logf("expired %v after the tenth renewal", took)
				if took > 4*time.Second {
					t.Errorf("expired %v after the last renewal, want 3 s", took)
				}
				if _, err := table.Get(ctx, "a"); !errors.Is(err, kv.ErrNotFound) {
					t.Errorf("Get: %v", err)
				}
				if _, err := table.Create(ctx, "a", widget{"a", 1}); err != nil {
					t.Errorf("Create over the note of the expiry: %v", err)
				}
				until(t, c, "the new a", hasSize("a", 1))
				time.Sleep(time.Hour)
				if _, err := table.Get(ctx, "a"); err != nil {
					t.Errorf("without ttl: %v", err)
				}
			})
		})
	}
}

// In a bucket without history deletions leave nothing behind.
func TestDeletionsGoAway(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		ctx := t.Context()
		conn := connect(t, bustest.Server(t))
		table := open(t, conn, kv.Config{})
		c := copyOf(t, table, ">")
		put(t, table, "a", 1)
		until(t, c, "a", hasSize("a", 1))
		if err := table.Delete(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		until(t, c, "no a", lacks("a"))
		time.Sleep(10 * time.Minute)
		if n := streamOf(t, conn).CachedInfo().State.Msgs; n != 0 {
			t.Errorf("%d messages are left", n)
		}
		if _, err := table.Create(ctx, "a", widget{"a", 2}); err != nil {
			t.Error(err)
		}
	})
}
