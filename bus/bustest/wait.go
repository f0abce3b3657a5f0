package bustest

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	waitFor  = time.Minute // for what comes at once on a machine with nothing else to do
	endWait  = 20 * time.Second
	stackMax = 16 << 20
)

// Eventually waits until cond holds, and fails the test when it does not within a minute. It asks every millisecond; in
// a [Bubble] both are of fake time.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitFor); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", waitFor, what)
		}
	}
}

// Receive takes one value from ch, and fails the test when none comes within a minute; in a [Bubble] that is of fake time. Of a closed channel it is
// the zero value, at once.
func Receive[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	late := time.NewTimer(waitFor)
	defer late.Stop()
	select {
	case v := <-ch:
		return v
	case <-late.C:
		t.Fatalf("waited %v for %s", waitFor, what)
		panic("unreachable")
	}
}

// Hold waits until something comes from release or it is closed, or the test ends, also by its failure: so a handler that is held does not hold up
// what cleans up.
func Hold(t testing.TB, release <-chan struct{}) {
	t.Helper()
	select {
	case <-release:
	case <-t.Context().Done():
	}
}

// Main runs the tests of a package and exits, for its TestMain. It fails them when goroutines of NATS connections, or of
// packages whose import paths begin with one of the prefixes, are left 20 seconds after the last test.
func Main(m *testing.M, prefixes ...string) {
	code := m.Run()
	if code == 0 {
		if err := Leaks(prefixes...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// Leaks is the check of [Main], for a TestMain that has more to do: after the tests, it waits at most 20 seconds for the
// goroutines to end, and the error has the stacks of those that did not.
func Leaks(prefixes ...string) error {
	left := leaked(append(slices.Clip(prefixes), "github.com/nats-io/nats.go."))
	if len(left) == 0 {
		return nil
	}
	return fmt.Errorf("%d goroutines outlive the tests:\n\n%s", len(left), strings.Join(left, "\n\n"))
}

// leaked gives goroutines that are on their way out the time to end, and returns those that did not.
func leaked(prefixes []string) []string {
	for deadline := time.Now().Add(endWait); ; time.Sleep(10 * time.Millisecond) {
		left := running(prefixes)
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
	}
}

func running(prefixes []string) []string {
	buf := make([]byte, stackMax)
	var found []string
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(stack, "bustest.Leaks(") {
			continue // this one
		}
		for _, prefix := range prefixes {
			if strings.Contains(stack, "\n"+prefix) || strings.Contains(stack, "created by "+prefix) {
				found = append(found, stack)
				break
			}
		}
	}
	return found
}
