package supervise

import (
	"math/rand/v2"
	"time"
)

const (
	steady     = 10 * time.Second // who ran for as long is not in a loop
	pauseFirst = 200 * time.Millisecond
	loopExits  = 3 // from this many on it is called a loop
)

// pause is how long to wait before a process is started again. Who ran for a while is replaced at once, also the first that
// did not; then the wait doubles, with some jitter, since copies tend to die together.
type pause struct {
	most  time.Duration
	quick int       // exits in a row, each soon after its start
	since time.Time // start of the first of them
}

// next is how long to wait after a process ran from begin to end.
func (p *pause) next(begin, end time.Time) time.Duration {
	if end.Sub(begin) >= steady {
		p.quick = 0
		return 0
	}
	if p.quick++; p.quick == 1 {
		p.since = begin
		return 0
	}
	ceiling := p.most
	if shift := p.quick - 2; shift < 20 {
		ceiling = min(p.most, pauseFirst<<shift)
	}
	return (ceiling/2 + rand.N(ceiling/2)).Round(time.Millisecond)
}

// loop tells how often and in what time a process exited that exits again and again; a count of 0 means that it does not.
func (p *pause) loop(now time.Time) (count int, within time.Duration) {
	if p.quick < loopExits {
		return 0, 0
	}
	return p.quick, now.Sub(p.since).Round(time.Millisecond)
}
