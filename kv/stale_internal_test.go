package kv

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// openNumbers opens a table of a server of its own.
func openNumbers(t *testing.T) (*Table[int], *bus.Conn) {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	table, err := Open[int](t.Context(), conn, "numbers", Config{})
	if err != nil {
		t.Fatal(err)
	}
	return table, conn
}

// What should have expired long ago is not there, though the server still has it: for no reader, follower or lease.
func TestStale(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	table, _ := openNumbers(t)
	for key, ttl := range map[string]time.Duration{"minute": time.Minute, "hour": time.Hour} {
		if _, err := table.Put(ctx, key, 1, TTL(ttl)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := table.Put(ctx, "forever", 1); err != nil {
		t.Fatal(err)
	}
	// The server's clock cannot be moved, but what is remembered of it can.
	past := func(d time.Duration) { table.b.setClock(time.Now().Add(d)) }
	keys := func() (all string) {
		for e, err := range table.List(ctx, ">") {
			if err != nil {
				t.Fatal(err)
			}
			all += e.Key + " "
		}
		return all
	}
	if got := keys(); got != "forever hour minute " {
		t.Fatalf("at first: %s", got)
	}
	past(2*time.Minute + staleGrace - time.Second)
	if _, err := table.Get(ctx, "minute"); err != nil {
		t.Errorf("within its grace: %v", err)
	}
	past(2*time.Minute + staleGrace + time.Second)
	for key, want := range map[string]error{"minute": ErrNotFound, "hour": nil, "forever": nil} {
		if _, err := table.Get(ctx, key); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", key, err, want)
		}
	}
	if rev, err := table.Create(ctx, "minute", 2, TTL(time.Minute)); err != nil || rev != 4 {
		t.Errorf("create: revision %d, %v", rev, err)
	}
	if _, err := table.Create(ctx, "hour", 2); !errors.Is(err, ErrExists) {
		t.Errorf("create what is there: %v", err)
	}
	past(1000 * time.Hour)
	if _, err := table.Get(ctx, "forever"); err != nil {
		t.Errorf("without a TTL: %v", err)
	}
	if got := keys(); got != "forever hour minute " { // the list asks for the time
		t.Errorf("at last: %s", got)
	}
}

func TestParseTTL(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{
		"": 0, "10": 10 * time.Second, "1h30m": 90 * time.Minute, "never": 0, "x": 0, "-1": -time.Second, "99999999999": 0,
	} {
		if got := parseTTL(in); got != want {
			t.Errorf("%q is %v, want %v", in, got, want)
		}
	}
}

// Followers judge anew what they hold: a key that was heard of in time, and whose TTL the server does not count down, is gone for them too.
func TestFollowersSeeStale(t *testing.T) {
	for _, pattern := range []string{">", "a.*"} {
		t.Run(pattern, func(t *testing.T) {
			bustest.Bubble(t, func(t *testing.T) {
				ctx := t.Context()
				table, conn := openNumbers(t)
				msg := nats.NewMsg("$KV.numbers.a.x")
				msg.Data = []byte("1")
				msg.Header[headerTTL] = []string{"3600", "10"} // the server goes by the first, skybus by the last
				if err := conn.NATS().PublishMsg(msg); err != nil {
					t.Fatal(err)
				}
				bustest.Eventually(t, "the key", func() bool {
					_, err := table.Get(ctx, "a.x")
					return err == nil
				})
				c, err := table.Copy(ctx, pattern)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = c.Close() }()
				if _, ok := c.Get("a.x"); !ok {
					t.Fatal("not there at first")
				}
				time.Sleep(20*time.Second + staleGrace + 2*table.b.cfg.Check) // fake time: until it is judged anew
				if e, ok := c.Get("a.x"); ok {
					t.Errorf("there for ever: %+v", e)
				}
				if _, err := table.Create(ctx, "a.x", 2); err != nil {
					t.Error(err)
				}
				bustest.Eventually(t, "the new value", func() bool {
					e, ok := c.Get("a.x")
					return ok && e.Value == 2
				})
			})
		})
	}
}
