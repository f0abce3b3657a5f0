package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

// Formats of the output.
const (
	outputTable = "table"
	outputJSON  = "json"
)

// quiet is the share of the CPUs that others may use in a run whose figures can be quoted.
const quiet = 0.1

// report is everything a run found out.
type report struct {
	Machine  machine          `json:"machine"`
	Windows  int              `json:"windows"`
	Window   float64          `json:"window_seconds"`
	Calls    []comparison     `json:"calls,omitempty"`
	Lookup   *lookupFigures   `json:"lookup,omitempty"`
	Up       *upFigures       `json:"up,omitempty"`
	Gateway  []gatewayFigures `json:"gateway,omitempty"`
	Sections []section        `json:"sections,omitempty"`
	Notes    []string         `json:"notes"`
}

// machine is where and with what it was measured.
type machine struct {
	OS       string            `json:"os"`
	CPU      string            `json:"cpu,omitempty"`
	CPUs     int               `json:"cpus"`
	Load     string            `json:"load_before,omitempty"` // of others, in the last minute
	Go       string            `json:"go"`
	Versions map[string]string `json:"versions"`
}

func newReport(set settings) *report {
	return &report{Machine: thisMachine(), Windows: set.windows, Window: set.window.Seconds()}
}

func thisMachine() machine {
	m := machine{
		OS:       runtime.GOOS + "/" + runtime.GOARCH,
		CPUs:     runtime.NumCPU(),
		Go:       runtime.Version(),
		Versions: map[string]string{},
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		shown := []string{"github.com/nats-io/nats.go", "github.com/nats-io/nats-server/v2", "github.com/vmihailenco/msgpack/v5", "google.golang.org/grpc"}
		for _, dep := range info.Deps {
			if slices.Contains(shown, dep.Path) {
				m.Versions[strings.TrimPrefix(strings.TrimPrefix(dep.Path, "github.com/"), "google.golang.org/")] = dep.Version
			}
		}
	}
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(data), " ")
	}
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	return m
}

// notes are what a reader must know before quoting a figure of r.
func (r *report) notes() []string {
	var notes []string
	add := func(relevant bool, note string) {
		if relevant {
			notes = append(notes, note)
		}
	}
	calls, gateway := len(r.Calls) > 0, len(r.Gateway) > 0
	busy := slices.ContainsFunc(r.Calls, func(c comparison) bool { return max(c.Skybus.Others, c.NATS.Others) > quiet })
	add(busy, "BUSY MACHINE: others used more of its CPUs than a quotable run allows (see their column). Repeat it when they are gone.")
	add(calls || gateway, "Closed loop: a caller makes its next call when the last is answered. While one is slow its caller sends nothing, and"+
		" the calls it would have made are missing from p50 and p99 (coordinated omission): users who do not wait for each other would see worse.")
	add(calls || gateway, "One machine: callers, service and server share its CPUs and talk over loopback. No network, no TLS, one service instance.")
	add(calls, "The sides take turns in one run, each on a server of its own. A ratio is the median of the ratios of neighbouring windows, so it"+
		" need not be the ratio of the two medians above it; below it stand the lowest and the highest of them. Figures of different runs do not compare.")
	add(calls, "CPU is user and system time of server, service and client together, the load generator included. Others' CPU is the share of the"+
		" machine that anybody else used meanwhile: the higher, the less calls/s, p50 and p99 mean; CPU per call and allocations suffer least.")
	add(calls, "nats.go by hand carries the body alone and answers in the callback of the subscription. The skybus call also carries request id,"+
		" deadline, caller and content type, checks its input, runs each handler in a goroutine of its own under a bound, and keeps figures.")
	add(r.Up != nil, fmt.Sprintf("up: ready when the ports file is there, which is after the first request through gateway and route was answered;"+
		" median of %d starts of a program that is in the page cache.", upStarts))
	add(gateway, "gateway: each request is an HTTP request, two calls, and one message stored and worked off later, all in one process; CPU is that process's.")
	var disturbed []string
	for _, s := range r.Sections {
		if s.Others > quiet {
			disturbed = append(disturbed, fmt.Sprintf("%s (%.0f%%)", s.Name, 100*s.Others))
		}
		notes = append(notes, s.Notes...)
	}
	if len(disturbed) > 0 {
		notes = slices.Insert(notes, 0, "BUSY MACHINE: others used more of its CPUs than a quotable run allows during "+
			strings.Join(disturbed, "; ")+". Repeat it when they are gone.")
	}
	return notes
}

func (r *report) print(w io.Writer, format string) error {
	if format == outputTable {
		_, err := io.WriteString(w, r.table())
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}
