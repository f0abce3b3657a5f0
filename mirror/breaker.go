package mirror

import (
	"sync"
	"time"

	"github.com/skybus-io/skybus/internal/backoff"
)

const breakAfter = 5 // failures in a row

// breaker keeps all lanes but one from a backend that does not answer.
type breaker struct {
	mu       sync.Mutex
	failures int // in a row
	until    time.Time
	probing  bool
}

func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures >= breakAfter
}

// allow tells how long to wait before asking again, or 0 when a request may be sent: then probe says that it is the only one.
func (b *breaker) allow() (wait time.Duration, probe bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < breakAfter {
		return 0, false
	}
	wait = max(time.Until(b.until), 0)
	switch {
	case b.probing:
		return max(wait, lastPause), false
	case wait > 0:
		return wait, false
	}
	b.probing = true
	return 0, true
}

// report tells how a request ended.
func (b *breaker) report(probe, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.probing = false
	}
	if ok {
		b.failures = 0
		return
	}
	b.failures++
	if b.failures >= breakAfter {
		b.until = time.Now().Add(backoff.Full(b.failures-breakAfter+3, firstPause, lastPause))
	}
}

// retry lets the next request through at once: the backend is said to be back.
func (b *breaker) retry() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until = time.Time{}
}
