//go:build unix

package integration_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/registry"
	"github.com/skybus-io/skybus/micro/route"
)

// cluster is three `skybus server` by the names they have.
type cluster map[string]*platform

func startCluster(t *testing.T) cluster {
	t.Helper()
	c := cluster{}
	args := []string{"--cluster", "c", "--cluster-listen", "127.0.0.1:0"}
	first := startServer(t, append(args, "--name", "s1")...)
	c["s1"] = first
	for _, name := range []string{"s2", "s3"} {
		c[name] = startServer(t, append(args, "--name", name, "--routes", first.Ports["cluster"])...)
	}
	return c
}

func (c cluster) urls() string {
	var urls []string
	for _, p := range c {
		urls = append(urls, p.Ports["nats"])
	}
	return strings.Join(urls, ",")
}

// named is the name of the server at url.
func (c cluster) named(url string) string {
	for name, p := range c {
		if p.Ports["nats"] == url {
			return name
		}
	}
	return ""
}

// TestClusterLosesServer runs the demo on three servers and kills the one that matters most: the leader of the queue of
// asynchronous steps, to which the platform is connected too. Requests go on within a bounded time, and the server comes
// back.
func TestClusterLosesServer(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	c := startCluster(t)
	up := startUp(t, "--demo", "--server", c.urls())
	victim := c.named(up.Ports["nats"])
	if victim == "" {
		t.Fatalf("up is connected to %q, which is none of %s", up.Ports["nats"], c.urls())
	}
	conn := connect(t, c.urls())
	for _, stream := range []string{"KV_" + registry.InstancesBucket, "KV_" + route.Bucket, route.AsyncStream} {
		if peers := awaitPeers(t, conn, stream); len(peers) != 3 {
			t.Fatalf("stream %s is on %q, want three servers", stream, peers)
		}
	}
	lead(t, conn, route.AsyncStream, victim)
	l := startLoad(t, 8, callWidgets(t, up.Ports["http"]))
	l.await(200)

	killed := time.Now()
	c[victim].Kill()
	eventually(t, patience, "up is connected to another server", func() bool { return reconnects(t, up) > 0 })
	moved := time.Since(killed)
	elected := awaitLeader(t, conn, route.AsyncStream, victim)
	limit := elected.Sub(killed) + 5*time.Second
	eventually(t, patience, "requests succeed again", func() bool {
		return l.successesSince(killed.Add(time.Second)) > 200
	})
	enough := time.Now()
	all := l.end()
	gap := all.gap(killed, enough)
	t.Logf("%s killed: up moved after %v, another led after %v; %v; longest gap %v, slowest %v",
		victim, moved, elected.Sub(killed), all, gap, all.slowest().took())
	if gap > limit {
		t.Errorf("%v without an answer after the kill, want at most %v", gap, limit)
	}
	// In flight at the kill, or longer without a leader than a request may take.
	if failed := all.failed(); slices.ContainsFunc(failed, func(o outcome) bool {
		return o.begin.After(killed) && (o.begin.After(elected) || o.took() < 9*time.Second)
	}) {
		t.Errorf("others failed than the %d in flight at the kill: %v", len(all.flying(killed)), failed)
	}

	c[victim].Restart()
	for _, stream := range []string{"KV_" + registry.InstancesBucket, "KV_" + route.Bucket, route.AsyncStream} {
		awaitPeers(t, conn, stream)
	}
	if got := trail(t, up.Ports["http"]); !slices.Equal(got, []string{"authorize.check", "getwidgets.get"}) {
		t.Errorf("the steps are %q", got)
	}
}

// awaitPeers waits until all servers that hold a stream are there and up to date, and returns their names.
func awaitPeers(t *testing.T, conn *bus.Conn, stream string) []string {
	t.Helper()
	var peers []string
	eventually(t, elections, stream+" has a leader and two followers that are up to date", func() bool {
		info := clusterInfo(t, conn, stream)
		if info == nil || info.Leader == "" || len(info.Replicas) != 2 {
			return false
		}
		peers = []string{info.Leader}
		for _, r := range info.Replicas {
			if !r.Current || r.Offline {
				return false
			}
			peers = append(peers, r.Name)
		}
		return true
	})
	return peers
}

// elections is how long a cluster may be without a leader: an election takes 4 to 9 s, and as much again each time that the
// votes are split, as they are when the machine is busy.
const elections = time.Minute

// awaitLeader waits until another server than the one that was killed leads a stream, and returns when that was.
func awaitLeader(t *testing.T, conn *bus.Conn, stream, killed string) time.Time {
	t.Helper()
	eventually(t, elections, stream+" has another leader than "+killed, func() bool {
		info := clusterInfo(t, conn, stream)
		return info != nil && info.Leader != "" && info.Leader != killed
	})
	return time.Now()
}

// lead makes a server the leader of a stream.
func lead(t *testing.T, conn *bus.Conn, stream, server string) {
	t.Helper()
	request, err := json.Marshal(map[string]any{"placement": map[string]any{"preferred": server}})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, elections, server+" leads "+stream, func() bool {
		info := clusterInfo(t, conn, stream)
		if info == nil || info.Leader == server {
			return info != nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := conn.NATS().RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+stream, request)
		if err != nil {
			t.Logf("step down: %v", err)
		}
		return false
	})
}

// clusterInfo is the leader's word about who holds a stream, nil when there is none now.
func clusterInfo(t *testing.T, conn *bus.Conn, stream string) *jetstream.ClusterInfo {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	s, err := conn.JetStream().Stream(ctx, stream)
	if err != nil {
		return nil
	}
	return s.CachedInfo().Cluster
}

// reconnects is how often the connection of a platform was made again.
func reconnects(t *testing.T, p *platform) int {
	t.Helper()
	var vars struct{ Skybus struct{ Reconnects int } }
	a := newBrowser(t).get(t, p.Ports["admin"]+"/debug/vars")
	if err := json.Unmarshal([]byte(a.body), &vars); err != nil || a.status != http.StatusOK {
		t.Fatalf("/debug/vars answers %d (%v): %s", a.status, err, a.body)
	}
	return vars.Skybus.Reconnects
}
