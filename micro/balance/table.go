package balance

import (
	"maps"
	"sync"
	"sync/atomic"
)

// table is a map that is read often, without a lock, and grows seldom. Its zero value is empty.
type table[K comparable, V any] struct {
	entries atomic.Pointer[map[K]*V]

	mu sync.Mutex // of writers
}

// get is the value of k, nil when there is none.
func (t *table[K, V]) get(k K) *V {
	if m := t.entries.Load(); m != nil {
		return (*m)[k]
	}
	return nil
}

// add is the value of k, which is v if there was none. When there was none, those entries go that useless names.
func (t *table[K, V]) add(k K, v *V, useless func(K, *V) bool) *V {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := map[K]*V{}
	if m := t.entries.Load(); m != nil {
		if old := (*m)[k]; old != nil {
			return old
		}
		next = maps.Clone(*m)
		maps.DeleteFunc(next, useless)
	}
	next[k] = v
	t.entries.Store(&next)
	return v
}
