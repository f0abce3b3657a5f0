package balance_test

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/skybus-io/skybus/micro/balance"
	"github.com/skybus-io/skybus/micro/registry"
)

// each tells whether every one of instances has n picks and nobody else any.
func each(count map[string]int, instances []*registry.Instance, n int) bool {
	for _, i := range instances {
		if count[i.Instance] != n {
			return false
		}
	}
	return len(count) == len(instances)
}

func TestRoundRobin(t *testing.T) {
	t.Parallel()
	instances := online(t, named(5)...)
	p := balance.RoundRobin()
	for round := range 10 {
		if got := tally(p, instances, balance.Call{}, 5); !each(got, instances, 1) {
			t.Fatalf("round %d: %v", round, got)
		}
	}
}

func TestRoundRobinConcurrently(t *testing.T) {
	t.Parallel()
	instances := online(t, named(5)...)
	p := balance.RoundRobin()
	counts := make([]map[string]int, 10)
	var wg sync.WaitGroup
	for g := range counts {
		wg.Go(func() { counts[g] = tally(p, instances, balance.Call{}, 1001) })
	}
	wg.Wait()
	sum := map[string]int{}
	for _, count := range counts {
		for id, n := range count {
			sum[id] += n
		}
	}
	if !each(sum, instances, 2002) {
		t.Errorf("10 callers with 1001 calls each: %v", sum)
	}
}

// Whoever stays has its turn in each round after a change, too.
func TestRoundRobinWhileInstancesComeAndGo(t *testing.T) {
	t.Parallel()
	instances := online(t, named(8)...)
	p := balance.RoundRobin()
	for n := range 200 {
		some := slices.Clone(instances)
		some = slices.Delete(some, n%8, n%8+1) // another one is gone each time
		some = some[:2+n%6]
		tally(p, some, balance.Call{}, n%5) // the change comes in the middle of a round
		if got := tally(p, some, balance.Call{}, len(some)); !each(got, some, 1) {
			t.Fatalf("after change %d: %v", n, got)
		}
	}
}

// A caller that alternates between endpoints, versions or services leaves nobody out.
func TestRoundRobinAlternating(t *testing.T) {
	t.Parallel()
	instances := online(t, named(4)...)
	for _, tt := range []struct {
		name  string
		lists [][]*registry.Instance
		calls []balance.Call
	}{
		{"endpoints", [][]*registry.Instance{instances, instances}, []balance.Call{{Endpoint: "a"}, {Endpoint: "b"}}},
		{"endpoints of some", [][]*registry.Instance{instances[:2], instances[:3]}, []balance.Call{{Endpoint: "a"}, {Endpoint: "b"}}},
		{"versions", [][]*registry.Instance{instances[:2], instances[2:3]}, []balance.Call{{}, {}}},
		{"a version and any", [][]*registry.Instance{instances[:2], instances}, []balance.Call{{}, {}}},
		{"the same first", [][]*registry.Instance{instances[:2], {instances[0], instances[2]}}, []balance.Call{{}, {}}},
		{"overlapping", [][]*registry.Instance{instances[:3], instances[1:]}, []balance.Call{{}, {}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := balance.RoundRobin()
			counts := []map[string]int{{}, {}}
			for range 12 {
				for k := range counts {
					counts[k][p.Pick(tt.lists[k], tt.calls[k]).Instance]++
				}
			}
			for k, count := range counts {
				if !each(count, tt.lists[k], 12/len(tt.lists[k])) {
					t.Errorf("list %d: %v", k, count)
				}
			}
		})
	}
}

// Callers that begin together do not begin with the same instance.
func TestRoundRobinBeginsAnywhere(t *testing.T) {
	t.Parallel()
	instances := online(t, named(4)...)
	count := map[string]int{}
	for range 400 {
		count[balance.RoundRobin().Pick(instances, balance.Call{}).Instance]++
	}
	if least := slices.Min(slices.Collect(maps.Values(count))); len(count) != 4 || least < 50 {
		t.Errorf("400 callers begin with %v", count)
	}
}

// What it knows of sets of instances does not grow without end.
func TestRoundRobinForgets(t *testing.T) {
	t.Parallel()
	instances := online(t, named(3)...)
	p := balance.RoundRobin()
	for n := range 2000 {
		call := balance.Call{Endpoint: fmt.Sprint(n)}
		if got := tally(p, instances, call, 3); !each(got, instances, 1) {
			t.Fatalf("endpoint %d: %v", n, got)
		}
	}
}

func ExampleRoundRobin() {
	p := balance.RoundRobin()
	instances := []*registry.Instance{
		{Record: registry.Record{Service: "shop", Instance: "a"}},
		{Record: registry.Record{Service: "shop", Instance: "b"}},
	}
	first, second, third := p.Pick(instances, balance.Call{}), p.Pick(instances, balance.Call{}), p.Pick(instances, balance.Call{})
	fmt.Println(first != second, first == third)
	// Output: true true
}
