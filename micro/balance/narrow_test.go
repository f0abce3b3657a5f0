package balance_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/micro/balance"
	"github.com/skybus-io/skybus/micro/registry"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	instances := online(t,
		instance{id: "a", region: "eu", host: "h1"},
		instance{id: "b", region: "eu", host: "h1"},
		instance{id: "c", region: "eu", host: "h2"},
		instance{id: "d", region: "us", host: "h3"},
		instance{id: "e"},
	)
	a, b, c, d, e := "a", "b", "c", "d", "e"
	for _, tt := range []struct {
		name string
		call balance.Call
		want []string
	}{
		{"same host", balance.Call{Region: "eu", Host: "h1"}, []string{a, b}},
		{"alone on its host", balance.Call{Region: "eu", Host: "h2"}, []string{c}},
		{"host without a region", balance.Call{Host: "h1"}, []string{a, b}},
		{"same region", balance.Call{Region: "eu", Host: "h9"}, []string{a, b, c}},
		{"region without a host", balance.Call{Region: "us"}, []string{d}},
		{"neither", balance.Call{Region: "asia", Host: "h9"}, []string{a, b, c, d, e}},
		{"a caller that knows nothing", balance.Call{}, []string{a, b, c, d, e}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := tally(balance.Nearest(balance.RoundRobin()), instances, tt.call, 10*len(tt.want))
			for _, id := range tt.want {
				if got[id] != 10 {
					t.Errorf("%s is picked %d times of %d", id, got[id], 10*len(tt.want))
				}
			}
		})
	}
}

func TestCanary(t *testing.T) {
	t.Parallel()
	const n = 40_000
	instances := online(t,
		instance{id: "a", version: "1.2.0"},
		instance{id: "b", version: "1.2.0"},
		instance{id: "c", version: "1.2.0"},
		instance{id: "d", version: "1.3.0"},
		instance{id: "e", version: "1.4.0"},
	)
	for _, tt := range []struct {
		name    string
		weights map[string]int
		want    map[string]float64 // by instance
	}{
		{"two versions", map[string]int{"1.2.0": 90, "1.3.0": 10}, map[string]float64{"a": .3, "b": .3, "c": .3, "d": .1}},
		{"not of hundred", map[string]int{"1.2.0": 1, "1.3.0": 3}, map[string]float64{"a": 1. / 12, "b": 1. / 12, "c": 1. / 12, "d": .75}},
		{"three", map[string]int{"1.2.0": 30, "1.3.0": 20, "1.4.0": 50}, map[string]float64{"a": .1, "b": .1, "c": .1, "d": .2, "e": .5}},
		{"one that is not there", map[string]int{"1.2.0": 60, "2.0.0": 1000}, map[string]float64{"a": 1. / 3, "b": 1. / 3, "c": 1. / 3}},
		{"weight of zero", map[string]int{"1.2.0": 0, "1.3.0": 1}, map[string]float64{"d": 1}},
		{"below zero", map[string]int{"1.2.0": -5, "1.3.0": 1}, map[string]float64{"d": 1}},
		{"nobody else is there", map[string]int{"2.0.0": 1}, map[string]float64{"a": .2, "b": .2, "c": .2, "d": .2, "e": .2}},
		{"only zeros", map[string]int{"1.2.0": 0}, map[string]float64{"a": .2, "b": .2, "c": .2, "d": .2, "e": .2}},
		{"no weights", nil, map[string]float64{"a": .2, "b": .2, "c": .2, "d": .2, "e": .2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := balance.Canary(func() map[string]int { return tt.weights }, balance.RoundRobin())
			got := tally(p, instances, balance.Call{}, n)
			for id, want := range tt.want {
				if !near(got[id], n, want) {
					t.Errorf("%s is picked %d times of %d, want %.2f of them", id, got[id], n, want)
				}
			}
			if len(got) != len(tt.want) {
				t.Errorf("picked %v", got)
			}
		})
	}
}

// While the share of a version grows its keys stay with it.
func TestCanaryKeepsKeys(t *testing.T) {
	t.Parallel()
	instances := online(t,
		instance{id: "a", version: "1.2.0"},
		instance{id: "b", version: "1.3.0"},
		instance{id: "c", version: "1.4.0"},
	)
	var weights atomic.Pointer[map[string]int]
	p := balance.Canary(func() map[string]int { return *weights.Load() }, balance.ConsistentHash())
	before := make([]bool, 10_000)
	for _, share := range []int{5, 10, 20, 50, 100} {
		weights.Store(&map[string]int{"1.2.0": 100 - share, "1.3.0": share})
		n := 0
		for k := range before {
			canary := p.Pick(instances, balance.Call{Key: fmt.Sprint(k)}).Version == "1.3.0"
			if before[k] && !canary {
				t.Fatalf("at %d percent key %d goes back", share, k)
			}
			if before[k] = canary; canary {
				n++
			}
		}
		if got := float64(n) / float64(len(before)); got < float64(share)/100-0.02 || got > float64(share)/100+0.02 {
			t.Errorf("%d percent of the keys: %.3f", share, got)
		}
	}
}

// Who narrows a choice lets the policy behind it learn.
func TestNarrowedObserves(t *testing.T) {
	t.Parallel()
	instances := online(t, named(2)...)
	weights := func() map[string]int { return nil }
	for name, wrap := range map[string]func(balance.Policy) balance.Observer{
		"Nearest": balance.Nearest,
		"Canary":  func(p balance.Policy) balance.Observer { return balance.Canary(weights, p) },
		"both":    func(p balance.Policy) balance.Observer { return balance.Nearest(balance.Canary(weights, p)) },
	} {
		spy := &spy{Policy: balance.Random()}
		call := balance.Call{Endpoint: "do"}
		balance.Observe(wrap(spy), instances[1], call)(time.Second, nil)
		if spy.began != instances[1] || spy.call != call || spy.took != time.Second {
			t.Errorf("%s: the policy behind it saw %+v", name, spy)
		}
		wrap(balance.Random()).Observe(instances[1], call)(time.Second, nil) // no observer
	}
}

// spy remembers the last call it was told of.
type spy struct {
	balance.Policy

	began *registry.Instance
	call  balance.Call
	took  time.Duration
}

func (s *spy) Observe(i *registry.Instance, call balance.Call) (done func(time.Duration, error)) {
	s.began, s.call = i, call
	return func(took time.Duration, _ error) { s.took = took }
}

func ExampleNearest() {
	p := balance.Nearest(balance.Random())
	instances := []*registry.Instance{
		{Record: registry.Record{Instance: "a", Region: "eu", Host: "h1"}},
		{Record: registry.Record{Instance: "b", Region: "us", Host: "h2"}},
	}
	fmt.Println(p.Pick(instances, balance.Call{Region: "us", Host: "h9"}).Instance)
	// Output: b
}

func ExampleCanary() {
	weights := map[string]int{"1.2.0": 95, "1.3.0": 5}
	p := balance.Canary(func() map[string]int { return weights }, balance.Random())
	instances := []*registry.Instance{
		{Record: registry.Record{Instance: "a", Version: "1.2.0"}},
		{Record: registry.Record{Instance: "b", Version: "1.3.0"}},
	}
	canary := 0
	for range 10_000 {
		if p.Pick(instances, balance.Call{}).Version == "1.3.0" {
			canary++
		}
	}
	fmt.Println(canary > 400 && canary < 600)
	// Output: true
}
