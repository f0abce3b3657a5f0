package initiators_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails the package when goroutines of ours, or of a connection that we opened, outlive the tests.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leaked(5 * time.Second); code == 0 && len(left) > 0 {
		fmt.Fprintf(os.Stderr, "%d goroutines outlive the tests:\n\n%s\n", len(left), strings.Join(left, "\n\n"))
		code = 1
	}
	os.Exit(code)
}

// leaked gives goroutines that are on their way out the time to end, and returns those that did not.
func leaked(patience time.Duration) []string {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		left := ours()
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
	}
}

func ours() []string {
	buf := make([]byte, 4<<20)
	var found []string
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(stack, "initiators_test.TestMain") {
			continue
		}
		if strings.Contains(stack, "github.com/skybus-io/skybus/") || strings.Contains(stack, "nats-io/nats.go.") {
			found = append(found, stack)
		}
	}
	return found
}
