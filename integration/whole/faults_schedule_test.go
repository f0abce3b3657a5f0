//go:build unix

package whole_test

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestSchedule looks whether a schedule is what its seed says and leaves nothing out.
func TestSchedule(t *testing.T) {
	t.Parallel()
	if one, same := newSchedule(1, false).faults(time.Minute), newSchedule(1, false).faults(time.Minute); !slices.Equal(one, same) {
		t.Errorf("one seed has two schedules:\n%v\n%v", one, same)
	}
	if one, other := newSchedule(1, false).faults(time.Minute), newSchedule(2, false).faults(time.Minute); slices.Equal(one, other) {
		t.Errorf("two seeds have one schedule: %v", one)
	}
	if one, longer := newSchedule(1, false).faults(time.Minute), newSchedule(1, false).faults(2*time.Minute); !slices.Equal(one, longer[:len(one)]) {
		t.Errorf("a longer schedule begins in another way:\n%v\n%v", one, longer)
	}
	of := map[string]int{}
	for _, f := range newSchedule(3, true).faults(0) {
		of[f.of]++
	}
	for _, kind := range processKinds() {
		if of[kind] != 1 {
			t.Errorf("the short form breaks %s %d times, want once", kind, of[kind])
		}
	}
	both := map[string]int{}
	long := newSchedule(4, false).faults(longFaults)
	for _, f := range long {
		both[f.of+" "+f.kind]++
	}
	for _, of := range processKinds() {
		for _, kind := range []string{killed, frozen, restarted} {
			if both[of+" "+kind] < 2 {
				t.Errorf("the long form has %s %s %d times, want twice or more", of, kind, both[of+" "+kind])
			}
		}
	}
	t.Log(fmt.Sprint(len(long), " faults in ", longFaults))
}
