package kv_test

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
)

// Who may read a bucket can have JetStream send what it reads to a key that he may not write. Nobody believes that.
func TestCopiedValuesAreNotBelieved(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	table := open(t, conn, kv.Config{History: 5})
	put(t, table, "mine", 1)
	c := copyOf(t, table, "*")
	put(t, table, "theirs", 2)
	until(t, c, "the key", hasSize("theirs", 2))
	copied := func(what string) {
		ask := &nats.Msg{Subject: "$JS.API.DIRECT.GET.KV_widgets", Reply: "$KV.widgets.theirs", Data: []byte(`{"last_by_subj":"$KV.widgets.mine"}`)}
		before, err := table.Get(t.Context(), "theirs")
		if err != nil && before.Revision == 0 {
			t.Fatal(err)
		}
		if err := conn.NATS().PublishMsg(ask); err != nil {
			t.Fatal(err)
		}
		bustest.Eventually(t, what, func() bool {
			e, err := table.Get(t.Context(), "theirs")
			return e.Revision > before.Revision && !e.Deleted && err != nil && e.Err != nil && e.Value == widget{}
		})
	}
	copied("a copied value")
	for e, err := range table.List(t.Context(), "theirs") {
		if err != nil || e.Err == nil || e.Value != (widget{}) {
			t.Errorf("listed %+v, %v", e, err)
		}
	}
	until(t, c, "no value of it", func(m map[string]kv.Entry[widget]) bool {
		e, ok := m["theirs"]
		return !ok || e.Err != nil
	})
	late := copyOf(t, table, "*")
	if e, ok := late.Get("theirs"); ok && e.Err == nil {
		t.Errorf("loaded %+v", e)
	}
	if err := table.Delete(t.Context(), "mine"); err != nil {
		t.Fatal(err)
	}
	copied("a copied deletion")
	put(t, table, "theirs", 3)
	until(t, c, "what its owner wrote", hasSize("theirs", 3))
}
