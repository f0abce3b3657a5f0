package registry

import (
	"context"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// mercy is how long nobody is shown as offline after a time in which signs of life may have had no way: after the election of
// a leader of one of the buckets, and after a lost connection. Who lives gives one within it: an announcer's attempt without
// an answer takes 2 s, and the next follows within about 1 s (docs/adr/0013).
const mercy = 5 * time.Second

// heed notes until when the end of a liveness proves nothing, until ctx ends.
func (r *Registry) heed(ctx context.Context, conn *bus.Conn) {
	elected, lost := make(chan struct{}, 1), make(chan struct{}, 1)
	defer r.liveness.NotifyElected(elected)()
	defer r.instances.NotifyElected(elected)() // who has missed its TTL looks there first
	defer conn.NotifyLoss(lost)()
	reconnects := conn.NATS().Stats().Reconnects
	for {
		select {
		case <-ctx.Done():
			return
		case <-elected:
		case <-lost:
			before := reconnects
			if reconnects = conn.NATS().Stats().Reconnects; reconnects == before {
				continue // a slow subscription
			}
		}
		r.mu.Lock()
		r.doubt = time.Now().Add(mercy)
		r.mu.Unlock()
	}
}

// fade ends a liveness whose record stayed, unless that is in doubt: then later.
func (r *Registry) fade(key, service string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	timer := r.fading[key]
	if timer == nil {
		return
	}
	if wait := time.Until(r.doubt); wait > 0 {
		timer.Reset(wait)
		return
	}
	delete(r.fading, key)
	delete(r.alive, key)
	r.publishLocked(map[string]struct{}{service: {}})
}
