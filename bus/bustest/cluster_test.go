package bustest_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus/bustest"
)

func TestCluster(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	c := bustest.Cluster(t, 3)
	t.Logf("cluster of 3 ready after %v", time.Since(begin))

	nc := c.Connect(t)
	js := newJetStream(t, nc)
	kv := newBucket(t, js, jetstream.KeyValueConfig{Bucket: "b", Replicas: 3})
	if _, err := kv.PutString(t.Context(), "k", "v1"); err != nil {
		t.Fatal(err)
	}
	urls := c.URL()

	old := c.Leader(t, "KV_b")
	c.Node(old).Stop()
	begin = time.Now()
	leader := c.Leader(t, "KV_b")
	t.Logf("new leader after %v", time.Since(begin))
	if leader == old {
		t.Errorf("node %d leads and is stopped", old)
	}
	c.WaitReady(t)
	eventually(t, func() bool { return nc.IsConnected() })
	if _, err := kv.PutString(t.Context(), "k", "v2"); err != nil {
		t.Fatal(err)
	}

	c.Node(old).Start(t)
	begin = time.Now()
	c.WaitReady(t)
	t.Logf("ready again after %v", time.Since(begin))
	if c.URL() != urls {
		t.Errorf("URLs after restart %q, before %q", c.URL(), urls)
	}
	// The restarted server has caught up: it may answer for the others.
	if !c.Node(old).Server().JetStreamIsStreamCurrent("$G", "KV_b") {
		t.Error("ready, but the restarted server is behind")
	}
}
