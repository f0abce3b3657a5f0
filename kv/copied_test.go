package kv_test

import (
	"context"
	"errors"
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

// Who may ask JetStream anything can have an answer sent to the key of a lease. It has no TTL and is nobody's lease.
func TestAnswerHoldsNoLease(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn := connect(t, bustest.Server(t))
	l := openLeases(t, conn)
	lease := acquire(t, l, "a")
	ask := &nats.Msg{Subject: "$JS.API.STREAM.INFO.KV_skybus_leases", Reply: "$KV.skybus_leases." + lease.Key()}
	if err := conn.NATS().PublishMsg(ask); err != nil {
		t.Fatal(err)
	}
	<-lease.Lost() // as it is renewed
	if h, err := l.Holder(ctx, lease.Key()); !errors.Is(err, kv.ErrNotFound) {
		t.Errorf("Holder = %+v, %v", h, err)
	}
	fctx, cancel := context.WithCancel(ctx)
	if err := l.Follow(fctx, ">", func(batch []kv.Holder) {
		for _, h := range batch {
			if h.Owner != "" {
				t.Errorf("heard of %+v", h)
			}
		}
		cancel()
	}); err != nil {
		t.Error(err)
	}
	second := acquire(t, l, "b")
	if second.Term().Compare(lease.Term()) <= 0 {
		t.Errorf("term %v after %v", second.Term(), lease.Term())
	}
}
