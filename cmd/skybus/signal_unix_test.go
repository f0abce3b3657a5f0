//go:build unix

package main

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

func testSignals() map[string]os.Signal {
	return map[string]os.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2}
}

func TestSecondSignalKills(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "stubborn")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("first line: %q, %v", line, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	deadline := time.After(waitTimeout)
	// Each tick is one more signal: the first is taken, a later one kills.
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		select {
		case err := <-done:
			exit, ok := errors.AsType[*exec.ExitError](err)
			if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
				t.Errorf("ended with %v, want to be killed by an interrupt", err)
			}
			return
		case <-tick.C:
			_ = cmd.Process.Signal(os.Interrupt) // it may be gone
		case <-deadline:
			t.Fatal("still runs after many signals")
		}
	}
}
