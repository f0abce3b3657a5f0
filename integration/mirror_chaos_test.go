//go:build unix

package integration_test

import (
	"flag"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"
)

var _ = flag.Uint64("seed", 0, "of the tests that do things by chance; 0 means the time")

// chance is for what happens by chance, and the same again with the same seed as far as the machine lets it.
func chance(t *testing.T) *rand.Rand {
	t.Helper()
	seed := flag.Lookup("seed").Value.(flag.Getter).Get().(uint64) //nolint:forcetypeassert // it is one
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) //nolint:gosec // not negative
	}
	t.Logf("-seed %d", seed)
	return rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // for tests
}

// TestMirrorAllAtOnce lets everything fail at once: copies are flaky, slow and killed, processes of the mirror are killed, stopped and frozen, the server is killed.
func TestMirrorAllAtOnce(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	rnd := chance(t)
	server := startServer(t)
	r := newMirrorRig(t, server.Ports["nats"], 3, 2)
	m := r.open()
	flaky := func(c *copyProcess) {
		c.fail(faults{
			Seed: rnd.Uint64(), Fail: 0.02, Unavailable: 0.02, Cut: 0.02, Hang: 0.002, HangFor: 1500 * time.Millisecond, Delay: time.Duration(rnd.IntN(3)) * time.Millisecond,
		})
	}
	for _, c := range r.copies {
		flaky(c)
	}
	w := startWriters(t, r.urls(), 12, 300)
	w.await(100)
	during := 10 * time.Second
	if long() {
		during = 3 * time.Minute
	}
	kills := map[string]int{}
	for begin := time.Now(); time.Since(begin) < during; {
		time.Sleep(time.Second + time.Duration(rnd.IntN(2000))*time.Millisecond) // between two kills
		at := rnd.IntN(len(r.procs))
		if rnd.IntN(3) > 0 {
			at = r.sender(m)
		}
		switch n := rnd.IntN(10); {
		case n < 4:
			kills["sender killed"]++
			r.procs[at].Kill()
			r.restart(at)
		case n < 5:
			kills["sender stopped"]++
			r.procs[at].Stop(syscall.SIGTERM)
			r.restart(at)
		case n < 6:
			kills["sender frozen"]++
			r.procs[at].Freeze()
			time.Sleep(time.Duration(rnd.IntN(4000)) * time.Millisecond) // it may lose the lease or not
			r.procs[at].Thaw()
		case n < 9:
			kills["copy killed"]++
			c := r.copies[rnd.IntN(len(r.copies))]
			c.Kill()
			c.restart()
			flaky(c)
		default:
			kills["server killed"]++
			server.Kill()
			server = server.Restart()
		}
	}
	t.Logf("%v", kills)
	for _, c := range r.copies {
		c.fail(faults{})
	}
	r.settle(w, nil)
}
