package kv

import (
	"context"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// A key that came and went while the follower was busy: who waits for a lease has to hear of it, since it may have seen
// the key by other means.
func TestFollowTellsEveryDeletion(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		conn, err := bus.Connect(ctx, bus.Config{InProcess: bustest.Server(t)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.NATS().Close)
		table, err := Open[int](ctx, conn, "numbers", Config{})
		if err != nil {
			t.Fatal(err)
		}
		calls, deleted := 0, false
		err = table.b.follow(ctx, "a", func(batch []record) {
			if calls++; calls > 1 {
				deleted = len(batch) == 1 && batch[0].deleted
				cancel()
				return
			}
			if _, err := table.Create(ctx, "a", 1); err != nil {
				t.Error(err)
			}
			if err := table.Delete(ctx, "a"); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second) // the feed has both
		})
		if err != nil || !deleted {
			t.Errorf("deletion told: %v, after %d calls, %v", deleted, calls, err)
		}
	})
}
