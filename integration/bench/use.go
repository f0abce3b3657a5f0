package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// use is what a process has used since it began.
type use struct {
	CPU     time.Duration `json:"cpu"`     // user and system
	Mallocs uint64        `json:"mallocs"` // heap objects allocated
}

func (u use) since(before use) use {
	return use{CPU: u.CPU - before.CPU, Mallocs: u.Mallocs - before.Mallocs}
}

// ownUse is exact to the microsecond, which /proc is not.
func ownUse() (use, error) {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return use{}, fmt.Errorf("getrusage: %w", err)
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return use{CPU: time.Duration(ru.Utime.Nano() + ru.Stime.Nano()), Mallocs: mem.Mallocs}, nil
}

// userHertz is the unit of times in /proc, the same on every Linux.
const userHertz = 100

// cpuOf is the CPU time of another process, exact to 10 ms.
func cpuOf(pid int) (time.Duration, error) {
	name := fmt.Sprintf("/proc/%d/stat", pid)
	data, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	// The program's name stands in brackets and may contain anything; what follows does not.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	const user, system = 11, 12
	if len(fields) <= system {
		return 0, fmt.Errorf("%s: %d fields after the name: want more than %d", name, len(fields), system)
	}
	var ticks int64
	for _, field := range []string{fields[user], fields[system]} {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / userHertz, nil
}

// machineTime is the CPU time of the whole machine so far: what was used by anybody, and all there was.
type machineTime struct{ busy, all time.Duration }

func machineCPU() (machineTime, error) {
	const name = "/proc/stat"
	data, err := os.ReadFile(name)
	if err != nil {
		return machineTime{}, err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(line)
	const idle, waiting, last = 4, 5, 8 // 1 is the first time; those after the eighth are contained in others
	if len(fields) <= last {
		return machineTime{}, fmt.Errorf("%s: %d fields in the first line: want more than %d", name, len(fields), last)
	}
	var t machineTime
	for i, field := range fields[1 : last+1] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return machineTime{}, fmt.Errorf("%s: %w", name, err)
		}
		d := time.Duration(n) * time.Second / userHertz
		t.all += d
		if i+1 != idle && i+1 != waiting {
			t.busy += d
		}
	}
	return t, nil
}

// others is the share of the machine that was used since before and not by those who used own.
func (t machineTime) others(before machineTime, own time.Duration) float64 {
	all := t.all - before.all
	if all <= 0 {
		return 0
	}
	return max(0, float64(t.busy-before.busy-own)/float64(all))
}

// memoryOf is the resident memory of another process in bytes.
func memoryOf(pid int) (int64, error) {
	name := fmt.Sprintf("/proc/%d/status", pid)
	data, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", name, err)
			}
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("%s: no VmRSS", name)
}
