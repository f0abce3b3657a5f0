//go:build unix

package integration_test

import (
	"syscall"
	"testing"
	"time"
)

// TestMirrorServerKilled kills the server and stops it, by turns, while clients write.
func TestMirrorServerKilled(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startServer(t)
	r := newMirrorRig(t, server.Ports["nats"], 3, 2)
	rounds := 2
	if long() {
		rounds = 10
	}
	w := startWriters(t, r.urls(), 16, 0) // so that some are stored and not yet acknowledged
	for i := range rounds {
		w.await(500)
		broken := time.Now()
		if i%2 == 0 {
			server.Kill()
		} else {
			server.Stop(syscall.SIGTERM)
		}
		server = server.Restart()
		w.await(200)
		l := latenciesOf(w.snapshot(), broken, time.Now())
		t.Logf("the server was away: clients %v", l)
	}
	r.settle(w, nil)
}

// TestMirrorServerFrozen stops the server for so long that what was published is published once more: it has both when it goes on.
func TestMirrorServerFrozen(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startMirrorServer(t)
	r := newMirrorRig(t, server.Ports["nats"], 3, 2)
	w := startWriters(t, r.urls(), 16, 0)
	for range 2 {
		w.await(500)
		server.Freeze()
		time.Sleep(3 * time.Second) // that is how long it stands still
		server.Thaw()
	}
	w.await(500)
	r.settle(w, nil)
}

// TestMirrorClusterLosesLeader kills the server that leads the stream of writes, and in the long form the one that leads that of the progress, on a cluster of three.
func TestMirrorClusterLosesLeader(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	c := startCluster(t)
	r := newMirrorRig(t, c.urls(), 3, 2)
	w := startWriters(t, r.urls(), 8, 200)
	for _, stream := range []string{"SKYBUS_MIR", "SKYBUS_MIRW"} {
		if peers := awaitPeers(t, r.conn, stream); len(peers) != 3 {
			t.Fatalf("stream %s is on %q, want three servers", stream, peers)
		}
	}
	streams := []string{"SKYBUS_MIR"}
	if long() {
		streams = append(streams, "SKYBUS_MIRW")
	}
	for _, stream := range streams {
		w.await(200)
		victim := clusterInfo(t, r.conn, stream).Leader
		broken := time.Now()
		c[victim].Kill()
		w.await(200)
		l := latenciesOf(w.snapshot(), broken, time.Now())
		t.Logf("%s, which led %s, was killed: clients %v", victim, stream, l)
		c[victim] = c[victim].Restart()
		awaitPeers(t, r.conn, "SKYBUS_MIR")
		awaitPeers(t, r.conn, "SKYBUS_MIRW")
	}
	r.settle(w, nil)
}
