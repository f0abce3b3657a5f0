package bus_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// Programs that start at the same time open the same streams on a new cluster, by whichever server, and all of them get it.
func TestOpenStreamAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	t.Parallel()
	g := bustest.Cluster(t, 3)
	var conns []*bus.Conn
	for i := range 3 {
		conn, err := bus.Connect(t.Context(), bus.Config{InProcess: g.Node(i)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		conns = append(conns, conn)
	}
	for round := range 4 {
		var wg sync.WaitGroup
		for i, conn := range append(conns, conns...) {
			wg.Go(func() {
				name := fmt.Sprintf("S%d", round)
				if _, err := conn.OpenStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name}, MaxBytes: int64(1+i) << 20}); err != nil {
					t.Errorf("%d: %v", i, err)
				}
			})
		}
		wg.Wait()
	}
}
