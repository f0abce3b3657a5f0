package registry_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/registry"
)

// watchLost watches all instances; what it returns ends that, and is who was shown as offline or gone.
func watchLost(t *testing.T, r *registry.Registry) (end func() []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var lost []string
	var watching sync.WaitGroup
	watching.Go(func() {
		for change := range r.Watch(ctx, registry.Criteria{}) {
			if i := change.Instance; change.Kind == registry.Removed || i.State == registry.Offline {
				lost = append(lost, fmt.Sprintf("%s %s %s", change.Kind, i.Instance, i.State))
			}
		}
	})
	end = func() []string {
		cancel()
		watching.Wait()
		return lost
	}
	t.Cleanup(func() { end() })
	return end
}

// A sign of life with a TTL of ten seconds; what happens so many seconds after it; and when the instance is offline, give or take
// what the server takes.
func TestDoubt(t *testing.T) {
	elected := func(bucket string) string { return "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.KV_" + bucket }
	const beat = "beat"
	for _, c := range []struct {
		what    string
		events  map[int]string
		offline time.Duration
	}{
		{"dies", nil, 10 * time.Second},
		{"dies, an election is long over", map[int]string{3: elected(registry.LivenessBucket)}, 10 * time.Second},
		{"dies in an election", map[int]string{9: elected(registry.LivenessBucket)}, 14 * time.Second},
		{"dies in an election of the records' leader", map[int]string{9: elected(registry.InstancesBucket)}, 14 * time.Second},
		{"dies in an election of something else", map[int]string{9: elected("skybus_routes")}, 10 * time.Second},
		{"dies in one election after the other", map[int]string{9: elected(registry.LivenessBucket), 13: elected(registry.InstancesBucket)}, 18 * time.Second},
		{"lives", map[int]string{9: elected(registry.LivenessBucket), 13: beat}, 23 * time.Second},
	} {
		t.Run(c.what, func(t *testing.T) {
			bustest.Bubble(t, func(t *testing.T) {
				s := bustest.Server(t)
				conn := connect(t, s)
				r := open(t, conn, nil)
				records, liveness := tables(t, conn)
				if err := write(t.Context(), records, liveness, "shop", "a"); err != nil {
					t.Fatal(err)
				}
				live := func() {
					if _, err := liveness.Put(t.Context(), "default.dev.shop.a", registry.Load{}, kv.TTL(10*time.Second)); err != nil {
						t.Fatal(err)
					}
				}
				live()
				begin := time.Now()
				becomes(t, r, "shop", "a", registry.Online)
				for second := range 20 {
					switch e := c.events[second]; e {
					case "":
					case beat:
						live()
					default:
						if err := conn.NATS().Publish(e, nil); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(time.Until(begin.Add(time.Duration(second+1) * time.Second)))
					want := registry.Online
					switch now := time.Since(begin); {
					case now > c.offline+time.Second:
						want = registry.Offline
					case now >= c.offline:
						continue
					}
					if got := state(r, "shop", "a"); got != want {
						t.Errorf("after %v it is %s, want %s", time.Since(begin), got, want)
					}
				}
			})
		})
	}
}

// The bucket of signs of life has no leader for longer than the TTL, so that all are gone when it has one again: nobody who
// lives is shown as offline, and who died is.
func TestElectionSparesTheLiving(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	t.Parallel()
	g := bustest.Cluster(t, 3)
	open(t, join(t, g), nil) // creates the buckets
	survivor := g.Node(holdAlone(t, g, registry.InstancesBucket))
	// All are connected to the server that stays: it is the election alone that they know of.
	r := open(t, connect(t, survivor), nil)
	cfg := registry.AnnounceConfig{Heartbeat: 500 * time.Millisecond, TTL: 2 * time.Second}
	for n := range 6 {
		id := fmt.Sprint("lives", n)
		announce(t, connect(t, survivor), record("shop", id), cfg)
		becomes(t, r, "shop", id, registry.Online)
	}
	mortal := connect(t, survivor)
	announce(t, mortal, record("shop", "dies"), cfg)
	becomes(t, r, "shop", "dies", registry.Online)
	g.WaitReady(t)
	end := watchLost(t, r)

	var stopped []*bustest.Node
	for i := range 3 {
		if n := g.Node(i); n != survivor {
			n.Stop()
			stopped = append(stopped, n)
		}
	}
	stepDown(t, survivor, registry.LivenessBucket)
	mortal.NATS().Close()
	<-time.After(cfg.TTL + cfg.TTL/2)
	for _, n := range stopped {
		n.Start(t)
	}
	begin := time.Now()
	g.Leader(t, "KV_"+registry.LivenessBucket)
	t.Logf("a leader after %v", time.Since(begin))
	becomes(t, r, "shop", "dies", registry.Offline)
	t.Logf("the dead is offline after %v", time.Since(begin))
	if lost := end(); len(lost) != 1 || lost[0] != "changed dies offline" {
		t.Errorf("shown as gone: %q", lost)
	}
}

// Where both buckets were without leaders for less than the TTL, signs of life go on as soon as theirs has one, whenever that of
// the records has: an instance that can be heard stays online.
func TestHeartbeatNeedsNoRecords(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	t.Parallel()
	g := bustest.Cluster(t, 3)
	conn := join(t, g)
	r := open(t, conn, nil)
	alone := holdAlone(t, g, registry.InstancesBucket)
	survivor, other := g.Node((alone+1)%3), g.Node((alone+2)%3)
	const ttl = time.Minute
	announce(t, connect(t, survivor), record("shop", "a"), registry.AnnounceConfig{Heartbeat: 300 * time.Millisecond, TTL: ttl})
	becomes(t, r, "shop", "a", registry.Online)
	g.WaitReady(t)
	_, liveness := tables(t, conn)

	g.Node(alone).Stop()
	other.Stop()
	stepDown(t, survivor, registry.LivenessBucket)
	<-time.After(time.Second) // beats fail
	other.Start(t)
	began := time.Now()
	g.Leader(t, "KV_"+registry.LivenessBucket)
	t.Logf("a leader after %v", time.Since(began))
	const key = "default.dev.shop.a"
	first, err := liveness.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first may have been on its way
		bustest.Eventually(t, "a sign of life", func() bool {
			e, err := liveness.Get(t.Context(), key)
			beaten := err == nil && e.Revision > first.Revision
			if beaten {
				first = e
			}
			return beaten
		})
	}
	t.Logf("beats %v after the servers began to come back", time.Since(began))
	g.Node(alone).Start(t)
}

// holdAlone leaves a bucket to one server, and returns the index of that.
func holdAlone(t *testing.T, g *bustest.Group, bucket string) int {
	t.Helper()
	js := join(t, g).JetStream()
	stream, err := js.Stream(t.Context(), "KV_"+bucket)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.Replicas = 1
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "the bucket on one server", func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.Cluster != nil && info.Cluster.Leader != "" && len(info.Cluster.Replicas) == 0
	})
	return g.Leader(t, "KV_"+bucket)
}

// stepDown makes a server that has no majority any more leave it at once to lead a bucket: by itself it does so later.
func stepDown(t *testing.T, n *bustest.Node, bucket string) {
	t.Helper()
	nc := n.Connect(t)
	bustest.Eventually(t, "no leader of "+bucket, func() bool {
		if !n.Server().JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, "KV_"+bucket) {
			return true
		}
		_, err := nc.Request("$JS.API.STREAM.LEADER.STEPDOWN.KV_"+bucket, nil, time.Second)
		if err != nil {
			t.Logf("step down: %v", err)
		}
		return false
	})
}
