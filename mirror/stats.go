package mirror

import (
	"sync/atomic"
	"time"
)

// counts are those of a process.
type counts struct {
	stored, refused, queued atomic.Uint64
	parked                  atomic.Uint64
}

// nodeCounts are those of a backend in a process.
type nodeCounts struct {
	retries, ok, failed atomic.Uint64
	diverged            atomic.Uint64
}

func (c *nodeCounts) write(_ time.Time, _ *answer, err error) {
	if err != nil {
		c.failed.Add(1)
		return
	}
	c.ok.Add(1)
}
