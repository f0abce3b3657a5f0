package integration_test

import (
	"fmt"
	"os"
	"regexp"
	"syscall"
)

// processAttributes lets the kernel end a child whose tests were ended without a chance to clean up.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

func residentMemory(pid int) string {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err.Error()
	}
	match := regexp.MustCompile(`VmRSS:\s*(.*)`).FindSubmatch(status)
	if match == nil {
		return "unknown"
	}
	return string(match[1])
}
