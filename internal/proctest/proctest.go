// Package proctest runs programs under test as processes of their own: starts them, kills, freezes and stops them, and starts them
// again where they were. What a process wrote is shown when its test fails.
//
// Everything that takes a test ends it when it cannot do what it says, so all of it must be called from the goroutine of that test.
// Processes end with the test that started them, the last one first, and on Linux also when the tests are killed.
package proctest

import (
	"bytes"
	"sync"
	"testing"
	"time"
)

// Patience is how long is waited for what has no deadline of its own.
const Patience = time.Minute

const (
	shortest = 2 * time.Millisecond // between two looks
	longest  = 50 * time.Millisecond
)

// Eventually returns when a condition holds, and ends the test if that takes longer than within. The longer it waits the more
// seldom it looks: every 52 ms at most.
func Eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	if !Within(within, holds) {
		t.Fatalf("not so after %v: %s", within, what)
	}
}

// Within tells whether a condition comes to hold in so long, and returns as soon as it does.
func Within(within time.Duration, holds func() bool) bool {
	for begin := time.Now(); !holds(); time.Sleep(shortest + min(time.Since(begin)/10, longest)) {
		if time.Since(begin) > within {
			return false
		}
	}
	return true
}

// output is what a process has written.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed at the next write
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

// Write appends.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(b)
}

func (o *output) read() (text string, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.changed
}

const tailBytes = 8 << 10

// tail is the end of the text, where the reasons are.
func (o *output) tail() string {
	text, _ := o.read()
	if len(text) > tailBytes {
		text = "...\n" + text[len(text)-tailBytes:]
	}
	return text
}
