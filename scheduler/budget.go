package scheduler

import (
	"context"
	"sync"
)

// budget bounds what is under way by its bytes. One taker at a time.
type budget struct {
	most int
	free chan struct{} // has an element when some was given back

	mu   sync.Mutex
	used int
}

func newBudget(most int) *budget { return &budget{most: most, free: make(chan struct{}, 1)} }

// take waits until there is room for n bytes, or nothing is under way, and tells whether ctx goes on.
func (b *budget) take(ctx context.Context, n int) bool {
	for {
		b.mu.Lock()
		ok := b.used == 0 || b.used+n <= b.most
		if ok {
			b.used += n
		}
		b.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-b.free:
		case <-ctx.Done():
			return false
		}
	}
}

func (b *budget) give(n int) {
	b.mu.Lock()
	b.used -= n
	b.mu.Unlock()
	wake(b.free)
}
