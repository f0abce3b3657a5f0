//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// levelSignals are the channels that SIGUSR1 (log more) and SIGUSR2 (log less) arrive on, until release is called.
func levelSignals() (more, less <-chan os.Signal, release func()) {
	up, down := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(up, syscall.SIGUSR1)
	signal.Notify(down, syscall.SIGUSR2)
	return up, down, func() {
		signal.Stop(up)
		signal.Stop(down)
	}
}
