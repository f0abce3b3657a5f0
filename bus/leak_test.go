package bus_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// Close leaves no goroutine behind. Nothing may run beside this test: connections of others have goroutines too.
func TestCloseLeaksNothing(t *testing.T) {
	s := bustest.Server(t)
	before := clientGoroutines()
	for range 3 {
		c, err := bus.Connect(t.Context(), bus.Config{InProcess: s})
		if err != nil {
			t.Fatal(err)
		}
		stop := c.NotifyLoss(make(chan struct{}, 1))
		echo(t, c)
		inbox(t, c, "out")
		if _, err := request(t, c, patience, &nats.Msg{Subject: "echo"}); err != nil {
			t.Fatal(err)
		}
		open(t, c, streamConfig("ORDERS"))
		stopServer(t, s, c)
		s.Start(t)
		if err := c.WaitConnected(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(newGoroutines(before)) == 0 {
			t.Fatal("an open connection has no goroutine: this test shows nothing")
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		stop()
	}
	// One that failed, and one closed while its server was away.
	for range 3 {
		if _, err := bus.Connect(t.Context(), bus.Config{Server: freePort(t)}); err == nil {
			t.Fatal("connected to nobody")
		}
	}
	c := connect(t, s, bus.Config{})
	stopServer(t, s, c)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	wantNoGoroutines(t, before)
}

func wantNoGoroutines(t *testing.T, before map[string]string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		left := newGoroutines(before)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// newGoroutines are the stacks of those that were not there before.
func newGoroutines(before map[string]string) []string {
	var left []string
	for id, stack := range clientGoroutines() {
		if _, ok := before[id]; !ok {
			left = append(left, stack)
		}
	}
	return left
}

// clientGoroutines are the goroutines that run code of this package or of the NATS client, by "goroutine N".
func clientGoroutines() map[string]string {
	buf := make([]byte, 1<<20)
	for n := runtime.Stack(buf, true); n == len(buf); n = runtime.Stack(buf, true) {
		buf = make([]byte, 2*len(buf))
	}
	stacks := map[string]string{}
	for stack := range strings.SplitSeq(strings.TrimRight(string(buf), "\x00"), "\n\n") {
		if strings.Contains(stack, "TestCloseLeaksNothing") && !strings.Contains(stack, "created by github.com/nats-io/nats") {
			continue // the test itself
		}
		if strings.Contains(stack, "github.com/nats-io/nats%2ego") || strings.Contains(stack, "skybus/bus.") {
			id, _, _ := strings.Cut(stack, " [")
			stacks[id] = stack
		}
	}
	return stacks
}
