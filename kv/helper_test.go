package kv_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
)

type widget struct {
	Name string `json:"name"`
	Size int    `json:"size"`
}

func connect(t testing.TB, n *bustest.Node, opts ...nats.Option) *bus.Conn {
	t.Helper()
	return connectWith(t, bus.Config{InProcess: n, Options: opts})
}

func connectWith(t testing.TB, cfg bus.Config) *bus.Conn {
	t.Helper()
	c, err := bus.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.NATS().Close() })
	return c
}

func open(t testing.TB, c *bus.Conn, cfg kv.Config) *kv.Table[widget] {
	t.Helper()
	table, err := kv.Open[widget](t.Context(), c, "widgets", cfg)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func put(t testing.TB, table *kv.Table[widget], key string, size int) uint64 {
	t.Helper()
	rev, err := table.Put(t.Context(), key, widget{key, size})
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func copyOf(t testing.TB, table *kv.Table[widget], pattern string) *kv.Copy[widget] {
	t.Helper()
	c, err := table.Copy(t.Context(), pattern)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// until waits for a state of the copy and returns how long that took.
func until[T any](t testing.TB, c *kv.Copy[T], what string, ok func(map[string]kv.Entry[T]) bool) time.Duration {
	t.Helper()
	begin := time.Now()
	limit := time.After(20 * time.Second)
	for {
		changed := c.Changed()
		if ok(c.All()) {
			return time.Since(begin)
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("waited 20 s for %s, have %v", what, c.All())
		}
	}
}

func hasSize(key string, size int) func(map[string]kv.Entry[widget]) bool {
	return func(m map[string]kv.Entry[widget]) bool {
		e, ok := m[key]
		return ok && e.Value.Size == size
	}
}

func lacks(key string) func(map[string]kv.Entry[widget]) bool {
	return func(m map[string]kv.Entry[widget]) bool {
		_, ok := m[key]
		return !ok
	}
}
