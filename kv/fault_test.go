package kv_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
)

// The promise of the package: a copy is right again within a second after JetStream answers.
const promise = time.Second

func checkPromise(t *testing.T, what string, took time.Duration) {
	t.Helper()
	t.Logf("%s: right again after %v", what, took)
	if took > promise {
		t.Errorf("%s: took %v, want at most %v", what, took, promise)
	}
}

func TestCopyAfterRestart(t *testing.T) {
	t.Parallel()
	server := bustest.Server(t)
	table := open(t, connect(t, server), kv.Config{})
	for _, key := range []string{"kept", "changed", "deleted"} {
		put(t, table, key, 1)
	}
	c := copyOf(t, table, ">")

	// What happens while the copy is cut off, somebody else does.
	server.Stop()
	server.Start(t)
	began := time.Now()
	other := open(t, connect(t, server), kv.Config{})
	put(t, other, "changed", 2)
	put(t, other, "new", 2)
	if err := other.Delete(t.Context(), "deleted"); err != nil {
		t.Fatal(err)
	}
	until(t, c, "the state after the restart", func(m map[string]kv.Entry[widget]) bool {
		return len(m) == 3 && hasSize("kept", 1)(m) && hasSize("changed", 2)(m) && hasSize("new", 2)(m)
	})
	checkPromise(t, "restart", time.Since(began))
}

// Cut off for so long that deletions have gone away, and nothing is written afterwards that would show it.
func TestCopyAfterReconnect(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		server := bustest.Server(t)
		gate := &gate{server: server}
		table := open(t, connect(t, server), kv.Config{})
		for _, key := range []string{"a.kept", "a.changed", "a.deleted", "a.expired"} {
			put(t, table, key, 1)
		}
		if _, err := table.Put(t.Context(), "a.expired", widget{}, kv.TTL(time.Minute)); err != nil {
			t.Fatal(err)
		}
		reader := open(t, connectWith(t, bus.Config{InProcess: gate}), kv.Config{Check: 24 * time.Hour})
		copies := []*kv.Copy[widget]{copyOf(t, reader, ">"), copyOf(t, reader, "a.*")}
		time.Sleep(30 * time.Second) // what follows a load is over

		gate.cut()
		put(t, table, "a.changed", 2)
		if err := table.Delete(t.Context(), "a.deleted"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		gate.open()
		began := time.Now()
		for _, c := range copies {
			until(t, c, "the state after the reconnect", func(m map[string]kv.Entry[widget]) bool {
				return len(m) == 2 && hasSize("a.kept", 1)(m) && hasSize("a.changed", 2)(m)
			})
		}
		checkPromise(t, "reconnect", time.Since(began))
	})
}

func TestCopyAfterBucketVanished(t *testing.T) {
	t.Parallel()
	server := bustest.Server(t, bustest.Memory())
	conn := connect(t, server)
	table := open(t, conn, kv.Config{})
	put(t, table, "a", 1)
	put(t, table, "b", 1)
	c := copyOf(t, table, ">")
	part := copyOf(t, table, "a")

	server.Restart(t)
	began := time.Now()
	empty := func(m map[string]kv.Entry[widget]) bool { return len(m) == 0 }
	until(t, c, "no keys", empty)
	until(t, part, "no keys of the pattern", empty)
	bustest.Eventually(t, "the bucket to be there again", func() bool {
		_, err := conn.JetStream().Stream(t.Context(), "KV_widgets")
		return err == nil
	})
	checkPromise(t, "vanished bucket", time.Since(began))

	began = time.Now()
	if rev := put(t, table, "a", 2); rev != 1 {
		t.Errorf("revision %d in a new bucket, want 1", rev)
	}
	until(t, c, "a", hasSize("a", 2))
	until(t, part, "a", hasSize("a", 2))
	checkPromise(t, "write after that", time.Since(began))
}

func TestCopyAfterLeaderLost(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a cluster")
	}
	t.Parallel()
	cluster := bustest.Cluster(t, 3)
	// Written by whoever leads, read by somebody whose own connection stays up.
	table := open(t, connectWith(t, bus.Config{Server: cluster.URL()}), kv.Config{})
	leader := cluster.Leader(t, "KV_widgets")
	reader := cluster.Node((leader + 1) % 3)
	conn := connectWith(t, bus.Config{Server: reader.URL()})
	readTable := open(t, conn, kv.Config{})
	put(t, table, "a", 1)
	c, part := copyOf(t, readTable, ">"), copyOf(t, readTable, "a")

	cluster.Node(leader).Stop()
	put(t, table, "a", 2) // waits for the new leader
	began := time.Now()
	until(t, c, "a", hasSize("a", 2))
	until(t, part, "a", hasSize("a", 2))
	checkPromise(t, "leader lost", time.Since(began))
	if n := conn.NATS().Stats().Reconnects; n != 0 {
		t.Errorf("the reader's connection was lost %d times", n)
	}
}

// A stream that is deleted and created again while all connections stay up.
func TestCopyAfterBucketDeleted(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		conn := connect(t, bustest.Server(t))
		table := open(t, conn, kv.Config{Check: 24 * time.Hour})
		put(t, table, "b", 1)
		early := copyOf(t, table, ">")
		for range 10 {
			put(t, table, "a", 1)
		}
		until(t, early, "a", hasSize("a", 1))
		copies := []*kv.Copy[widget]{early, copyOf(t, table, ">"), copyOf(t, table, "*")}
		time.Sleep(30 * time.Second) // what follows a load is over

		cfg := streamOf(t, conn).CachedInfo().Config
		if err := conn.JetStream().DeleteStream(t.Context(), cfg.Name); err != nil {
			t.Fatal(err)
		}
		recreate(t, conn, cfg)
		put(t, table, "a", 2)
		began := time.Now()
		for _, c := range copies {
			until(t, c, "the new bucket", func(m map[string]kv.Entry[widget]) bool { return len(m) == 1 && hasSize("a", 2)(m) })
		}
		checkPromise(t, "bucket deleted", time.Since(began))
	})
}

const storeFailed jetstream.ErrorCode = 10049 // the server still removes the files of the stream before

// recreate makes a stream that was just deleted.
func recreate(t *testing.T, c *bus.Conn, cfg jetstream.StreamConfig) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // fake time: the server's goroutines get their turn
		_, err := c.JetStream().CreateStream(t.Context(), cfg)
		if err == nil {
			return
		}
		if api, ok := errors.AsType[*jetstream.APIError](err); !ok || api.ErrorCode != storeFailed || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func streamOf(t *testing.T, c *bus.Conn) jetstream.Stream {
	t.Helper()
	s, err := c.JetStream().Stream(t.Context(), "KV_widgets")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Writers count up by compare-and-set while the server restarts: every success is one step, nothing is stored twice, and
// what may have been stored without an answer says so.
func TestUpdateIsCertain(t *testing.T) {
	t.Parallel()
	for _, history := range []int{1, 64} {
		t.Run(fmt.Sprintf("history %d", history), func(t *testing.T) {
			t.Parallel()
			server := bustest.Server(t)
			table := open(t, connect(t, server), kv.Config{History: history})
			put(t, table, "a", 0)
			const writers, steps = 4, 150
			var uncertain, stepped atomic.Int64
			var wg sync.WaitGroup
			for range writers {
				own := open(t, connect(t, server), kv.Config{})
				wg.Go(func() {
					for range steps {
						u, err := step(t.Context(), own)
						if uncertain.Add(u); err != nil {
							t.Error(err)
							return
						}
						stepped.Add(1)
					}
				})
			}
			done := make(chan struct{})
			go func() {
				wg.Wait()
				close(done)
			}()
			restarts := restartUntil(t, server, done, &stepped)
			e, err := table.Get(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("counted %d, uncertain %d, %d restarts, revision %d", e.Value.Size, uncertain.Load(), restarts, e.Revision)
			if e.Value.Size < writers*steps || e.Value.Size > writers*steps+int(uncertain.Load()) {
				t.Errorf("counted %d, want %d and up to %d more", e.Value.Size, writers*steps, uncertain.Load())
			}
			if restarts == 0 {
				t.Error("no restart: the test shows nothing")
			}
		})
	}
}

// restartUntil restarts the server whenever there were some more steps.
func restartUntil(t *testing.T, server *bustest.Node, done <-chan struct{}, steps *atomic.Int64) (restarts int) {
	t.Helper()
	before := int64(0)
	for {
		select {
		case <-done:
			return restarts
		case <-time.After(50 * time.Millisecond):
		}
		if n := steps.Load(); n >= before+20 {
			before = n
			server.Restart(t)
			restarts++
		}
	}
}

func step(ctx context.Context, table *kv.Table[widget]) (uncertain int64, err error) {
	for {
		e, err := table.Get(ctx, "a")
		if err != nil {
			return uncertain, err
		}
		_, err = table.Update(ctx, "a", widget{"a", e.Value.Size + 1}, e.Revision)
		if errors.Is(err, kv.ErrUncertain) {
			uncertain++
		}
		if !errors.Is(err, kv.ErrConflict) {
			return uncertain, err
		}
	}
}
