package kv_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
)

// Whatever is done with a table that only binds, it creates nothing.
func TestBind(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		ctx := t.Context()
		conn := connect(t, bustest.Server(t))
		absent := func(when string) {
			t.Helper()
			if _, err := conn.JetStream().Stream(ctx, "KV_widgets"); !errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Errorf("the bucket %s: %v", when, err)
			}
		}
		if _, err := kv.Open[widget](ctx, conn, "widgets", kv.Config{Bind: true}); !errors.Is(err, kv.ErrNoBucket) {
			t.Errorf("Open without a bucket: %v", err)
		}
		absent("after Open")

		put(t, open(t, conn, kv.Config{}), "a", 1)
		table := open(t, conn, kv.Config{Bind: true})
		c, part := copyOf(t, table, ">"), copyOf(t, table, "*")
		until(t, c, "a", hasSize("a", 1))
		if err := conn.JetStream().DeleteStream(ctx, "KV_widgets"); err != nil {
			t.Fatal(err)
		}
		until(t, c, "no a", lacks("a"))
		until(t, part, "no a", lacks("a"))
		if _, err := table.Get(ctx, "a"); !errors.Is(err, kv.ErrNoBucket) {
			t.Errorf("Get without a bucket: %v", err)
		}
		if _, err := table.Put(ctx, "a", widget{}); !errors.Is(err, kv.ErrNoBucket) {
			t.Errorf("Put without a bucket: %v", err)
		}
		for _, err := range table.List(ctx, ">") {
			if !errors.Is(err, kv.ErrNoBucket) {
				t.Errorf("List without a bucket: %v", err)
			}
		}
		time.Sleep(10 * time.Minute)
		absent("after all that")

		put(t, open(t, conn, kv.Config{}), "a", 2)
		began := time.Now()
		until(t, c, "a", hasSize("a", 2))
		until(t, part, "a", hasSize("a", 2))
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the new bucket was found after %v", took)
		}
	})
}
