package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// traceRow is what one instance did for a call. Depth 0 was called by us, depth 1 by that one, and so on.
type traceRow struct {
	Service  string        `json:"service"`
	Endpoint string        `json:"endpoint"`
	Instance string        `json:"instance"`
	Took     time.Duration `json:"took_ns"`
	Code     bus.Code      `json:"code,omitempty"`
	Depth    int           `json:"depth"`
}

// trace is a call as its caller saw it.
type trace struct {
	Took time.Duration `json:"took_ns"`
	Hops []traceRow    `json:"hops"`
}

// printTrace prints hops to stderr, as a tree where tables are printed: the answer is alone on stdout.
func (a *App) printTrace(hops []micro.Hop, took time.Duration) error {
	t := trace{Took: took, Hops: []traceRow{}}
	for _, h := range hops {
		row := traceRow{Endpoint: h.Endpoint, Took: h.Took, Code: h.Code, Depth: h.Depth}
		if address, err := bus.ParseAddress(h.Address); err == nil { // it was checked
			row.Service, row.Instance = address.Service, address.Instance
		}
		t.Hops = append(t.Hops, row)
	}
	if a.Output != formatTable {
		return encode(a.stderr, a.Output, map[string]trace{"trace": t})
	}
	_, err := fmt.Fprint(a.stderr, printable(t.tree()))
	return err
}

// tree is a line for each hop below who called it, with the times in a column, and below them what the caller waited.
func (t trace) tree() string {
	const total = "in all"
	names, width := make([]string, len(t.Hops)), len(total)
	for i, h := range t.Hops {
		names[i] = strings.Repeat("  ", h.Depth) + h.Service + "." + h.Endpoint
		width = max(width, len(names[i]))
	}
	var b strings.Builder
	for i, h := range t.Hops {
		fmt.Fprintf(&b, "%-*s  %10v  %s %s\n", width, names[i], h.Took.Round(time.Microsecond), h.Instance, h.Code)
	}
	fmt.Fprintf(&b, "%-*s  %10v\n", width, total, t.Took.Round(time.Microsecond))
	return strings.ReplaceAll(b.String(), " \n", "\n")
}
