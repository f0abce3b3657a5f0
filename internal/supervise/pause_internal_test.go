package supervise

import (
	"testing"
	"time"
)

func TestPause(t *testing.T) {
	t.Parallel()
	const most = 5 * time.Second
	p := pause{most: most}
	now := time.Now()
	// exit has the process end after it ran for a while, and checks the wait.
	exit := func(ran, atLeast, atMost time.Duration) {
		t.Helper()
		begin := now
		now = now.Add(ran)
		wait := p.next(begin, now)
		if wait < atLeast || wait > atMost {
			t.Errorf("exit %d in a row: wait %v, want %v to %v", p.quick, wait, atLeast, atMost)
		}
		now = now.Add(wait)
	}
	for range 3 {
		exit(time.Hour, 0, 0)
	}
	exit(time.Second, 0, 0)
	if count, _ := p.loop(now); count != 0 {
		t.Errorf("called a loop after one exit")
	}
	for ceiling := pauseFirst; ceiling < most; ceiling *= 2 {
		exit(0, ceiling/2, ceiling)
	}
	for range 100 {
		exit(time.Second, most/2, most)
	}
	if count, within := p.loop(now); count != 106 || within < 100*time.Second || within > 10*time.Minute {
		t.Errorf("loop: %d exits within %v", count, within)
	}
	exit(steady, 0, 0)
	if count, _ := p.loop(now); count != 0 {
		t.Errorf("called a loop after it ran for %v", steady)
	}
	exit(time.Second, 0, 0)
}
