package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// lullPatience is how long deliveries of a shard wait, after the connection came back, before that is told.
const lullPatience = 5 * time.Second

// lull is a time in which deliveries of a shard wait for its server. Of all its pullers one tells that it began, and one that it is over.
type lull struct {
	mu      sync.Mutex
	pullers int // that wait
	since   time.Time
	told    bool
}

// begin is told of each fault, by a puller that waits already or begins to, and tells whether to tell of it. What follows a
// reconnection may be over in a moment.
func (l *lull) begin(first, renewed bool, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	plain := false
	if first {
		if l.pullers++; l.pullers == 1 {
			l.since, plain = now, !renewed
		}
	}
	if l.told || !plain && now.Sub(l.since) < lullPatience {
		return false
	}
	l.told = true
	return true
}

// end is told once by a puller that has waited. It tells whether to tell that the lull is over, and how long it was.
func (l *lull) end(now time.Time) (took time.Duration, tell bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pullers--; l.pullers > 0 {
		return 0, false
	}
	tell, l.told = l.told, false
	return now.Sub(l.since), tell
}

// waitsFor notes a fault that keeps the puller from taking messages.
func (p *puller) waitsFor(ctx context.Context, fault error) {
	level := slog.LevelDebug
	if p.lull.begin(!p.waits, errors.Is(fault, errRenew), time.Now()) {
		level = slog.LevelWarn
	}
	p.waits = true
	p.courier.log.Log(ctx, level, "deliveries of a shard are waiting", "shard", p.shard.shard, "error", fault)
}

// goesOn notes that the server serves the puller.
func (p *puller) goesOn(ctx context.Context) {
	if !p.waits {
		return
	}
	p.waits = false
	if took, tell := p.lull.end(time.Now()); tell {
		p.courier.log.InfoContext(ctx, "deliveries of a shard go on", "shard", p.shard.shard, "waited", took.Round(time.Millisecond).String())
	}
}
