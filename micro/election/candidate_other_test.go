//go:build !linux

package election_test

// The tests of processes share a clock of Linux.
const candidateVariable = "ELECTION_TEST_SERVER"

func candidateMain(string) int { return 1 }
