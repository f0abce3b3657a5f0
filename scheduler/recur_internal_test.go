package scheduler

import (
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus/bustest"
)

// recurring makes a timer that nobody fires, the first of whose occurrences, each second, was due ago.
func recurring(t *testing.T, s *Scheduler, ago time.Duration, repeat Repeat) (*shard, *stored) {
	t.Helper()
	repeat.Every = time.Second
	target := Target{URI: "http://127.0.0.1:9999/"}
	if _, err := s.Create(t.Context(), Spec{ID: "a", At: time.Now().Add(-ago), Target: target, Repeat: &repeat}); err != nil {
		t.Fatal(err)
	}
	sh := s.shard("a")
	m, err := s.pending(t.Context(), sh, "a")
	if err != nil {
		t.Fatal(err)
	}
	return sh, m
}

// underWayNow is which occurrences of the timer are under way, in their order.
func underWayNow(t *testing.T, s *Scheduler, sh *shard) (numbers []int64) {
	t.Helper()
	deliveries, err := s.deliveries(t.Context(), sh, "a")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range deliveries {
		numbers = append(numbers, d.record.N)
	}
	return numbers
}

// An occurrence that was stored although its answer was lost is not in its own way when it is fired again: it has happened, once, and instead of no other.
func TestFiredWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		repeat         Repeat
		stored         int64 // the occurrence whose answer was lost, of three that are due
		fired, skipped int64
	}{
		"skip":          {Repeat{Overlap: Skip}, 3, 1, 2},
		"skip, earlier": {Repeat{Overlap: Skip}, 2, 1, 2},
		"buffer one":    {Repeat{Overlap: BufferOne}, 1, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openIn(t, bustest.Server(t), "dev")
			sh, m := recurring(t, s, 2500*time.Millisecond, tt.repeat)
			table, err := m.record.Repeat.timetable(m.record.Gen, s.zones)
			if err != nil {
				t.Fatal(err)
			}
			occ, ok := table.ahead(m.occurrence(), tt.stored-1)
			if !ok {
				t.Fatal("there is no such occurrence")
			}
			f, err := m.of(occ)
			if err != nil {
				t.Fatal(err)
			}
			due := sh.dueMessage(f, time.Now())
			due.Header.Del(nats.MsgIdHdr) // as if that was more than two minutes ago
			if err := s.storeDue(t.Context(), due); err != nil {
				t.Fatal(err)
			}
			fired, skipped, err := s.fireRecurring(t.Context(), sh, m)
			if err != nil || fired != tt.fired || skipped != tt.skipped {
				t.Errorf("%d fired, %d skipped, %v, want %d and %d", fired, skipped, err, tt.fired, tt.skipped)
			}
			if got := underWayNow(t, s, sh); int64(len(got)) != tt.fired || got[0] != tt.stored {
				t.Errorf("under way are %d, want %d, and first %d", got, tt.fired, tt.stored)
			}
		})
	}
}

// What a cancel left behind, and what a replica that is behind still has, keeps nothing from happening, however much it is.
func TestGoneIsNotUnderWay(t *testing.T) {
	t.Parallel()
	s := openIn(t, bustest.Server(t), "dev")
	sh, m := recurring(t, s, 0, Repeat{})
	for i := range fewUnderWay + 4 {
		if _, err := s.js.Publish(t.Context(), sh.retry("a", "a-G-"+strconv.Itoa(i)), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.aboutUnderWay(t.Context(), sh, "a"); err != nil || n <= fewUnderWay {
		t.Fatalf("about %d, %v, want more than %d", n, err, fewUnderWay)
	}
	if fired, skipped, err := s.fireRecurring(t.Context(), sh, m); fired != 1 || skipped != 0 || err != nil {
		t.Errorf("%d fired, %d skipped, %v, want one that fires", fired, skipped, err)
	}
}
