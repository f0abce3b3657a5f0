package main

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const gcEvery = time.Second

// gcPercent is how much may be allocated between two collections, in percent of what lives: much while little lives, since then it costs little
// memory and saves much time; little where much does, as in a server with a million timers.
func gcPercent(live uint64) int {
	switch {
	case live < 64<<20:
		return 400
	case live < 256<<20:
		return 200
	case live < 512<<20:
		return 100
	}
	return 50
}

// tuneGC goes by gcPercent until stop is called, unless the environment says otherwise.
func tuneGC() (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	before := debug.SetGCPercent(gcPercent(0))
	wg.Go(func() {
		ticker := time.NewTicker(gcEvery)
		defer ticker.Stop()
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		now := gcPercent(0)
		for {
			select {
			case <-ticker.C:
			case <-done:
				return
			}
			metrics.Read(sample)
			if p := gcPercent(sample[0].Value.Uint64()); p != now {
				debug.SetGCPercent(p)
				now = p
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
		debug.SetGCPercent(before)
	}
}
