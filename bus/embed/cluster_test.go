package embed_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus/embed"
)

// TestCluster starts three one after another, the first without anybody to join, as
// three commands in three terminals do.
func TestCluster(t *testing.T) {
	t.Parallel()
	var servers []*embed.Server
	var cfgs []embed.Config
	for range 3 {
		cfg := embed.Config{Dir: t.TempDir(), Listen: ":0", Cluster: "c", ClusterListen: ":0"}
		for _, s := range servers {
			cfg.Routes = append(cfg.Routes, s.ClusterURL())
		}
		s := start(t, cfg)
		cfg.ClusterListen = s.ClusterURL()[len("nats://"):]
		servers, cfgs = append(servers, s), append(cfgs, cfg)
		if len(servers) == 1 && s.Ready() == nil {
			t.Error("one of three is ready")
		}
	}
	waitReady(t, servers)

	nc := connect(t, servers[0])
	put(t, nc, "k", "v1")

	// One leaves and comes back: the others go on without it.
	closeServer(t, servers[2])
	put(t, nc, "k", "v2")
	servers[2] = start(t, cfgs[2])
	waitReady(t, servers)
	put(t, connect(t, servers[2]), "k", "v3")
}

// TestNameInUse starts a server under the name of a member: it would vote in that one's place.
func TestNameInUse(t *testing.T) {
	t.Parallel()
	first := start(t, embed.Config{Name: "a", Dir: t.TempDir(), Listen: ":0", Cluster: "c", ClusterListen: ":0"})
	cfg := embed.Config{Name: "a", Dir: t.TempDir(), Listen: ":0", Cluster: "c", ClusterListen: ":0", Routes: []string{first.ClusterURL()}}
	s, err := embed.Start(t.Context(), cfg)
	if !errors.Is(err, embed.ErrNameInUse) {
		if err == nil {
			closeServer(t, s)
		}
		t.Fatalf("a second server %q: %v, want %v", cfg.Name, err, embed.ErrNameInUse)
	}
	closeServer(t, first)
	// Its directory is free again, and so is the name.
	start(t, cfg)
}

// put writes into a bucket of three replicas, again until the cluster takes it.
func put(t *testing.T, nc *nats.Conn, key, value string) {
	t.Helper()
	js := newJetStream(t, nc)
	eventually(t, func() error {
		kv, err := js.KeyValue(t.Context(), "b")
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			kv, err = js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b", Replicas: 3})
		}
		if err == nil {
			_, err = kv.PutString(t.Context(), key, value)
		}
		return err
	})
}

func waitReady(t *testing.T, servers []*embed.Server) {
	t.Helper()
	for _, s := range servers {
		eventually(t, s.Ready)
	}
}

func eventually(t *testing.T, f func() error) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s in vain: %v", err)
		}
	}
}
