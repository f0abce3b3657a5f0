package config_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/config"
)

// A hundred processes see a put.
func TestPropagation(t *testing.T) {
	t.Parallel()
	const watchers = 100
	server := bustest.Server(t)
	w := newWriter(t, connect(t, bus.Config{InProcess: server}))
	told := make([]<-chan int, watchers)
	for i := range told {
		v := open(t, connect(t, bus.Config{InProcess: server}), config.Config{})
		told[i] = watched(t, v, shop, "x", 0)
		bustest.Receive(t, "the default", told[i])
	}
	var worst time.Duration
	for round := 1; round <= 5; round++ {
		began := time.Now()
		w.put(shop, "x", fmt.Sprint(round))
		for _, c := range told {
			if got := bustest.Receive(t, "the change", c); got != round {
				t.Errorf("told %d, want %d", got, round)
			}
		}
		worst = max(worst, time.Since(began))
	}
	t.Logf("%d watchers have seen a put after at most %v of 5", watchers, worst)
	if worst > time.Second {
		t.Errorf("took %v", worst)
	}
}

// Reads go on while the server is away, and are right again within a second.
func TestRestart(t *testing.T) {
	t.Parallel()
	server := bustest.Server(t)
	w := newWriter(t, connect(t, bus.Config{InProcess: server}))
	w.put(shop, "kept", "1")
	w.put(shop, "changed", "1")
	w.put(shop, "removed", "1")
	v := open(t, connect(t, bus.Config{InProcess: server}), config.Config{})
	told := watched(t, v, shop, "changed", 0)
	bustest.Receive(t, "the value", told)
	server.Stop()
	if config.Get(v, shop, "kept", 0) != 1 || config.Get(v, shop, "changed", 0) != 1 {
		t.Error("forgotten without a server")
	}
	server.Start(t)
	w = newWriter(t, connect(t, bus.Config{InProcess: server}))
	began := time.Now()
	w.put(shop, "changed", "2")
	w.remove(shop, "removed")
	becomes(t, v, shop, "changed", 2)
	becomes(t, v, shop, "removed", 0)
	t.Logf("right again after %v", time.Since(began))
	if took := time.Since(began); took > 3*time.Second { // the machine may be busy
		t.Errorf("took %v", took)
	}
	if got := bustest.Receive(t, "the change", told); got != 2 {
		t.Errorf("told %d", got)
	}
	if config.Get(v, shop, "kept", 0) != 1 {
		t.Error("forgotten after a restart")
	}
}

// Without a quorum reads go on from the last known state.
func TestQuorumLost(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a cluster")
	}
	t.Parallel()
	cluster := bustest.Cluster(t, 3)
	conn := connect(t, bus.Config{Server: cluster.Node(0).URL()})
	w := newWriter(t, conn)
	w.put(shop, "x", "1")
	v := open(t, conn, config.Config{})
	cluster.Node(1).Stop()
	cluster.Node(2).Stop()
	for end := time.Now().Add(7 * time.Second); time.Now().Before(end); <-time.After(50 * time.Millisecond) { // a check of the feed is in it
		if config.Get(v, shop, "x", 0) != 1 {
			t.Fatal("forgotten without a quorum")
		}
	}
	cluster.Node(1).Start(t)
	cluster.Node(2).Start(t)
	w.put(shop, "x", "2") // waits for the quorum
	becomes(t, v, shop, "x", 2)
}

// Readers of everything beside a writer: each read is some value that was written.
func TestConcurrentReads(t *testing.T) {
	t.Parallel()
	v, w := start(t, config.Config{})
	w.put(shop, "x", "1")
	becomes(t, v, shop, "x", 1)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			last := 0
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				got := config.Get(v, version, "x", -1)
				if got < last {
					t.Errorf("%d after %d", got, last)
				}
				last = got
				config.Get(v, shop, fmt.Sprintf("other-%d-%d", i, n%2000), "") // more than are kept
			}
		})
	}
	for n := range 200 {
		w.put(shop, "x", fmt.Sprint(n+2))
	}
	becomes(t, v, shop, "x", 201)
	close(done)
	wg.Wait()
}
