package main

import (
	"runtime/debug"
	"testing"
)

func TestTuneGC(t *testing.T) { // not parallel: it sets what holds for the process
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetGCPercent(123)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	stop := tuneGC(gcRoom)
	if p := debug.SetGCPercent(gcPercent(0, 1, gcRoom)); p != gcPercent(0, 1, gcRoom) {
		t.Errorf("while it tunes the percentage is %d, want %d", p, gcPercent(0, 1, gcRoom))
	}
	stop()
	if p := debug.SetGCPercent(123); p != 123 {
		t.Errorf("after it the percentage is %d, want what it was", p)
	}
	t.Setenv("GOGC", "77")
	tuneGC(gcRoom)()
	if p := debug.SetGCPercent(123); p != 123 {
		t.Errorf("with GOGC it became %d", p)
	}
	for last, live := 1000, uint64(0); live < 4<<30; live += 32 << 20 {
		p, idle := gcPercent(live, 1<<30, gcRoom), gcPercent(live, 0, gcRoom)
		if p > last || p < 25 || idle != gcLeast {
			t.Errorf("%d percent of %d bytes, %d without allocations", p, live, idle)
		}
		last = p
	}
	if p := gcPercent(400<<20, 10<<20, gcRoom); p != 25 {
		t.Errorf("%d percent where a fortieth is allocated each second, want 25: a collection in 10 s", p)
	}
	if p := gcPercent(4<<30, 10<<20, gcRoom); p != 24 {
		t.Errorf("%d percent of 4 GiB where 10 MiB are allocated each second, want 24: a collection in 100 s", p)
	}
}
