//go:build unix

package integration_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/election"
	"github.com/skybus-io/skybus/micro/registry"
	"github.com/skybus-io/skybus/micro/route"
)

// TestClusterLosesLeader kills the server that leads all there is: the registry, the routes and the leases. Calls and routes go
// on, the registry shows all who live and finds who comes, an election has its leader again, and never two.
func TestClusterLosesLeader(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	c := startCluster(t)
	urls := c.urls()
	for _, id := range []string{"a", "b"} {
		service{Server: urls, Name: "shop", Instance: id}.start(t)
	}
	conn := connect(t, urls)
	client := newClient(t, conn, micro.ClientConfig{})
	awaitState(t, client.Registry(), "shop", registry.Online, 2)
	seen := watchInstances(t, client.Registry(), "shop")
	putRoute(t, conn, "buy", chain("shop.safe", "shop.safe")...)
	runner, err := route.NewRunner(t.Context(), client, route.Config{})
	if err != nil {
		t.Fatal(err)
	}
	throne := startElection(t, urls, "shop", 3)
	buckets := []string{"KV_" + registry.InstancesBucket, "KV_" + registry.LivenessBucket, "KV_" + route.Bucket, "KV_skybus_leases"}
	const victim = "s1"
	for _, stream := range buckets {
		if peers := awaitPeers(t, conn, stream); len(peers) != 3 {
			t.Fatalf("stream %s is on %q, want three servers", stream, peers)
		}
		lead(t, conn, stream, victim)
	}
	before := throne.reigns(t, patience, nil)
	calls := startLoad(t, 4, callService(client, "shop.safe"))
	routes := startLoad(t, 4, func(ctx context.Context) (string, error) {
		_, err := runner.Run(ctx, "buy", route.Request{Body: []byte("{}")})
		return "", err
	})
	calls.await(200)
	routes.await(100)

	killed := time.Now()
	c[victim].Kill()
	service{Server: urls, Name: "shop", Instance: "late"}.start(t) // it waits until it is registered
	awaitState(t, client.Registry(), "shop", registry.Online, 3)
	found := time.Since(killed)
	after := throne.reigns(t, elections, before)
	reigning := time.Since(killed)
	calls.await(500)
	routes.await(200)
	t.Logf("killed: a new instance is seen after %v, a leader reigns after %v (same as before: %v)", found, reigning, after == before)
	if found > elections {
		t.Errorf("a new instance was seen %v after the kill, want at most %v", found, elections)
	}
	for name, l := range map[string]*load{"calls": calls, "routes": routes} {
		all := l.end()
		t.Logf("%s: %v; slowest %v", name, all, all.slowest().took())
		if failed := all.failed(); len(failed) > 0 {
			t.Errorf("%d %s failed: %v", len(failed), name, failed)
		}
	}
	if lost := seen(); len(lost) > 0 {
		t.Errorf("who lives was shown as gone: %q", lost)
	}
}

// watchInstances watches a service; what it returns ends that, and is who was shown as offline or gone.
func watchInstances(t *testing.T, reg *registry.Registry, name string) (end func() []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var lost []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for change := range reg.Watch(ctx, registry.Criteria{Services: []registry.ServiceCriterion{{Name: name}}}) {
			if i := change.Instance; change.Kind == registry.Removed || i.State == registry.Offline {
				lost = append(lost, fmt.Sprintf("%s %s %s", change.Kind, i.Instance, i.State))
			}
		}
	}()
	return func() []string {
		cancel()
		<-done
		return lost
	}
}

// throne is an election whose candidates lead as long as they can.
type throne struct {
	service  string
	election *election.Election

	mu      sync.Mutex
	current *election.Leadership
}

func startElection(t *testing.T, urls, name string, candidates int) *throne {
	t.Helper()
	th := &throne{service: name}
	for i := range candidates {
		conn, err := bus.Connect(t.Context(), bus.Config{Server: urls})
		if err != nil {
			t.Fatal(err)
		}
		e, err := election.Open(t.Context(), conn, election.Config{})
		if err != nil {
			t.Fatal(err)
		}
		th.election = e
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				l, err := e.Campaign(t.Context(), name, fmt.Sprint("candidate ", i))
				if err != nil {
					return // the test is over
				}
				th.take(t, l)
				select {
				case <-l.Lost():
				case <-t.Context().Done():
					return // Close resigns
				}
			}
		}()
		t.Cleanup(func() {
			<-done
			_ = e.Close() // nobody waits for who is next
			_ = conn.Close()
		})
	}
	return th
}

// take crowns a leader, who must be alone and newer than the one before.
func (th *throne) take(t *testing.T, l *election.Leadership) {
	t.Helper()
	th.mu.Lock()
	defer th.mu.Unlock()
	if th.current != nil && th.current.Valid() {
		t.Errorf("%v and %v lead", th.current.Term(), l.Term())
	}
	if th.current != nil && l.Term().Compare(th.current.Term()) <= 0 {
		t.Errorf("term %v after %v", l.Term(), th.current.Term())
	}
	th.current = l
}

// reigns waits for a leader whom the servers know, and who, if it is the one before, could renew since.
func (th *throne) reigns(t *testing.T, within time.Duration, before *election.Leadership) *election.Leadership {
	t.Helper()
	var leader *election.Leadership
	begin := time.Now()
	eventually(t, within, "a leader reigns", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		named, err := th.election.Leader(ctx, th.service)
		th.mu.Lock()
		leader = th.current
		th.mu.Unlock()
		renewed := leader != before || time.Since(begin) > 6*time.Second // longer than the TTL of 5 s
		return err == nil && leader != nil && leader.Valid() && leader.Term() == named.Term && renewed
	})
	return leader
}
