package scheduler

import "time"

// standstill is for how long nothing of this process has run, if it was stopped, or its machine was. It beats every watchEvery
// while anything is under way.
const standstill = time.Second

// beatLocked notes that the process runs. What happened while it stood still tells nothing of destinations.
func (c *courier) beatLocked(now time.Time) {
	if c.stoodStillLocked(now, now) {
		c.woke = now
		for _, d := range c.destinations {
			d.moved = now
		}
	}
	if now.After(c.beat) {
		c.beat = now
	}
}

// stoodStillLocked tells whether the process stood still at any time between then and now.
func (c *courier) stoodStillLocked(now, since time.Time) bool {
	return c.woke.After(since) || c.held.n > 0 && now.Sub(c.beat) > standstill
}

// stoodStill tells whether the process stood still at any time since then.
func (c *courier) stoodStill(since time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stoodStillLocked(time.Now(), since)
}
