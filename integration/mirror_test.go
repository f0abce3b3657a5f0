//go:build unix

package integration_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/skybus-io/skybus/mirror"
)

// startMirrorServer starts a server that does not wait for the disk: in most tests what ends is a process of the mirror, or a copy.
func startMirrorServer(t *testing.T) *platform {
	t.Helper()
	return startServer(t, "--sync", "1s")
}

// TestMirrorCopyDown ends one of three copies for a while: the clients do not notice, and when it is back it catches up much faster than they write.
func TestMirrorCopyDown(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startMirrorServer(t)
	r := newMirrorRig(t, server.Ports["nats"], 3, 1)
	away := 8 * time.Second
	if long() {
		away = time.Minute
	}
	const rate = 500
	w := startWriters(t, r.urls(), 16, rate)
	w.await(rate)
	healthy := time.Now()
	w.await(3 * rate)
	c := r.copies[2]
	memory := resident(r.procs[0])
	killed := time.Now()
	c.Kill()
	time.Sleep(away) // that is how long it is away
	full := resident(r.procs[0])
	queued := r.lastStored() - uint64(len(c.applied()))
	back := time.Now()
	c.restart()
	at := len(c.applied())
	eventually(t, patience, "the copy is sent writes again", func() bool { return len(c.applied()) > at })
	began := time.Now()
	eventually(t, patience, "the copy is level", func() bool {
		last := r.lastStored()
		return c.lacks(0, last-min(last, 50)) == 0 // it is never quite level with clients that go on
	})
	level := time.Now()
	drained := float64(len(c.applied())-at) / level.Sub(began).Seconds()
	w.await(rate)
	all := w.snapshot()
	before, during, draining := latenciesOf(all, healthy, killed), latenciesOf(all, killed, back), latenciesOf(all, began, level)
	t.Logf("away %v with %d writes queued; asked again %v after it was back, drained at %.0f/s", back.Sub(killed), queued, began.Sub(back), drained)
	t.Logf("clients: before %v; while it was away %v; while it drained %v", before, during, draining)
	t.Logf("memory of the mirror: %s before, %s with the writes queued, %s drained", memory, full, resident(r.procs[0]))
	if during.gap > 2*time.Second {
		t.Errorf("clients were without an answer for %v while a copy was away", during.gap)
	}
	r.settle(w, nil)
}

// TestMirrorCopyKilledInMidRequest kills a copy that has applied writes and not answered them: they are sent to it once more, as the same ones.
func TestMirrorCopyKilledInMidRequest(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startMirrorServer(t)
	r := newMirrorRig(t, server.Ports["nats"], 3, 1)
	w := startWriters(t, r.urls(), 8, 300)
	w.await(100)
	c := r.copies[0]
	for range 2 {
		c.fail(faults{Stall: 5})
		c.Await(`(stalled\n){5}`)
		c.Kill()
		c.restart()
		w.await(100)
	}
	r.settle(w, nil)
	repeats := r.judge(nil, c, 0, 0).repeats
	if repeats < 10 {
		t.Errorf("%d writes were repeated, want at least the 10 that were not answered", repeats)
	}
}

// TestMirrorCopyFails lets a copy fail in every way there is while the others work.
func TestMirrorCopyFails(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startMirrorServer(t)
	r := newMirrorRig(t, server.Ports["nats"], 3, 1)
	w := startWriters(t, r.urls(), 8, 300)
	w.await(100)
	for _, f := range []faults{
		{Fail: 0.1},
		{Unavailable: 0.1},
		{Hang: 0.01, HangFor: 2 * time.Second}, // longer than a try
		{Cut: 0.1},
		{Fail: 0.03, Unavailable: 0.03, Hang: 0.003, HangFor: 2 * time.Second, Cut: 0.03},
	} {
		begin := time.Now()
		r.copies[1].fail(f)
		w.await(200)
		l := latenciesOf(w.snapshot(), begin, time.Now())
		t.Logf("%+v: %v", f, l)
		if l.gap > 2*time.Second {
			t.Errorf("clients were without an answer for %v while a copy failed: %+v", l.gap, f)
		}
	}
	r.copies[1].fail(faults{})
	r.settle(w, nil)
}

// TestMirrorKilledAfterItsAnswer kills the mirror as soon as it has answered, when most copies have not got the write yet. They get it after it is started again.
func TestMirrorKilledAfterItsAnswer(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startMirrorServer(t)
	r := newMirrorRig(t, server.Ports["nats"], 3, 1)
	rounds := 3
	if long() {
		rounds = 20
	}
	w := startWriters(t, r.urls(), 0, 1)
	for _, c := range r.copies[1:] {
		c.fail(faults{Delay: 40 * time.Millisecond})
	}
	behind := 0
	for i := range rounds {
		for n := range 40 { // so that each lane has some that are applied, and some that are not
			s := w.write(r.urls()[0], apply{Method: http.MethodPut, Path: fmt.Sprintf("/item/%d", n%10), Body: fmt.Sprintf("%d-%d", i, n)})
			if s.stored != accepted {
				t.Fatalf("answered %d %s", s.status, s.text)
			}
		}
		r.procs[0].Kill()
		last := w.all[len(w.all)-1].Seq
		for _, c := range r.copies {
			if c.lacks(0, last) > 0 {
				behind++
			}
		}
		r.restart(0)
	}
	if behind == 0 {
		t.Error("all copies had every write when the mirror was killed: nothing was tried")
	}
	r.settle(w, nil)
}

// TestMirrorCopyRefuses lets a copy refuse one write that the others take: that one is parked, nothing else is lost, and it can be tried again.
func TestMirrorCopyRefuses(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startMirrorServer(t)
	r := newMirrorRig(t, server.Ports["nats"], 3, 1)
	m := r.open()
	w := startWriters(t, r.urls(), 8, 300)
	w.await(100)
	const path = "/refused"
	r.copies[1].fail(faults{Refuse: path})
	s := w.write(r.urls()[0], apply{Method: http.MethodPut, Path: path, Body: "refused", Key: "refused"})
	if s.status != http.StatusOK {
		t.Errorf("answered %d %s, though two copies took it", s.status, s.text)
	}
	parked := func() (all []mirror.ParkedWrite) {
		for p, err := range m.Parked().List(t.Context(), mirror.ParkedFilter{}) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, p)
		}
		return all
	}
	eventually(t, patience, "the write is parked", func() bool { return len(parked()) > 0 })
	w.await(100)
	if all := parked(); len(all) != 1 || all[0].Backend != "b" || all[0].Seq != s.Seq || all[0].Status != http.StatusBadRequest || all[0].Others != "taken" {
		t.Errorf("parked are %+v, want write %d for b alone", all, s.Seq)
	}
	last := r.lastStored()
	eventually(t, patience, "all that was refused by none is applied", func() bool {
		r.copies[1].lacks(0, last)
		r.copies[1].seen[s.Seq] = true
		return r.copies[1].lacks(0, last) == 0
	})
	delete(r.copies[1].seen, s.Seq)
	r.copies[1].fail(faults{})
	if _, err := m.Parked().Retry(t.Context(), "b", s.Seq); err != nil {
		t.Fatal(err)
	}
	if all := parked(); len(all) > 0 {
		t.Errorf("after the retry parked are %+v", all)
	}
	r.retried = s.Seq
	r.settle(w, nil)
}
