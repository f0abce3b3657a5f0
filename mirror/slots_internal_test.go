package mirror

import (
	"testing"
	"time"
)

// A backend that is behind gets more requests at once where few of them do not bring it level, and never more than there are lanes.
func TestSlotsGrow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		speed float64 // seconds of writes that are applied in a second
		want  int
	}{"loses ground": {0.3, 64}, "keeps pace": {1, 64}, "gains little": {1.5, 64}, "gains": {2.5, 4}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSlots(4, 64)
			begin := time.Now()
			stored := begin.Add(-time.Hour)
			for tick := range 1000 { // 10 s
				passed := time.Duration(tick) * 10 * time.Millisecond
				s.applied(begin.Add(passed), stored.Add(time.Duration(c.speed*float64(passed))))
			}
			free := 0
			for range 65 {
				select {
				case s.taken <- struct{}{}:
					free++
				default:
				}
			}
			if s.given != c.want || free != c.want {
				t.Errorf("%d slots are given, %d free, want %d", s.given, free, c.want)
			}
		})
	}
}

// Times in which nothing was applied say nothing of how many are needed.
func TestSlotsAfterSilence(t *testing.T) {
	t.Parallel()
	s := newSlots(4, 64)
	now := time.Now()
	for range 20 {
		now = now.Add(10 * time.Second)
		s.applied(now, now.Add(-time.Hour))
	}
	if s.given != 4 {
		t.Errorf("%d slots are given, want 4", s.given)
	}
}
