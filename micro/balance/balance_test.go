package balance_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/micro/balance"
	"github.com/skybus-io/skybus/micro/registry"
)

// policies is one of each.
func policies() map[string]balance.Policy {
	weights := map[string]int{"1.0.0": 95, "2.0.0": 5}
	return map[string]balance.Policy{
		"RoundRobin":     balance.RoundRobin(),
		"Random":         balance.Random(),
		"ModHash":        balance.ModHash(),
		"ConsistentHash": balance.ConsistentHash(),
		"BestQuality":    balance.BestQuality(),
		"Nearest":        balance.Nearest(balance.RoundRobin()),
		"Canary":         balance.Canary(func() map[string]int { return weights }, balance.RoundRobin()),
	}
}

func TestOneInstance(t *testing.T) {
	t.Parallel()
	one := online(t, named(1)...)
	for name, p := range policies() {
		for _, call := range []balance.Call{{}, {Endpoint: "do", Key: "k", Attempt: 3, Region: "eu", Host: "h"}} {
			if got := p.Pick(one, call); got != one[0] {
				t.Errorf("%s: got %v", name, got)
			}
		}
	}
}

// All of them, by many callers at once, while instances come and go.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	all := online(t, named(9)...)
	for name, p := range policies() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var wg sync.WaitGroup
			for g := range 8 {
				wg.Go(func() {
					for i := range 500 {
						instances := all[i%4 : 5+g%4]
						call := balance.Call{Endpoint: "do", Key: fmt.Sprint(i % 10)}
						picked := p.Pick(instances, call)
						if !slices.Contains(instances, picked) {
							t.Errorf("picked %v", picked)
							return
						}
						balance.Observe(p, picked, call)(time.Duration(i), nil)
					}
				})
			}
			wg.Wait()
		})
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	list := named(5)
	for i := range list {
		list[i].host = fmt.Sprintf("h%d", i/2)
	}
	list[4].version = "2.0.0"
	instances := online(t, list...)
	call := balance.Call{Endpoint: "do", Key: "key", Host: "h1"}
	for name, p := range policies() {
		if name == "Nearest" || name == "Canary" {
			continue // take lists from a pool, which the race detector empties at random
		}
		for _, i := range instances {
			balance.Observe(p, i, call)(time.Millisecond, nil)
		}
		if n := testing.AllocsPerRun(100, func() { p.Pick(instances, call) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestRandom(t *testing.T) {
	t.Parallel()
	instances := online(t, named(4)...)
	for id, n := range tally(balance.Random(), instances, balance.Call{}, 40_000) {
		if !near(n, 40_000, 0.25) {
			t.Errorf("%s: %d of 40000", id, n)
		}
	}
}

func TestFunc(t *testing.T) {
	t.Parallel()
	instances := online(t, named(3)...)
	var asked balance.Call
	p := balance.Func(func(instances []*registry.Instance, call balance.Call) *registry.Instance {
		asked = call
		return instances[1]
	})
	call := balance.Call{Endpoint: "do", Key: "k", Attempt: 2}
	if got := p.Pick(instances, call); got != instances[1] || asked != call {
		t.Errorf("got %v, asked with %+v", got, asked)
	}
	balance.Observe(p, instances[0], call)(time.Second, errors.New("ignored"))
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{3, 100, 1000} {
		list := named(n)
		for i := range list {
			list[i].host = fmt.Sprintf("h%d", i%3)
			list[i].version = fmt.Sprintf("%d.0.0", 1+i%2)
		}
		instances := online(b, list...)
		for name, p := range policies() {
			call := balance.Call{Endpoint: "do", Key: "key", Host: "h1"}
			for _, i := range instances {
				balance.Observe(p, i, call)(time.Millisecond, nil)
			}
			b.Run(fmt.Sprintf("policy=%s/instances=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					p.Pick(instances, call)
				}
			})
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	instances := online(b, named(3)...)
	p := balance.BestQuality()
	b.ReportAllocs()
	for b.Loop() {
		p.Observe(instances[0], balance.Call{Endpoint: "do"})(time.Millisecond, nil)
	}
}
