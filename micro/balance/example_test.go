package balance_test

import (
	"fmt"
	"time"

	"github.com/skybus-io/skybus/micro/balance"
	"github.com/skybus-io/skybus/micro/registry"
)

// A policy of one's own.
func ExampleFunc() {
	oldest := balance.Func(func(instances []*registry.Instance, _ balance.Call) *registry.Instance {
		best := instances[0]
		for _, i := range instances {
			if i.Started.Before(best.Started) {
				best = i
			}
		}
		return best
	})

	now := time.Now()
	fmt.Println(oldest.Pick([]*registry.Instance{
		{Record: registry.Record{Instance: "a", Started: now}},
		{Record: registry.Record{Instance: "b", Started: now.Add(-time.Hour)}},
	}, balance.Call{}).Instance)
	// Output: b
}

// What a caller does around an attempt.
func ExampleObserve() {
	policy := balance.Nearest(balance.RoundRobin())
	call := balance.Call{Endpoint: "buy", Attempt: 1, Region: "eu"}
	instances := []*registry.Instance{{Record: registry.Record{Service: "shop", Instance: "a", Region: "eu"}}}

	i := policy.Pick(instances, call)
	done := balance.Observe(policy, i, call)
	begin := time.Now()
	var err error // of the request to i
	done(time.Since(begin), err)
	fmt.Println(i.Instance)
	// Output: a
}
