//go:build unix

package integration_test

import (
	"slices"
	"syscall"
	"testing"
	"time"
)

const mirrorLease = 2 * time.Second // of the sender, as nobody has said otherwise

// TestMirrorSenderKilled kills the one of two processes that sends, again and again: the other one takes over as soon as the lease has ended, and repeats
// only the last writes.
func TestMirrorSenderKilled(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startMirrorServer(t)
	r := newMirrorRig(t, server.Ports["nats"], 3, 2)
	m := r.open()
	rounds := 2
	if long() {
		rounds = 10
	}
	w := startWriters(t, r.urls(), 8, 300)
	w.await(100)
	best := time.Hour
	for range rounds {
		at := r.sender(m)
		killed := time.Now()
		r.procs[at].Kill()
		w.await(300)
		took := r.pause(killed, time.Now())
		best = min(best, took)
		t.Logf("the sender was killed: nothing was applied for %v", took)
		r.restart(at)
		w.await(100)
	}
	if limit := mirrorLease + 500*time.Millisecond; best > limit { // the machine may be busy, but not each time
		t.Errorf("nothing was applied for %v at best, want at most %v", best, limit)
	}
	r.settle(w, nil)
}

// pause is the longest time between from and to without a write that is applied for the first time, by any copy.
func (r *mirrorRig) pause(from, to time.Time) time.Duration {
	r.t.Helper()
	at := []time.Time{from, to}
	for _, c := range r.copies {
		known := map[uint64]bool{}
		for _, a := range c.applied() {
			if when := time.Unix(0, a.At); !known[a.Seq] && when.After(from) && when.Before(to) {
				at = append(at, when)
			}
			known[a.Seq] = true
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	longest := time.Duration(0)
	for i := 1; i < len(at); i++ {
		longest = max(longest, at[i].Sub(at[i-1]))
	}
	return longest
}

// TestMirrorSenderStopped stops the one of two processes that sends as an operator does: the other one goes on at once, and nothing is repeated.
func TestMirrorSenderStopped(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startMirrorServer(t)
	r := newMirrorRig(t, server.Ports["nats"], 3, 2)
	m := r.open()
	w := startWriters(t, r.urls(), 8, 300)
	w.await(100)
	best := time.Hour
	for range 2 {
		at := r.sender(m)
		stopped := time.Now()
		r.procs[at].Stop(syscall.SIGTERM)
		w.await(100)
		took := r.pause(stopped, time.Now())
		best = min(best, took)
		t.Logf("the sender was stopped: nothing was applied for %v", took)
		r.restart(at)
		w.await(50)
	}
	if limit := mirrorLease / 2; best > limit {
		t.Errorf("nothing was applied for %v at best, want at most %v", best, limit)
	}
	r.settle(w, nil)
	for i, c := range r.copies {
		if v := r.judge(nil, c, 0, 0); v.repeats+v.replays > 0 {
			t.Errorf("copy %s was sent %d writes once more", copyName(i), v.repeats+v.replays)
		}
	}
}

// TestMirrorSenderFrozen stops the process that sends for longer than its lease, as a hung machine would. Another one takes over; the one that wakes up
// sends nothing out of order, and its commits are refused.
func TestMirrorSenderFrozen(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startMirrorServer(t)
	r := newMirrorRig(t, server.Ports["nats"], 3, 2)
	m := r.open()
	w := startWriters(t, r.urls()[:2], 16, 0)
	w.await(500)
	rounds := 2
	if long() {
		rounds = 8
	}
	for range rounds {
		at := r.sender(m)
		frozen := r.procs[at]
		begin := time.Now()
		frozen.Freeze()
		eventually(t, patience, "the other process sends", func() bool { return r.sender(m) != at })
		w.await(200)
		t.Logf("another process had taken over and applied %v after the freeze", time.Since(begin))
		frozen.Thaw()
		w.await(500)
		if owner := r.sender(m); owner == at {
			t.Error("the process that was frozen sends again, though another one has the lease")
		}
	}
	r.settle(w, nil)
}
