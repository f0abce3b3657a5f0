package mirror

import (
	"context"
	"sync"
)

// removal is that of a mirror which this process has open.
type removal struct {
	once sync.Once
	done chan struct{}
}

// noteRemoval hears that the settings are gone, or are another mirror's.
func (m *Mirror) noteRemoval(ctx context.Context) {
	m.removal.once.Do(func() {
		if !m.cfg.Observe {
			m.log.ErrorContext(ctx, "the mirror was removed: this process answers reads and writes with 503 and sends nothing more; stop it, or start it again to make the mirror anew")
		}
		close(m.removal.done)
	})
}

// isRemoved tells whether this process has heard that the mirror is removed. It stays so: one that is made anew may have other lanes.
func (m *Mirror) isRemoved() bool {
	select {
	case <-m.removal.done:
		return true
	default:
		return false
	}
}

// whileThere is a context that ends with ctx, or when the mirror is removed. stop releases it.
func (m *Mirror) whileThere(ctx context.Context) (there context.Context, stop func()) {
	there, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-m.removal.done:
			cancel()
		case <-there.Done():
		}
	})
	return there, func() { cancel(); wg.Wait() }
}
