package mirror

import (
	"context"
	"sync/atomic"
	"time"
)

// serverClock is how far the server's clock is from this machine's: the times of writes are the server's.
type serverClock struct {
	ahead atomic.Int64 // nanoseconds
}

// measure compares with a record that was stored just now. Where that fails, the clocks are taken for the same.
func (c *serverClock) measure(ctx context.Context, m *Mirror, backend string) {
	raw, err := m.rawProgress(ctx, backend)
	if err == nil && !raw.Time.IsZero() {
		c.ahead.Store(int64(time.Until(raw.Time)))
	}
}

// now is the time on the server, about.
func (s *sender) now() time.Time { return time.Now().Add(time.Duration(s.clock.ahead.Load())) }
