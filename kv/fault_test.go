package kv_test

import (
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
	leader := -1
	table := open(t, connectWith(t, bus.Config{Server: cluster.URL()}), kv.Config{})
	leader = cluster.Leader(t, "KV_widgets")
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
	t.Parallel()
	server := bustest.Server(t)
	conn := connect(t, server)
	table := open(t, conn, kv.Config{})
	for range 10 {
		put(t, table, "a", 1)
	}
	put(t, table, "b", 1)
	c := copyOf(t, table, ">")
	cfg := streamOf(t, conn).CachedInfo().Config
	if err := conn.JetStream().DeleteStream(t.Context(), cfg.Name); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.JetStream().CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	put(t, table, "a", 2)
	began := time.Now()
	until(t, c, "the new bucket", func(m map[string]kv.Entry[widget]) bool { return len(m) == 1 && hasSize("a", 2)(m) })
	checkPromise(t, "bucket deleted", time.Since(began))
}

func streamOf(t *testing.T, c *bus.Conn) jetstream.Stream {
	t.Helper()
	s, err := c.JetStream().Stream(t.Context(), "KV_widgets")
	if err != nil {
		t.Fatal(err)
	}
	return s
}
