package kv_test

import (
	"testing"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
)

func TestCopyFollows(t *testing.T) {
	t.Parallel()
	table := open(t, connect(t, bustest.Server(t)), kv.Config{})
	put(t, table, "a.x", 1)
	put(t, table, "b.x", 1)
	c := copyOf(t, table, "a.>")
	if e, ok := c.Get("a.x"); !ok || e.Value.Size != 1 || e.Key != "a.x" {
		t.Errorf("Get = %v, %v", e, ok)
	}
	if _, ok := c.Get("b.x"); ok {
		t.Error("the copy has what its pattern excludes")
	}
	put(t, table, "a.y", 2)
	until(t, c, "a.y", hasSize("a.y", 2))
	put(t, table, "a.x", 3)
	until(t, c, "a.x", hasSize("a.x", 3))
	if err := table.Delete(t.Context(), "a.y"); err != nil {
		t.Fatal(err)
	}
	until(t, c, "no a.y", lacks("a.y"))
}
