package mirror

import (
	"context"
	"sync"
	"time"
)

// slotsEvery is how often slots looks whether they are enough.
const slotsEvery = time.Second

// slots bounds how many requests are under way at once to a backend that is behind, so that others have the machine. They begin few, and are
// doubled while the writes that are applied do not become younger by as much as time goes by: a backend that takes long for each would never be
// level otherwise. What it needed once, it keeps.
type slots struct {
	taken chan struct{} // by requests, and by what is not given out yet

	mu     sync.Mutex
	given  int
	since  time.Time // when counting began
	count  int
	sum    time.Duration // of the ages of the writes applied since
	before time.Duration // their mean in the turn before; negative when there was none
}

func newSlots(given, most int) *slots {
	most = max(given, most)
	s := &slots{taken: make(chan struct{}, most), given: given, before: -1}
	for range most - given {
		s.taken <- struct{}{}
	}
	return s
}

// take waits for a slot. The error is why ctx ended.
func (s *slots) take(ctx context.Context) error {
	select {
	case s.taken <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *slots) give() { <-s.taken }

// applied notes at now that a write stored at the time at has been applied.
func (s *slots) applied(now, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	passed := now.Sub(s.since)
	if passed > 3*slotsEvery { // it was away, or level
		s.since, s.count, s.sum, s.before, passed = now, 0, 0, -1, 0
	}
	s.count++
	s.sum += now.Sub(at)
	if passed < slotsEvery {
		return
	}
	age := s.sum / time.Duration(s.count)
	if s.before >= 0 && age > s.before-passed {
		for more := min(s.given, cap(s.taken)-s.given); more > 0; more-- {
			<-s.taken // one of those that were not given out, or a request's, which then gives back one of those
			s.given++
		}
	}
	s.since, s.count, s.sum, s.before = now, 0, 0, age
}
