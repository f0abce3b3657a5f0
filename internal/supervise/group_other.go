//go:build !unix

package supervise

import (
	"os"
	"syscall"
)

// There is nothing milder here that any program understands.
func terminate(p *os.Process) { _ = p.Kill() }

func terminateGroup(int) {}

func killGroup(p *os.Process) { _ = p.Kill() }

func groupAlive(int) bool { return false }

func inGroup(int, int) bool { return false }

func processAttributes() *syscall.SysProcAttr { return nil }
