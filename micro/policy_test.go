package micro_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/balance"
	"github.com/skybus-io/skybus/micro/registry"
)

// serveWho runs one instance of a service whose endpoint "are" says which instance it is.
func serveWho(t testing.TB, s *bustest.Node, cfg micro.Config) *instance {
	t.Helper()
	return serve(t, connect(t, s), cfg, endpoint("are", func(ctx context.Context, _ hello) (string, error) {
		return micro.Info(ctx).Instance, nil
	}))
}

// spread is how often each instance answers n calls.
func spread(t testing.TB, c *micro.Client, n int, opts ...micro.CallOption) map[string]int {
	t.Helper()
	by := map[string]int{}
	for range n {
		id, err := micro.Call[string](t.Context(), c, "who.are", hello{}, opts...)
		if err != nil {
			t.Fatal(err)
		}
		by[id]++
	}
	return by
}

// only is a policy that knows one instance.
func only(id string) balance.Policy {
	return balance.Func(func(instances []*registry.Instance, _ balance.Call) *registry.Instance {
		for _, i := range instances {
			if i.Instance == id {
				return i
			}
		}
		return instances[0]
	})
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	for id, where := range map[string][2]string{"a": {"h1", "eu"}, "b": {"h2", "eu"}, "c": {"h3", "us"}} {
		serveWho(t, s, micro.Config{Name: "who", Instance: id, Host: where[0], Region: where[1]})
	}
	conn := connect(t, s)
	newPolicy := func(p balance.Policy) micro.ClientConfig { return micro.ClientConfig{Policy: p} }
	for _, tt := range []struct {
		name string
		cfg  micro.ClientConfig
		opts []micro.CallOption
		want map[string]int // of 30 calls; nil means some to each
	}{
		{"queue group", micro.ClientConfig{}, nil, nil},
		{"round robin", newPolicy(balance.RoundRobin()), nil, map[string]int{"a": 10, "b": 10, "c": 10}},
		{"random", newPolicy(balance.Random()), nil, nil},
		{"best quality", newPolicy(balance.BestQuality()), nil, nil},
		{"custom", newPolicy(only("b")), nil, map[string]int{"b": 30}},
		{"of the service", micro.ClientConfig{Policy: only("a"), Policies: map[string]balance.Policy{"who": only("c")}}, nil, map[string]int{"c": 30}},
		{"of the call", newPolicy(only("a")), []micro.CallOption{micro.WithPolicy(only("b"))}, map[string]int{"b": 30}},
		{"none for the service", micro.ClientConfig{Policy: only("a"), Policies: map[string]balance.Policy{"who": nil}}, nil, nil},
		{"pinned", newPolicy(only("a")), []micro.CallOption{micro.ToInstance("c")}, map[string]int{"c": 30}},
		{"nearest host", micro.ClientConfig{Host: "h2", Region: "eu", Policy: balance.Nearest(balance.Random())}, nil, map[string]int{"b": 30}},
		{"nearest region", micro.ClientConfig{Host: "h9", Region: "us", Policy: balance.Nearest(balance.Random())}, nil, map[string]int{"c": 30}},
		{"region", newPolicy(balance.RoundRobin()), []micro.CallOption{micro.ToRegion("eu")}, map[string]int{"a": 15, "b": 15}},
		{"region without a policy", micro.ClientConfig{}, []micro.CallOption{micro.ToRegion("us")}, map[string]int{"c": 30}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, conn, tt.cfg)
			sees(t, c, "who", 3)
			by := spread(t, c, 30, tt.opts...)
			if tt.want == nil && len(by) != 3 || tt.want != nil && fmt.Sprint(by) != fmt.Sprint(tt.want) {
				t.Errorf("answers %v, want %v", by, tt.want)
			}
		})
	}
	t.Run("key", func(t *testing.T) {
		t.Parallel()
		c, other := newClient(t, conn, newPolicy(balance.ConsistentHash())), newClient(t, connect(t, s), newPolicy(balance.ConsistentHash()))
		sees(t, c, "who", 3)
		sees(t, other, "who", 3)
		all := map[string]bool{}
		for i := range 20 {
			key := micro.WithKey(fmt.Sprint("key", i))
			by, again := spread(t, c, 3, key), spread(t, other, 3, key)
			if len(by) != 1 || fmt.Sprint(by) != fmt.Sprint(again) {
				t.Errorf("key %d: %v and %v", i, by, again)
			}
			for id := range by {
				all[id] = true
			}
		}
		if len(all) != 3 {
			t.Errorf("all keys are with %v", all)
		}
	})
}

// A call to a region never leaves it, whatever happens there.
func TestRegionIsNotLeft(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	eu := serveWho(t, s, micro.Config{Name: "who", Instance: "eu1", Region: "eu"})
	serveWho(t, s, micro.Config{Name: "who", Instance: "us1", Region: "us"})
	c := newClient(t, connect(t, s), micro.ClientConfig{Patience: 100 * time.Millisecond})
	sees(t, c, "who", 2)
	toEU := micro.ToRegion("eu")
	if by := spread(t, c, 50, toEU); by["eu1"] != 50 {
		t.Errorf("answers %v", by)
	}
	// A record whose instance is not there: nobody listens, and nobody else is asked.
	dead := `{"version":"1.0.0","registered":true,"region":"ap","endpoints":[{"name":"are"}]}`
	put(t, s.Connect(t), registry.LivenessBucket, "default.dev.who.dead", `{}`)
	put(t, s.Connect(t), registry.InstancesBucket, "default.dev.who.dead", dead)
	sees(t, c, "who", 3)
	_, err := micro.Call[string](t.Context(), c, "who.are", hello{}, micro.ToRegion("ap"))
	wantCode(t, err, bus.Unavailable, `who.are in region "ap"`)

	if err := eu.stop(); err != nil {
		t.Fatal(err)
	}
	for _, opts := range [][]micro.CallOption{
		{toEU}, {toEU, micro.Hedge(time.Millisecond)}, {toEU, micro.WithPolicy(balance.RoundRobin())}, {toEU, micro.ToInstance("us1")},
	} {
		_, err := micro.Call[string](t.Context(), c, "who.are", hello{}, opts...)
		wantCode(t, err, bus.Unavailable, `region "eu"`)
	}
	err = micro.Notify(t.Context(), c, "who.are", hello{}, toEU)
	wantCode(t, err, bus.Unavailable, `region "eu"`)

	// Patience holds for a region too.
	answered := make(chan error, 1)
	go func() {
		r := newClient(t, c.Conn(), micro.ClientConfig{Registry: c.Registry(), Timeout: time.Minute, Patience: time.Minute}).Service("who", toEU)
		var id string
		err := r.Call(t.Context(), "are", hello{}, &id)
		if err == nil && id != "eu2" {
			err = fmt.Errorf("%s answered", id)
		}
		answered <- err
	}()
	<-time.After(50 * time.Millisecond)
	serveWho(t, s, micro.Config{Name: "who", Instance: "eu2", Region: "eu"})
	if err := bustest.Receive(t, "the call", answered); err != nil {
		t.Error(err)
	}
}

// Policies go by what the registry knows; where that is nobody, the queue group is asked.
func TestPolicyKnowsNobody(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	nc := s.Connect(t)
	if _, err := nc.QueueSubscribe("default.dev.svc.who.are", "q", answerText(`"plain"`)); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, connect(t, s), micro.ClientConfig{Policy: balance.RoundRobin()})
	if by := spread(t, c, 3); by["plain"] != 3 {
		t.Errorf("answers %v", by)
	}
	if by := spread(t, c, 3, micro.Hedge(time.Minute)); by["plain"] != 3 {
		t.Errorf("answers %v", by)
	}
}

// An instance that is gone without a word costs the calls that meet it nothing but a moment.
func TestPolicyMeetsTheDead(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serveWho(t, s, micro.Config{Name: "who", Instance: "alive"})
	record := `{"version":"1.0.0","registered":true,"endpoints":[{"name":"are"}]}`
	for i := range 5 {
		key := fmt.Sprint("default.dev.who.dead", i)
		put(t, s.Connect(t), registry.LivenessBucket, key, `{}`)
		put(t, s.Connect(t), registry.InstancesBucket, key, record)
	}
	c := newClient(t, connect(t, s), micro.ClientConfig{Policy: balance.RoundRobin(), Patience: -1})
	sees(t, c, "who", 6)
	if by := spread(t, c, 30); by["alive"] != 30 {
		t.Errorf("answers %v", by)
	}
}

// serveHolding runs n instances, i0 and so on, whose endpoint "hold" lasts until release is closed.
func serveHolding(t testing.TB, s *bustest.Node, n int, release <-chan struct{}) (busy <-chan struct{}) {
	t.Helper()
	held := make(chan struct{}, 100)
	for i := range n {
		serve(t, connect(t, s), micro.Config{Name: "who", Instance: fmt.Sprint("i", i), Heartbeat: 50 * time.Millisecond, TTL: time.Second}, endpoints(
			endpoint("are", func(ctx context.Context, _ hello) (string, error) { return micro.Info(ctx).Instance, nil }),
			endpoint("hold", func(ctx context.Context, _ hello) (string, error) {
				held <- struct{}{}
				select {
				case <-release:
				case <-ctx.Done():
				}
				return "", nil
			}),
		))
	}
	return held
}

// Clients that have just begun know the load of the instances from their heartbeats and nothing else. They all choose at the
// same time, and must not all choose the same.
func TestColdClientsDoNotHerd(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	const n = 4
	release := make(chan struct{})
	defer close(release)
	busy := serveHolding(t, s, n, release)
	conn := connect(t, s)
	loader := newClient(t, conn, micro.ClientConfig{})
	sees(t, loader, "who", n)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range n - 1 { // all but one have something to do
		for range 20 {
			wg.Go(func() {
				_, _ = micro.Call[string](ctx, loader, "who.hold", hello{}, micro.ToInstance(fmt.Sprint("i", i)))
			})
		}
	}
	for range 20 * (n - 1) {
		bustest.Receive(t, "the handlers", busy)
	}
	bustest.Eventually(t, "the heartbeats to tell", func() bool {
		for _, i := range loader.Registry().Service("who").Online {
			if load := i.Load(); i.Instance != fmt.Sprint("i", n-1) && load.InFlight != 20 {
				return false
			}
		}
		return true
	})
	const clients = 60
	by := map[string]int{}
	var mu sync.Mutex
	var cold sync.WaitGroup
	for range clients {
		c := newClient(t, conn, micro.ClientConfig{Policy: balance.BestQuality(), Registry: loader.Registry()})
		cold.Go(func() {
			id, err := micro.Call[string](t.Context(), c, "who.are", hello{})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			by[id]++
			mu.Unlock()
		})
	}
	cold.Wait()
	idle := by[fmt.Sprint("i", n-1)]
	if idle > clients*2/3 || idle < clients/n/2 {
		t.Errorf("%d of %d cold clients chose the idle one: %v", idle, clients, by)
	}
	if len(by) != n {
		t.Errorf("some were not chosen at all: %v", by)
	}
}
