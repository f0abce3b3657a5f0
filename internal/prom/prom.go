// Package prom writes figures in the text format that Prometheus reads.
package prom

import (
	"bufio"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// ContentType is the media type of the format.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// bounds are the upper ends of the buckets of latencies.
var bounds = [...]time.Duration{ //nolint:gochecknoglobals // a constant, which Go has no arrays of
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond,
	5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// Latencies counts how long things took, in buckets from 0.5 ms to 30 s. It is safe for concurrent use; observing takes no lock. The zero value is ready.
type Latencies struct {
	buckets [len(bounds) + 1]atomic.Uint64
	sum     atomic.Uint64 // nanoseconds
}

// Observe counts one.
func (l *Latencies) Observe(took time.Duration) {
	i := 0
	for i < len(bounds) && took > bounds[i] {
		i++
	}
	l.buckets[i].Add(1)
	l.sum.Add(uint64(max(0, took)))
}

// Writer writes families of figures, each begun by Head. What goes wrong, Flush tells.
type Writer struct {
	w      *bufio.Writer
	prefix string
	name   string
}

// NewWriter writes to w. The names of all figures begin with prefix.
func NewWriter(w io.Writer, prefix string) *Writer {
	return &Writer{w: bufio.NewWriter(w), prefix: prefix}
}

// Head begins a family: its name without the prefix, its kind (counter, gauge or histogram), and what it is.
func (f *Writer) Head(name, kind, help string) {
	f.name = f.prefix + name
	_, _ = f.w.WriteString("# HELP " + f.name + " " + help + "\n# TYPE " + f.name + " " + kind + "\n")
}

// Value writes a figure of the family. Labels are pairs of name and value.
func (f *Writer) Value(v float64, labels ...string) { f.value("", v, labels...) }

// Latencies writes a histogram of seconds.
func (f *Writer) Latencies(l *Latencies, labels ...string) {
	var n uint64
	for i, bound := range bounds {
		n += l.buckets[i].Load()
		f.value("_bucket", float64(n), append(slices.Clip(labels), "le", strconv.FormatFloat(bound.Seconds(), 'g', -1, 64))...)
	}
	n += l.buckets[len(bounds)].Load()
	f.value("_bucket", float64(n), append(slices.Clip(labels), "le", "+Inf")...)
	f.value("_sum", time.Duration(l.sum.Load()).Seconds(), labels...)
	f.value("_count", float64(n), labels...)
}

// Flush writes what is left, and returns the first error of all writes.
func (f *Writer) Flush() error { return f.w.Flush() }

func (f *Writer) value(suffix string, v float64, labels ...string) {
	_, _ = f.w.WriteString(f.name + suffix)
	for i := 0; i+1 < len(labels); i += 2 {
		_, _ = f.w.WriteString(map[bool]string{true: "{", false: ","}[i == 0] + labels[i] + `="` + escape(labels[i+1]) + `"`)
	}
	if len(labels) > 0 {
		_, _ = f.w.WriteString("}")
	}
	_, _ = f.w.WriteString(" " + strconv.FormatFloat(v, 'g', -1, 64) + "\n")
}

// escape is a label's value as the format has it.
func escape(s string) string {
	if !strings.ContainsAny(s, "\\\"\n") {
		return s
	}
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s)
}
