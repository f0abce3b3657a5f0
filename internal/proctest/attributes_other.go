//go:build unix && !linux

package proctest

import "syscall"

func processAttributes() *syscall.SysProcAttr { return nil }

// Memory is the resident memory of the process in bytes, or 0 where the system does not tell.
func (p *Process) Memory() int64 { return 0 }
