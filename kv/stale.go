package kv

import (
	"strconv"
	"time"
)

// staleGrace is how long, beside another TTL, a key may outlive its TTL before it counts as expired here. The server takes about
// a second, and the clocks of a cluster differ.
const staleGrace = 5 * time.Second

// serverClock is the time of the bucket's leader when it was last asked.
type serverClock struct {
	server time.Time
	local  time.Time
}

// setClock notes the server's time.
func (b *bucket) setClock(server time.Time) {
	if !server.IsZero() {
		b.clock.Store(&serverClock{server, time.Now()})
	}
}

// stale tells whether r should have expired long ago. A server that is stopped, started, killed and started again brings back
// messages whose TTL was over before, and those it no longer counts down (2.15.2): without this a key of the dead would be
// there for ever, and with it a lease that nobody holds. Where all must expire, so is what does not: nobody of ours wrote it.
func (b *bucket) stale(r record) bool {
	if b.cfg.expiring && r.ttl <= 0 {
		return !r.deleted
	}
	c := b.clock.Load()
	if c == nil || r.ttl <= 0 || r.deleted {
		return false
	}
	now := c.server.Add(time.Since(c.local))
	return now.Sub(r.time) > 2*r.ttl+staleGrace
}

// parseTTL reads the header Nats-TTL: seconds, or a duration. What is neither means no expiry.
func parseTTL(v string) time.Duration {
	if n, err := strconv.ParseInt(v, 10, 32); err == nil {
		return time.Duration(n) * time.Second
	}
	d, _ := time.ParseDuration(v)
	return d
}
