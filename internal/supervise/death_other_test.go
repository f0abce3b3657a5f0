//go:build unix && !linux

package supervise_test

const deathSignal = false
