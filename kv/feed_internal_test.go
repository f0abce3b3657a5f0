package kv

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// A feed whose subscription drops nearly everything finds it all the same.
func TestDroppedMessages(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := bus.Connect(ctx, bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.NATS().Close)
	table, err := Open[int](ctx, conn, "numbers", Config{Check: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	f := table.b.newFeed("*")
	var wg sync.WaitGroup
	wg.Go(func() { f.run(ctx) })
	defer wg.Wait()
	defer cancel()
	<-f.out.ready // loaded
	if err := f.sub.SetPendingLimits(1, 1<<20); err != nil {
		t.Fatal(err)
	}

	const writes, keys = 5000, 50
	for i := range writes {
		if err := conn.NATS().Publish("$KV.numbers."+strconv.Itoa(i%keys), []byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	have := map[string]string{}
	limit := time.After(20 * time.Second)
	for missing := keys; missing > 0; {
		select {
		case <-f.out.ready:
		case <-limit:
			t.Fatalf("%d of %d keys are not up to date", missing, keys)
		}
		batch, err := f.out.take()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range batch {
			have[r.key] = string(r.data)
		}
		missing = 0
		for i := writes - keys; i < writes; i++ {
			if have[strconv.Itoa(i%keys)] != strconv.Itoa(i) {
				missing++
			}
		}
	}
	dropped, err := f.sub.Dropped()
	if err != nil || dropped == 0 {
		t.Errorf("dropped %d, %v: the test shows nothing", dropped, err)
	}
	t.Logf("right with %d of %d messages dropped", dropped, writes)
}
