package bustest

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
)

// stragglerTime is fake and longer than nats.go's drain timeout.
const stragglerTime = time.Minute

// Bubble runs f in fake time, as [synctest.Test] does, with room for a whole server:
// inside, [Server] works, and a test may sleep through hours of key expiry and
// schedules in milliseconds. The clock starts at midnight UTC 2000-01-01 and moves
// only while every goroutine of the bubble waits.
//
// What f starts must end within a fake minute after it; servers and connections of
// this package do. There is no TCP inside, and no [Cluster]. A test with a bubble cannot be
// parallel, nor can any test around it: nats.go shares timers between all
// connections of the process, and one from outside must not get in.
func Bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	// The one check for a parallel test that testing offers: it panics.
	t.Setenv("BUSTEST_BUBBLE", "1")

	// The server's shared clock waits on a channel of the process, which fake time
	// would wait for without end. It runs outside as long as somebody registered.
	ats.Register()
	defer ats.Unregister()

	dropPooledTimers()
	defer dropPooledTimers()
	synctest.Test(t, func(t *testing.T) {
		// Runs after every other clean-up: fake time stops with the bubble, so who
		// still sleeps then, as a draining connection does, would never wake.
		t.Cleanup(func() { time.Sleep(stragglerTime) })
		f(t)
	})
}

// dropPooledTimers empties nats.go's pool of timers: a timer belongs to the bubble
// it was made in, and stops the process when used in another. A sync.Pool gives
// up its content at the second collection.
func dropPooledTimers() {
	runtime.GC()
	runtime.GC()
}

// inBubble tells whether the caller runs in fake time.
func inBubble() (in bool) {
	defer func() { in = recover() == nil }()
	synctest.Wait() // panics outside
	return true
}
