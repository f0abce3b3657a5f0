package scheduler

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxFinished = 1 << 18 // of each generation
	finishedAge = time.Minute
)

// finished knows deliveries that are over: those of the last minute at least, as long as they are not too many. Their messages may come
// again, where an acknowledgement got lost. It keeps them as 128 bits, by which no two are taken for each other.
type finished struct {
	seeds [2]maphash.Seed

	mu         sync.Mutex
	young, old map[[2]uint64]struct{}
	turned     time.Time
}

func newFinished() finished {
	return finished{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, young: map[[2]uint64]struct{}{}, turned: time.Now()}
}

func (f *finished) key(id string) [2]uint64 {
	return [2]uint64{maphash.String(f.seeds[0], id), maphash.String(f.seeds[1], id)}
}

func (f *finished) add(id string) {
	k, now := f.key(id), time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.young) >= maxFinished || len(f.young) > 0 && now.Sub(f.turned) > finishedAge {
		f.old, f.young, f.turned = f.young, map[[2]uint64]struct{}{}, now
	}
	f.young[k] = struct{}{}
}

func (f *finished) has(id string) bool {
	k := f.key(id)
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.young[k]; ok {
		return true
	}
	_, ok := f.old[k]
	return ok
}

// sometimes is for what is not worth being told each time.
type sometimes struct {
	last   atomic.Int64
	missed atomic.Int64
}

// now tells whether it is told now, and how often it was not since the last time.
func (s *sometimes) now(every time.Duration) (missed int64, ok bool) {
	now, last := time.Now().UnixNano(), s.last.Load()
	if last != 0 && now-last < int64(every) || !s.last.CompareAndSwap(last, now) {
		s.missed.Add(1)
		return 0, false
	}
	return s.missed.Swap(0), true
}
