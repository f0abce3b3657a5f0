package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/skybus-io/skybus/micro/balance"
	"github.com/skybus-io/skybus/micro/registry"
)

const (
	hashKeys    = 100_000
	hashWindows = 3 // at most: they differ in nothing but the ids
)

// hash counts the keys that another instance has when one of n came or went. It needs no process and no clock.
func (b *bench) hash(ctx context.Context) ([]section, error) {
	s := section{
		Name: nameHash, Columns: []string{"consistent %", "mod %", "bound %"},
		Notes: []string{"hash: share of 100,000 keys that another instance has after one came or went, for instances with random ids, a new set in" +
			" each window. bound is what must move: 1/n of the keys when one of n goes, 1/(n+1) when one comes to n."},
	}
	windows := min(b.set.windows, hashWindows)
	if b.set.quick {
		windows = 1
	}
	for _, n := range []int{3, 10, 50} {
		for _, comes := range []bool{false, true} {
			what := fmt.Sprintf("one of %d goes", n)
			if comes {
				what = fmt.Sprintf("one comes to %d", n)
			}
			rows, err := b.turns(ctx, nameHash, windows, []variant{{what, func() ([]float64, error) {
				few := randomInstances(n)
				many := slices.Clone(few)
				if comes {
					many = sorted(append(many, randomInstances(1)...))
				} else {
					i := rand.IntN(n)
					few = slices.Delete(slices.Clone(few), i, i+1)
				}
				return []float64{
					moved(balance.ConsistentHash(), few, many),
					moved(balance.ModHash(), few, many),
					100 / float64(len(many)),
				}, nil
			}}})
			if err != nil {
				return nil, err
			}
			s.Rows = append(s.Rows, rows...)
		}
	}
	return []section{s}, nil
}

func randomInstances(n int) []*registry.Instance {
	var all []*registry.Instance
	for range n {
		all = append(all, &registry.Instance{Record: registry.Record{Service: serviceName, Instance: fmt.Sprintf("%016x", rand.Uint64())}})
	}
	return sorted(all)
}

// sorted is by id, as policies are given instances.
func sorted(all []*registry.Instance) []*registry.Instance {
	slices.SortFunc(all, func(a, b *registry.Instance) int { return strings.Compare(a.Instance, b.Instance) })
	return all
}

// moved is the share of keys, in percent, that have another instance in few than in many.
func moved(p balance.Policy, few, many []*registry.Instance) float64 {
	n := 0
	for i := range hashKeys {
		call := balance.Call{Key: fmt.Sprintf("customer-%d", i)}
		if p.Pick(few, call) != p.Pick(many, call) {
			n++
		}
	}
	return 100 * float64(n) / hashKeys
}
