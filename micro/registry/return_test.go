package registry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/registry"
)

// resting announces an instance that was unregistered while it ran, and has an attribute.
func resting(t *testing.T, conn *bus.Conn, r *registry.Registry, cfg registry.AnnounceConfig) *announcement {
	t.Helper()
	a := newAnnouncer(t, conn, record("shop", "rests"), cfg)
	if err := a.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	running := run(t, a)
	becomes(t, r, "shop", "rests", registry.Online)
	if err := a.Update(t.Context(), setRegistered(false)); err != nil {
		t.Fatal(err)
	}
	if err := a.Update(t.Context(), setAttributes("n", `1`)); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "the instance to rest", func() bool { return rests(r) })
	return running
}

func rests(r *registry.Registry) bool {
	i := find(r, "shop", "rests")
	return i != nil && i.State == registry.Unregistered && string(i.Attributes["n"]) == `1`
}

// Whatever is lost, instances come back by themselves as they were last.
func TestReturn(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct {
		opts []bustest.Option
		do   func(t *testing.T, s *bustest.Node, conn *bus.Conn)
	}{
		"server in memory restarts": {[]bustest.Option{bustest.Memory()}, func(t *testing.T, s *bustest.Node, _ *bus.Conn) {
			t.Helper()
			s.Restart(t)
		}},
		"buckets are deleted": {nil, func(t *testing.T, _ *bustest.Node, conn *bus.Conn) {
			t.Helper()
			for _, bucket := range []string{registry.InstancesBucket, registry.LivenessBucket} {
				if err := conn.JetStream().DeleteKeyValue(t.Context(), bucket); err != nil {
					t.Error(err)
				}
			}
		}},
		"server is away for longer than the TTL": {nil, func(t *testing.T, s *bustest.Node, _ *bus.Conn) {
			t.Helper()
			s.Stop()
			<-time.After(quickTTL + quickTTL/2)
			s.Start(t)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := bustest.Server(t, fault.opts...)
			conn := connect(t, s)
			r := open(t, conn, nil)
			a := resting(t, connect(t, s), r, registry.AnnounceConfig{Heartbeat: quickHeartbeat, TTL: quickTTL})
			announce(t, connect(t, s), record("shop", "works"), registry.AnnounceConfig{Heartbeat: quickHeartbeat, TTL: quickTTL})
			becomes(t, r, "shop", "works", registry.Online)
			fault.do(t, s, conn)
			begin := time.Now()
			records, liveness := tables(t, conn)
			for _, id := range []string{"rests", "works"} {
				bustest.Eventually(t, "the keys of "+id, func() bool {
					_, rerr := records.Get(t.Context(), "default.dev.shop."+id)
					_, lerr := liveness.Get(t.Context(), "default.dev.shop."+id)
					return rerr == nil && lerr == nil
				})
			}
			bustest.Eventually(t, "both", func() bool { return rests(r) && state(r, "shop", "works") == registry.Online })
			t.Logf("as before after %v", time.Since(begin))
			// What others can do with them goes on.
			if err := a.Update(t.Context(), setRegistered(true)); err != nil {
				t.Fatal(err)
			}
			becomes(t, r, "shop", "rests", registry.Online)
			if err := a.stop(); err != nil {
				t.Fatal(err)
			}
			becomes(t, r, "shop", "rests", "")
		})
	}
}

// The servers are away for longer than the TTL of ten seconds: nobody is forgotten meanwhile, everybody is back a moment
// after, and who died meanwhile is found to be offline.
func TestPartition(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		s := bustest.Server(t)
		conn := connect(t, s)
		r := open(t, conn, nil)
		resting(t, connect(t, s), r, registry.AnnounceConfig{})
		announce(t, conn, record("shop", "works"), registry.AnnounceConfig{})
		mortal := connect(t, s)
		dies := announce(t, mortal, record("shop", "dies"), registry.AnnounceConfig{})
		becomes(t, r, "shop", "works", registry.Online)
		becomes(t, r, "shop", "dies", registry.Online)
		var removed reaped
		reap(t, conn, r, registry.ReaperConfig{Reaped: removed.add})

		s.Stop()
		mortal.NATS().Close()
		time.Sleep(12 * time.Second)
		if !rests(r) || state(r, "shop", "works") != registry.Online {
			t.Error("who cannot be asked is forgotten")
		}
		end := watchLost(t, r)
		s.Start(t)
		begin := time.Now()
		becomes(t, r, "shop", "dies", registry.Offline)
		bustest.Eventually(t, "the others", func() bool { return rests(r) && state(r, "shop", "works") == registry.Online })
		t.Logf("right again after %v", time.Since(begin))
		if took := time.Since(begin); took > 7*time.Second { // 5 s of them for whoever is slow to come back
			t.Errorf("it took %v", took)
		}
		if lost := end(); len(lost) != 1 || lost[0] != "changed dies offline" {
			t.Errorf("shown as gone: %q", lost)
		}
		time.Sleep(2 * time.Minute)
		if !rests(r) || state(r, "shop", "works") != registry.Online || state(r, "shop", "dies") != "" || removed.count() != 1 {
			t.Errorf("two minutes later: %q, %q, %q; %d removed", state(r, "shop", "rests"), state(r, "shop", "works"), state(r, "shop", "dies"), removed.count())
		}
		_ = dies.stop() // cannot withdraw
	})
}

// join connects to a cluster.
func join(t *testing.T, g *bustest.Group) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{Server: g.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return conn
}

// In a cluster that loses the server that leads a bucket, and with it a part of the connections.
func TestLeaderLoss(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	t.Parallel()
	g := bustest.Cluster(t, 3)
	r := open(t, join(t, g), nil)
	cfg := registry.AnnounceConfig{Heartbeat: 500 * time.Millisecond, TTL: 2 * time.Second, AnswerPing: true}
	a := resting(t, join(t, g), r, cfg)
	announce(t, join(t, g), record("shop", "works"), cfg)
	becomes(t, r, "shop", "works", registry.Online)
	twin := newAnnouncer(t, join(t, g), record("shop", "works"), cfg)
	if err := twin.Claim(t.Context()); bus.CodeOf(err) != bus.AlreadyExists {
		t.Errorf("a second of the id: %v", err)
	}
	for _, bucket := range []string{registry.InstancesBucket, registry.LivenessBucket} {
		leader := g.Node(g.Leader(t, "KV_"+bucket))
		leader.Stop()
		begin := time.Now()
		if err := a.Update(t.Context(), setAttributes("n", `1`, "leader", `"of `+bucket+`"`)); err != nil {
			t.Fatal(err)
		}
		bustest.Eventually(t, "both", func() bool {
			return rests(r) && state(r, "shop", "works") == registry.Online && string(find(r, "shop", "rests").Attributes["leader"]) == `"of `+bucket+`"`
		})
		t.Logf("without the leader of %s: changed and seen after %v", bucket, time.Since(begin))
		leader.Start(t)
		g.WaitReady(t)
		bustest.Eventually(t, "both, later", func() bool { return rests(r) && state(r, "shop", "works") == registry.Online })
	}
	if err := twin.Claim(t.Context()); bus.CodeOf(err) != bus.AlreadyExists {
		t.Errorf("a second of the id, later: %v", err)
	}
}

// Two of three servers stop: what is known stays known, nobody new can come, and who wanted to is there when they are back.
func TestQuorumLoss(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	t.Parallel()
	g := bustest.Cluster(t, 3)
	r := open(t, join(t, g), nil)
	cfg := registry.AnnounceConfig{Heartbeat: 500 * time.Millisecond, TTL: 2 * time.Second, AnswerPing: true}
	a := resting(t, join(t, g), r, cfg)
	announce(t, join(t, g), record("shop", "works"), cfg)
	becomes(t, r, "shop", "works", registry.Online)
	late := join(t, g)
	g.Node(0).Stop()
	g.Node(1).Stop()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), cfg.TTL+cfg.TTL/2)
	defer cancel()
	if err := a.Update(ctx, setRegistered(true)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an update without a quorum: %v", err)
	}
	twin := newAnnouncer(t, late, record("shop", "works"), cfg)
	if err := twin.Claim(t.Context()); bus.CodeOf(err) != bus.AlreadyExists {
		t.Errorf("a second of an id, without a quorum: %v", err)
	}
	announce(t, late, record("shop", "late"), cfg)
	if !rests(r) || state(r, "shop", "works") != registry.Online || state(r, "shop", "late") != "" {
		t.Errorf("%v without a quorum: %q, %q, %q", time.Since(begin), state(r, "shop", "rests"), state(r, "shop", "works"), state(r, "shop", "late"))
	}
	g.Node(0).Start(t)
	g.Node(1).Start(t)
	back := time.Now()
	becomes(t, r, "shop", "late", registry.Online)
	bustest.Eventually(t, "the others", func() bool { return rests(r) && state(r, "shop", "works") == registry.Online })
	t.Logf("all there %v after the quorum began to come back", time.Since(back))
	g.WaitReady(t)
	if err := a.Update(t.Context(), setRegistered(true)); err != nil {
		t.Error(err)
	}
	becomes(t, r, "shop", "rests", registry.Online)
}
