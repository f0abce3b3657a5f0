package proctest

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"syscall"
)

// processAttributes lets the kernel end a child whose tests were ended without a chance to clean up.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// Memory is the resident memory of the process in bytes, or 0 where the system does not tell.
func (p *Process) Memory() int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0
	}
	match := regexp.MustCompile(`VmRSS:\s*(\d+) kB`).FindSubmatch(status)
	if match == nil {
		return 0
	}
	kib, err := strconv.ParseInt(string(match[1]), 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}
