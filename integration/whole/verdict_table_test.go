//go:build unix

package whole_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// afterFault is how long after a fault what clients notice is still counted as of that fault.
const afterFault = 15 * time.Second

// table is what became of what was asked for, as Markdown.
func (e *evidence) table() string {
	var b strings.Builder
	b.WriteString("| kind | asked | acknowledged | too late | failed | tried again | p50 | p99 | max |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, k := range kinds() {
		n, retried, errors, took := map[outcome]int{}, 0, map[string]int{}, []time.Duration{}
		for _, o := range e.ops {
			if o.kind != k {
				continue
			}
			n[o.outcome]++
			if o.tries > 1 {
				retried++
			}
			switch o.outcome {
			case acked:
				took = append(took, o.end.Sub(o.begin))
			case failed:
				errors[fmt.Sprintf("%.120s", o.err)]++
			case refused:
			}
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d", k, n[acked]+n[refused]+n[failed], n[acked], n[refused], n[failed])
		for _, text := range slices.Sorted(maps.Keys(errors)) {
			fmt.Fprintf(&b, "; %d x %s", errors[text], strings.ReplaceAll(text, "|", "/"))
		}
		fmt.Fprintf(&b, " | %d | %s |\n", retried, percentiles(took))
	}
	for _, row := range e.endRows() {
		fmt.Fprintf(&b, "| %s | %d | %d | | | | %s |\n", row.name, len(row.took), len(row.took), percentiles(row.took))
	}
	return b.String()
}

// endRow is what happened at an end, and how long after it should have.
type endRow struct {
	name string
	took []time.Duration
}

func (e *evidence) endRows() []endRow {
	late := endRow{name: "timer fired, after it was due"}
	seen := map[string]bool{}
	e.each(delivered, func(_ string, r record) {
		if !seen[r.Key] {
			seen[r.Key] = true
			late.took = append(late.took, time.Duration(r.At-r.Due))
		}
	})
	put := map[string]time.Time{}
	for _, o := range e.ops {
		for n := range o.records {
			put[recordID(o.id, n)] = o.end
		}
	}
	records := endRow{name: "record of a file, after the file was there"}
	e.each(stepped, func(_ string, r record) {
		if at, ok := put[r.ID]; ok && r.Step == fileTarget {
			delete(put, r.ID)
			records.took = append(records.took, time.Unix(0, r.At).Sub(at))
		}
	})
	return []endRow{late, records}
}

// percentiles are three cells of a table.
func percentiles(took []time.Duration) string {
	if len(took) == 0 {
		return " | | "
	}
	slices.Sort(took)
	n := len(took)
	return fmt.Sprintf("%s | %s | %s", short(took[n/2]), short(took[n*99/100]), short(took[n-1]))
}

// short is a duration with as many digits as matter.
func short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// gapTable is the longest time without a success in each fault and just after it, as Markdown: of each kind of fault, and kind of process, the worst.
func (e *evidence) gapTable() string {
	if len(e.faults) == 0 {
		return ""
	}
	type row struct {
		n     int
		worst map[string]time.Duration
	}
	rows, all := map[string]*row{}, e.successes()
	end := time.Time{}
	for _, o := range e.ops {
		if o.end.After(end) {
			end = o.end
		}
	}
	faults := slices.SortedFunc(slices.Values(e.faults), func(a, b fault) int { return a.begin.Compare(b.begin) })
	for i, f := range faults {
		to := f.end.Add(afterFault)
		if i+1 < len(faults) && faults[i+1].begin.Before(to) {
			to = faults[i+1].begin
		}
		if to.After(end) {
			to = end
		}
		name := f.kind + " | " + strings.TrimRight(f.target, "-0123456789")
		r := cmp.Or(rows[name], &row{worst: map[string]time.Duration{}})
		rows[name] = r
		r.n++
		for _, k := range gapKinds() {
			r.worst[k] = max(r.worst[k], gap(all[k], f.begin, to))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| fault | of | times | %s |\n|---|---|---|%s\n", strings.Join(gapKinds(), " | "), strings.Repeat("---|", len(gapKinds())))
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(&b, "| %s | %d |", name, rows[name].n)
		for _, k := range gapKinds() {
			fmt.Fprintf(&b, " %s |", short(rows[name].worst[k]))
		}
		b.WriteString("\n")
	}
	return b.String()
}
