//go:build unix && !linux

package integration_test

import "syscall"

func processAttributes() *syscall.SysProcAttr { return nil }

func residentMemory(int) string { return "unknown" }
