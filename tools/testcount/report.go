package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// event is one line of `go test -json`; see `go doc test2json` and `go help buildjson`.
type event struct {
	Action     string
	Package    string
	ImportPath string // of what is built, in place of Package
	Test       string // empty for the package as a whole
	Output     string
}

// suite is what is known of one package while its tests run.
type suite struct {
	output map[string][]string // by test, "" for the package: what was printed and not yet shown or dropped
	open   map[string]bool     // tests begun and not ended
	failed int                 // tests that failed
}

// report follows the events of one `go test -json`. It writes a line per package, and in full what failing and
// skipped tests printed; it keeps the counts.
type report struct {
	out    io.Writer
	suites map[string]*suite

	passed, failed, skipped int
}

func newReport(out io.Writer) *report {
	return &report{out: out, suites: make(map[string]*suite)}
}

// read takes events until r ends. Lines that are no event are passed on as they are.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				r.take(e)
			} else {
				fmt.Fprint(r.out, string(line))
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
	}
}

func (r *report) take(e event) {
	if e.Action == "build-output" {
		fmt.Fprint(r.out, e.Output)
		return
	}
	if e.Package == "" {
		return
	}
	s, ok := r.suites[e.Package]
	if !ok {
		s = &suite{output: make(map[string][]string), open: make(map[string]bool)}
		r.suites[e.Package] = s
	}
	switch e.Action {
	case "run":
		s.open[e.Test] = true
	case "output":
		s.output[e.Test] = append(s.output[e.Test], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(s, e.Action)
			delete(r.suites, e.Package)
		} else {
			r.endTest(s, e.Test, e.Action)
		}
	}
}

// endTest counts a test and shows what it printed unless it passed.
func (r *report) endTest(s *suite, test, action string) {
	delete(s.open, test)
	switch action {
	case "pass":
		r.passed++
	case "skip":
		r.skipped++
		r.show(s, test)
	case "fail":
		r.failed++
		s.failed++
		r.show(s, test)
	}
	delete(s.output, test)
}

// endPackage shows the last line of a package, or all it printed when it failed. A test that had begun and not ended
// (a panic, an exit, the time limit) failed; a package that failed without any test to blame counts as one failure.
func (r *report) endPackage(s *suite, action string) {
	if action != "fail" {
		if out := s.output[""]; len(out) > 0 {
			fmt.Fprint(r.out, out[len(out)-1])
		}
		return
	}
	for _, test := range slices.Sorted(maps.Keys(s.open)) {
		fmt.Fprintf(r.out, "%s had begun and not ended\n", test)
		r.endTest(s, test, "fail")
	}
	if s.failed == 0 {
		r.failed++
	}
	r.show(s, "")
}

// show writes what a test printed, without the marks of its course.
func (r *report) show(s *suite, test string) {
	for _, text := range s.output[test] {
		if !strings.HasPrefix(text, "=== ") {
			fmt.Fprint(r.out, text)
		}
	}
}

// summary is the last line of the output.
func (r *report) summary() string {
	line := fmt.Sprintf("%d passed, %d failed", r.passed, r.failed)
	if r.skipped > 0 {
		line += fmt.Sprintf(", %d skipped", r.skipped)
	}
	return line
}
