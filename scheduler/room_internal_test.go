package scheduler

import (
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// The size of a store is that of one server, while what is used is told for all of them: each byte of a timer counts as often as there are replicas.
func TestRoomOnCluster(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	const size, large, n = 10 << 20, 500 << 10, 8 // more than a third of the store
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Cluster(t, 3).Node(0), Store: size})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, conn)
	s, err := Open(t.Context(), conn, Config{Shards: 1, AllowNetworks: loopback()})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, s)
	for range n {
		if _, err := s.Create(t.Context(), Spec{After: time.Hour, Target: Target{URI: "http://127.0.0.1:9999/"}, Payload: make([]byte, large)}); err != nil {
			t.Fatal(err)
		}
	}
	poll(t, "the servers tell each other what is used", func() bool {
		info, err := conn.JetStream().AccountInfo(t.Context())
		return err == nil && info.Store > 3*n*large
	})
	s.room.look(t.Context())
	if left := s.room.left.Load(); left < size*9/10-n*large*11/10 || left > size*9/10-n*large {
		t.Errorf("%d are left of nine tenths of %d, where %d were stored", left, size, n*large)
	}
}
