package main

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	gcEvery    = time.Second      // between looks
	gcInterval = 10               // seconds between collections, at least, as long as there is memory for that,
	gcShare    = 40 << 20         // and one more for each so many bytes that live: to go through 4 GB takes a core some ten seconds
	gcStart    = 400              // percent
	gcRoom     = 128 << 20        // bytes of garbage, unless a command says less, but
	gcMost     = 50               // percent may always be, and
	gcLeast    = 10               // percent are always
	gcSlack    = 32 << 20         // bytes that nobody needs, and are not worth giving back
	gcRest     = 30 * time.Second // between two times that memory is given back
)

// gcPercent is how much may be allocated between two collections, in percent of what lives: little while little is allocated, since then it costs
// nothing; else much while little lives, since then it takes little memory, and less where much does, as in a server with a million
// timers.
func gcPercent(live, perSecond, room uint64) int {
	most := min(max(100*room/max(live, 1), gcMost), gcStart)
	interval := max(gcInterval, live/gcShare)
	return int(min(max(100*interval*perSecond/max(live, 1), gcLeast), most))
}

// gcMemory is what of the memory is of interest, in bytes.
type gcMemory struct {
	live      uint64 // at the last collection
	allocated uint64 // since the start
	garbage   uint64 // about
	free      uint64 // and not given back to the system
}

func readGC(samples []metrics.Sample) gcMemory {
	metrics.Read(samples)
	m := gcMemory{live: samples[0].Value.Uint64(), allocated: samples[1].Value.Uint64(), free: samples[3].Value.Uint64()}
	m.garbage = max(samples[2].Value.Uint64(), m.live) - m.live
	return m
}

func gcSamples() []metrics.Sample {
	return []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
}

// tuneGC goes by gcPercent until stop is called, and gives memory back after a burst; unless the environment says otherwise.
func tuneGC(room uint64) (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	percent := gcPercent(0, 1, room)
	before := debug.SetGCPercent(percent)
	wg.Go(func() {
		ticker := time.NewTicker(gcEvery)
		defer ticker.Stop()
		samples := gcSamples()
		last, pace, rested := readGC(samples), uint64(0), time.Now()
		for {
			select {
			case <-ticker.C:
			case <-done:
				return
			}
			m := readGC(samples)
			pace = max(m.allocated-last.allocated, pace*3/4) // it goes up at once and down in seconds
			last = m
			if p := gcPercent(m.live, pace, room); p != percent {
				debug.SetGCPercent(p)
				percent = p
			}
			if waste := m.garbage + m.free; percent == gcLeast && waste > gcSlack && waste > m.live/4 && time.Since(rested) > gcRest {
				debug.FreeOSMemory() // it collects, too
				rested = time.Now()
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
		debug.SetGCPercent(before)
	}
}
