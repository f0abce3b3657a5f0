//go:build unix

package integration_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
	"github.com/skybus-io/skybus/micro/route"
)

// quorumTest is a service, who calls it and who leads it, on a cluster.
type quorumTest struct {
	client *micro.Client
	runner *route.Runner
	config *kv.Copy[[]byte]
	leases *kv.Leases
	lease  *kv.Lease
	load   *load
}

const quorumLease = 4 * time.Second

func prepareQuorum(t *testing.T, g *bustest.Group) quorumTest {
	t.Helper()
	conn, admin := connect(t, g.URL()), connect(t, g.URL())
	prepare(t, admin)
	serveTickets(t, conn, "orders", "o1", make(chan string, 1024))
	q := quorumTest{client: newClient(t, connect(t, g.URL()), micro.ClientConfig{Name: "web"}), config: ticketConfig(t, admin)}
	q.runner = ticketRoutes(t, admin, q.client)
	var err error
	if q.leases, err = kv.OpenLeases(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if q.lease, err = q.leases.Acquire(t.Context(), "default.dev.election.orders", "o1", quorumLease); err != nil {
		t.Fatal(err)
	}
	awaitState(t, q.client.Registry(), "orders", registry.Online, 1)
	q.load = startLoad(t, 4, func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, 4*time.Second) // what was under way with a server that stopped is not answered
		defer cancel()
		if _, err := micro.Call[ticket](ctx, q.client, "orders.hello", ticket{}); err != nil {
			return "", err
		}
		return "", runTicket(ctx, q.runner, "sync")
	})
	q.load.await(50)
	return q
}

// TestWithoutQuorum stops two servers of three, so that nothing can be stored any more, and starts them again. Meanwhile calls,
// routes and configuration go on from what was known last; an asynchronous step fails soon and says why; a lease ends at its
// deadline and nobody gets it; a new instance serves, and registers when the servers are back.
func TestWithoutQuorum(t *testing.T) {
	needPrograms(t) // as slow as those that do
	g := bustest.Cluster(t, 3)
	q := prepareQuorum(t, g)

	g.Node(1).Stop()
	g.Node(2).Stop()
	lost := time.Now()
	select {
	case <-q.lease.Lost():
		t.Logf("the lease ended %v after the loss", time.Since(lost))
	case <-time.After(quorumLease + 3*time.Second):
		t.Error("the lease outlives its deadline")
	}
	asyncWithoutQuorum(t, q.runner, 18*time.Second) // a follower believes in its leader for up to 9 s
	late := serveLate(t, connect(t, g.URL()))
	contender := contend(t, q.leases, quorumLease)
	// Longer than an election takes, and than leases, liveness and the servers' patience last.
	time.Sleep(time.Until(lost.Add(15 * time.Second)))
	q.load.await(200)
	goesOn(t, q.client, q.config)
	if q.lease.Valid() {
		t.Error("the lease is valid without a quorum")
	}
	select {
	case c := <-contender:
		t.Errorf("somebody got a lease without a quorum: %v %v", c.lease, c.err)
	case <-late:
		t.Error("an instance registered without a quorum")
	default:
	}
	asyncWithoutQuorum(t, q.runner, 8*time.Second)

	g.Node(1).Start(t)
	g.Node(2).Start(t)
	back := time.Now()
	afterQuorum(t, g, late, contender, q.lease)
	t.Logf("registered and leased %v after the servers were back", time.Since(back))
	eventually(t, patience, "an asynchronous step is stored", func() bool {
		return runTicket(t.Context(), q.runner, "async") == nil
	})
	withoutGap(t, q.load.end(), lost)
}

// withoutGap wants requests to have been answered all the time since, but for those under way then.
func withoutGap(t *testing.T, all outcomes, since time.Time) {
	t.Helper()
	gap := all.gap(since, time.Now())
	t.Logf("%v; longest gap since the loss %v", all, gap)
	if failed := all.failed(); len(failed) > len(all.flying(since)) {
		t.Errorf("failed: %v", failed)
	}
	if gap > 8*time.Second {
		t.Errorf("%v without an answer", gap)
	}
}

// goesOn wants what was known to be known still, and a service that could not register to be called all the same.
func goesOn(t *testing.T, client *micro.Client, config *kv.Copy[[]byte]) {
	t.Helper()
	if e, ok := config.Get("default.dev.orders._.color"); !ok || string(e.Value) != "blue" {
		t.Errorf("the configuration is %q", e.Value)
	}
	if got := inState(client.Registry(), "orders", registry.Online); !slices.Equal(got, []string{"o1"}) {
		t.Errorf("online are %q", got)
	}
	if got, err := micro.Call[ticket](t.Context(), client, "late.hello", ticket{}); err != nil || got.By != "l1" {
		t.Errorf("a service that is not registered: %v, %v", got, err)
	}
}

// ticketRoutes are the routes sync and async.
func ticketRoutes(t *testing.T, admin *bus.Conn, client *micro.Client) *route.Runner {
	t.Helper()
	store, err := route.OpenStore(t.Context(), admin, route.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for name, steps := range map[string][]route.Step{
		"sync":  {{Service: "orders", Endpoint: "check"}},
		"async": {{Service: "orders", Endpoint: "check"}, {Service: "orders", Endpoint: "note", Async: true}},
	} {
		if _, err := store.Put(t.Context(), name, route.Route{Steps: steps}, 0); err != nil {
			t.Fatal(err)
		}
	}
	runner, err := route.NewRunner(t.Context(), client, route.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = runner.Close() })
	return runner
}

func runTicket(ctx context.Context, runner *route.Runner, name string) error {
	body, err := json.Marshal(ticket{Text: name})
	if err == nil {
		_, err = runner.Run(ctx, name, route.Request{Body: body})
	}
	return err
}

func ticketConfig(t *testing.T, conn *bus.Conn) *kv.Copy[[]byte] {
	t.Helper()
	table, err := kv.Open[[]byte](t.Context(), conn, configBucket, kv.Config{Codec: bus.Raw{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.Put(t.Context(), "default.dev.orders._.color", []byte("blue")); err != nil {
		t.Fatal(err)
	}
	c, err := table.Copy(t.Context(), "default.dev.>")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// asyncWithoutQuorum wants a route with an asynchronous step to fail before its deadline, and to say why.
func asyncWithoutQuorum(t *testing.T, runner *route.Runner, within time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	err := runTicket(ctx, runner, "async")
	took := time.Since(began)
	t.Logf("an asynchronous step fails after %v: %v", took, err)
	if bus.CodeOf(err) != bus.Unavailable || took > within || !strings.Contains(err.Error(), "2 of its 3 servers are away") {
		t.Errorf("after %v: %v", took, err)
	}
}

// serveLate runs an instance whose registration is told.
func serveLate(t *testing.T, conn *bus.Conn) (registered <-chan struct{}) {
	t.Helper()
	told := make(chan struct{})
	started := make(chan struct{})
	svc, err := micro.NewService(conn, micro.Config{Name: "late", Instance: "l1", Hooks: micro.Hooks{
		Started: func() { close(started) }, Registered: sync.OnceFunc(func() { close(told) }),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := micro.Handle(svc, "hello", func(context.Context, ticket) (ticket, error) { return ticket{By: "l1"}, nil }); err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, svc.Run)
	<-started
	return told
}

type contention struct {
	lease *kv.Lease
	err   error
}

// contend waits for the lease as another candidate.
func contend(t *testing.T, leases *kv.Leases, ttl time.Duration) <-chan contention {
	t.Helper()
	ch := make(chan contention, 1)
	go func() {
		lease, err := leases.Wait(t.Context(), "default.dev.election.orders", "o2", ttl)
		ch <- contention{lease, err}
	}()
	return ch
}

// afterQuorum wants everything that waited to be done.
func afterQuorum(t *testing.T, g *bustest.Group, late <-chan struct{}, contender <-chan contention, before *kv.Lease) {
	t.Helper()
	g.WaitReady(t)
	select {
	case <-late:
	case <-time.After(patience):
		t.Error("the instance has not registered")
	}
	select {
	case c := <-contender:
		if c.err != nil {
			t.Fatal(c.err)
		}
		if !c.lease.Valid() || c.lease.Term().Compare(before.Term()) <= 0 {
			t.Errorf("the next lease has term %v after %v", c.lease.Term(), before.Term())
		}
		if err := c.lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("nobody got the lease")
	}
}
