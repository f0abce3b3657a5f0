package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const noteWidth = 110

// table is the report for people.
func (r *report) table() string {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "%s, %d CPUs, %s, %s", m.OS, m.CPUs, m.CPU, m.Go)
	for _, name := range slices.Sorted(maps.Keys(m.Versions)) {
		fmt.Fprintf(&b, ", %s %s", name, m.Versions[name])
	}
	fmt.Fprintf(&b, "\nmedians of %d windows of %gs for each side; load average before: %s\n", r.Windows, r.Window, m.Load)
	r.writeCalls(&b)
	r.writeLookup(&b)
	r.writeUp(&b)
	r.writeGateway(&b)
	for _, s := range r.Sections {
		s.write(&b)
	}
	b.WriteString("\nNotes\n")
	for _, note := range r.Notes {
		b.WriteString(wrap(note, noteWidth))
	}
	return b.String()
}

func (r *report) writeCalls(b *strings.Builder) {
	if len(r.Calls) == 0 {
		return
	}
	rows := [][]string{
		{"", "", "", "p50", "p99", "CPU us", "of it", "of it", "of it", "allocs", "allocs", "others'"},
		{"call", "", "calls/s", "us", "us", "per call", "server", "service", "client", "client", "service", "CPU"},
	}
	for _, c := range r.Calls {
		name := fmt.Sprintf("%s c=%d", c.Workload, c.Callers)
		rows = append(rows,
			nil,
			append([]string{name, "skybus"}, absolutes(c.Skybus)...),
			append([]string{"", "nats.go"}, absolutes(c.NATS)...),
			append([]string{"", "ratio"}, multiples(c.Ratio)...),
			append([]string{"", "lowest"}, multiples(c.Lowest)...),
			append([]string{"", "highest"}, multiples(c.Highest)...),
		)
	}
	writeRows(b, rows)
}

func absolutes(f figures) []string {
	var cells []string
	for _, v := range f.fields() {
		cells = append(cells, number(*v))
	}
	return append(cells, fmt.Sprintf("%.0f%%", 100*f.Others))
}

func multiples(f figures) []string {
	var cells []string
	for _, v := range f.fields() {
		cells = append(cells, fmt.Sprintf("%.2fx", *v))
	}
	return cells
}

func (r *report) writeLookup(b *strings.Builder) {
	if r.Lookup == nil {
		return
	}
	writeRows(b, [][]string{
		{"lookup", "", "ns"},
		{"", "registry", number(r.Lookup.Median.Registry)},
		{"", "config", number(r.Lookup.Median.Config)},
		{"", "kv get", number(r.Lookup.Median.Get)},
		{"", "kv get / registry", number(r.Lookup.Ratio) + "x"},
	})
}

func (r *report) writeUp(b *strings.Builder) {
	if r.Up == nil {
		return
	}
	const mib = 1 << 20
	writeRows(b, [][]string{
		{"skybus up --demo --memory", "", ""},
		{"", "ready, first request answered", number(r.Up.Ready) + " ms"},
		{"", "stopped", number(r.Up.Stop) + " ms"},
		{"", fmt.Sprintf("resident memory, idle for %v", idleTime), number(float64(r.Up.Memory)/mib) + " MiB"},
		{"", "program", number(float64(r.Up.Size.Plain)/mib) + " MiB"},
		{"", "program, -ldflags '-s -w'", number(float64(r.Up.Size.Stripped)/mib) + " MiB"},
	})
}

func (r *report) writeGateway(b *strings.Builder) {
	if len(r.Gateway) == 0 {
		return
	}
	rows := [][]string{{"gateway", "", "requests/s", "p50 us", "p99 us", "CPU us per request"}}
	for _, g := range r.Gateway {
		m := g.Median
		rows = append(rows, []string{"", fmt.Sprintf("c=%d", g.Callers), number(m.Rate), number(m.P50), number(m.P99), number(m.CPU)})
	}
	writeRows(b, rows)
}

func (s section) write(b *strings.Builder) {
	rows := [][]string{append([]string{s.Name, ""}, s.Columns...)}
	for _, r := range s.Rows {
		cells := []string{"", r.What}
		for _, v := range r.Values {
			if r.Ratio {
				cells = append(cells, fmt.Sprintf("%.2fx", v))
				continue
			}
			cells = append(cells, number(v))
		}
		rows = append(rows, cells)
	}
	writeRows(b, rows)
}

// number is v with a decimal while that says something, and commas between thousands.
func number(v float64) string {
	if math.Abs(v) < 100 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	digits := strconv.FormatInt(int64(math.Round(v)), 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// writeRows writes a blank line and the rows in columns: the first two to the left, the others to the right. A nil row
// is a blank line.
func writeRows(b *strings.Builder, rows [][]string) {
	const left, gap = 2, 2
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	b.WriteByte('\n')
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i < left {
				cell += pad
			} else {
				cell = pad + cell
			}
			line.WriteString(cell + strings.Repeat(" ", gap))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

// wrap is text as an item of a list, in lines of at most width.
func wrap(text string, width int) string {
	var b strings.Builder
	line := "-"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > width {
			b.WriteString(line + "\n")
			line = " "
		}
		line += " " + word
	}
	return b.String() + line + "\n"
}
