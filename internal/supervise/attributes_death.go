//go:build linux || freebsd

package supervise

import "syscall"

// processAttributes gives a process a group of its own and has the kernel kill it when the supervisor dies.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
