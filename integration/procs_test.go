//go:build unix

package integration_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/skybus-io/skybus/internal/proctest"
)

const (
	patience = proctest.Patience    // for what has no deadline of its own
	shortest = 2 * time.Millisecond // between two looks
	longest  = 50 * time.Millisecond
)

type (
	process  = proctest.Process
	platform = proctest.Platform
)

// programs are those that TestMain built.
func programs() proctest.Programs { return proctest.Programs(os.Getenv(programsVariable)) }

// start starts one of the programs that TestMain built.
func start(t *testing.T, program string, args ...string) *process {
	t.Helper()
	return programs().Start(t, program, args...)
}

// run runs one of the programs to its end and returns its exit code and what it wrote.
func run(t *testing.T, program string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return programs().Run(t, program, args...)
}

// skybus runs a command against a server, which must succeed, and returns what it printed.
func skybus(t *testing.T, server string, args ...string) string {
	t.Helper()
	code, stdout, stderr := run(t, "skybus", append(args, "--server", server)...)
	if code != 0 {
		t.Fatalf("skybus %q ended with %d:\n%s%s", args, code, stdout, stderr)
	}
	return stdout
}

// startPlatform starts a command of skybus that keeps running and returns when it is ready.
func startPlatform(t *testing.T, args ...string) *platform {
	t.Helper()
	return programs().StartPlatform(t, args...)
}

// startUp starts `skybus up` on free ports.
func startUp(t *testing.T, args ...string) *platform {
	t.Helper()
	free := []string{"up", "--http", "127.0.0.1:0", "--timers", "127.0.0.1:0", "--admin", "127.0.0.1:0"}
	if !slices.Contains(args, "--server") {
		free = append(free, "--nats", "127.0.0.1:0")
	}
	return startPlatform(t, append(free, args...)...)
}

// startServer starts `skybus server` on a free port.
func startServer(t *testing.T, args ...string) *platform {
	t.Helper()
	return startPlatform(t, append([]string{"server", "--nats", "127.0.0.1:0", "--data", t.TempDir()}, args...)...)
}

// resident is the memory that a process has, to be read.
func resident(p interface{ Memory() int64 }) string {
	return fmt.Sprintf("%d MiB", p.Memory()>>20)
}

// eventually returns when a condition holds.
func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	proctest.Eventually(t, within, what, holds)
}
