package balance_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/skybus-io/skybus/micro/balance"
	"github.com/skybus-io/skybus/micro/registry"
)

const keys = 50_000

// owners are the instances of the keys.
func owners(p balance.Policy, instances []*registry.Instance) []string {
	list := make([]string, keys)
	for i := range list {
		list[i] = p.Pick(instances, balance.Call{Key: fmt.Sprintf("user-%d", i)}).Instance
	}
	return list
}

func count(list []string) map[string]int {
	c := map[string]int{}
	for _, id := range list {
		c[id]++
	}
	return c
}

// spread fails the test when an instance has more than five standard deviations more or less than its fair share.
func spread(t *testing.T, c map[string]int, n int) {
	t.Helper()
	fair := float64(keys) / float64(n)
	for id, got := range c {
		if math.Abs(float64(got)-fair) > 5*math.Sqrt(fair) {
			t.Errorf("%s has %d keys of %d, %d instances", id, got, keys, n)
		}
	}
	if len(c) != n {
		t.Errorf("%d of %d instances have keys", len(c), n)
	}
}

func TestHashSpread(t *testing.T) {
	t.Parallel()
	all := online(t, named(100)...)
	for name, p := range map[string]balance.Policy{"ModHash": balance.ModHash(), "ConsistentHash": balance.ConsistentHash()} {
		for _, n := range []int{2, 3, 10, 100} {
			t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) {
				t.Parallel()
				spread(t, count(owners(p, all[:n])), n)
			})
		}
	}
}

// Any process, any release, any machine: these may not change while somebody uses them.
func TestHashGolden(t *testing.T) {
	t.Parallel()
	instances := online(t, named(10)...)
	for _, tt := range []struct{ key, mod, consistent string }{
		{"a", "i0007", "i0009"},
		{"seven77", "i0003", "i0007"},
		{"eight888", "i0005", "i0000"},
		{"nine99999", "i0009", "i0007"},
		{"user-1", "i0006", "i0001"},
		{"user-2", "i0007", "i0006"},
		{"Bäume/ä", "i0002", "i0008"},
		{"sixteen-letters!", "i0005", "i0005"},
		{"0ujsszwN8NRY24YaXiTIE2VWDTS", "i0002", "i0006"},
	} {
		call := balance.Call{Key: tt.key}
		if got := balance.ModHash().Pick(instances, call).Instance; got != tt.mod {
			t.Errorf("ModHash %q: got %s, want %s", tt.key, got, tt.mod)
		}
		if got := balance.ConsistentHash().Pick(instances, call).Instance; got != tt.consistent {
			t.Errorf("ConsistentHash %q: got %s, want %s", tt.key, got, tt.consistent)
		}
	}
}

// The same key has the same instance, however often a call is tried and whoever tries.
func TestHashStays(t *testing.T) {
	t.Parallel()
	instances := online(t, named(10)...)
	for name, p := range map[string]balance.Policy{"ModHash": balance.ModHash(), "ConsistentHash": balance.ConsistentHash()} {
		want := p.Pick(instances, balance.Call{Key: "k"})
		got := p.Pick(slices.Clone(instances), balance.Call{Key: "k", Attempt: 3, Endpoint: "do", Region: "eu", Host: "h"})
		if got != want {
			t.Errorf("%s: %s, then %s", name, want.Instance, got.Instance)
		}
	}
}

// Where one of n leaves only its keys move, and to all others alike; where it joins it takes its share from all alike.
func TestConsistentHashMoves(t *testing.T) {
	t.Parallel()
	all := online(t, named(30)...)
	for _, n := range []int{2, 3, 10, 30} {
		for _, gone := range []int{0, n / 2, n - 1} {
			with := owners(balance.ConsistentHash(), all[:n])
			without := owners(balance.ConsistentHash(), slices.Delete(slices.Clone(all[:n]), gone, gone+1))
			moved := map[string]int{}
			total := 0
			for k := range keys {
				if with[k] == without[k] {
					continue
				}
				if with[k] != all[gone].Instance {
					t.Fatalf("n=%d: key %d moved from %s, but %s went", n, k, with[k], all[gone].Instance)
				}
				moved[without[k]]++
				total++
			}
			fair := float64(keys) / float64(n)
			if float64(total) > fair+5*math.Sqrt(fair) {
				t.Errorf("n=%d: %d of %d keys moved", n, total, keys)
			}
			each := float64(total) / float64(n-1)
			for id, got := range moved {
				if math.Abs(float64(got)-each) > 6*math.Sqrt(each) {
					t.Errorf("n=%d: %s took over %d of %d keys", n, id, got, total)
				}
			}
		}
	}
}

func TestHashWithoutKey(t *testing.T) {
	t.Parallel()
	instances := online(t, named(4)...)
	for name, p := range map[string]balance.Policy{"ModHash": balance.ModHash(), "ConsistentHash": balance.ConsistentHash()} {
		c := tally(p, instances, balance.Call{}, 40_000)
		for _, id := range slices.Sorted(maps.Keys(c)) {
			if !near(c[id], 40_000, 0.25) {
				t.Errorf("%s: %s gets %d of 40000", name, id, c[id])
			}
		}
	}
}

func ExampleConsistentHash() {
	instances := make([]*registry.Instance, 5)
	for i := range instances {
		instances[i] = &registry.Instance{Record: registry.Record{Service: "carts", Instance: fmt.Sprintf("i%d", i)}}
	}
	p := balance.ConsistentHash()
	cart := balance.Call{Key: "cart-17"}
	before := p.Pick(instances, cart)
	for n, i := range instances {
		if i != before {
			fmt.Println(p.Pick(slices.Delete(slices.Clone(instances), n, n+1), cart) == before)
		}
	}
	// Output:
	// true
	// true
	// true
	// true
}
