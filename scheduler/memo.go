package scheduler

import (
	"sync"
	"time"
)

// memo remembers answers for a while, and no more of them than max.
type memo[V any] struct {
	max int

	mu    sync.Mutex
	items map[string]remembered[V]
}

type remembered[V any] struct {
	value V
	until time.Time
}

func newMemo[V any](limit int) *memo[V] {
	return &memo[V]{max: limit, items: map[string]remembered[V]{}}
}

func (m *memo[V]) get(key string) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	item, ok := m.items[key]
	if !ok || time.Now().After(item.until) {
		var none V
		return none, false
	}
	return item.value, true
}

// put makes room by forgetting any other: who asks again pays for one more question.
func (m *memo[V]) put(key string, value V, keep time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.items[key]; !ok && len(m.items) >= m.max {
		for other := range m.items {
			delete(m.items, other)
			break
		}
	}
	m.items[key] = remembered[V]{value, time.Now().Add(keep)}
}

func (m *memo[V]) forget(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.items, key)
}
