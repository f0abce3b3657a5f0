package file_test

import (
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/file"
)

func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	good := file.Config{Name: "n", Dir: "d"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := (file.Config{Name: "n", Follow: "d/f", FromEnd: true, Rotated: []string{"f.*"}, Format: file.CSV, Comma: '\t'}).Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range mistakes() {
		cfg := good
		tt.change(&cfg)
		_, err := file.New(nil, nil, cfg)
		if e := bus.AsError(err); e == nil || e.Code != bus.InvalidArgument || e.Details["field"] != tt.field || !strings.HasPrefix(e.Message, tt.field) {
			t.Errorf("want an error about %s: %v", tt.field, err)
		}
	}
}

type mistake struct {
	field  string
	change func(*file.Config)
}

func mistakes() []mistake {
	return []mistake{
		{"Name", func(c *file.Config) { c.Name = "" }},
		{"Name", func(c *file.Config) { c.Name = "a.b" }},
		{"Name", func(c *file.Config) { c.Name = strings.Repeat("x", 65) }},
		{"Dir", func(c *file.Config) { c.Dir = "" }},
		{"Dir", func(c *file.Config) { c.Follow = "f" }},
		{"Dir", func(c *file.Config) { c.FromEnd = true }},
		{"Dir", func(c *file.Config) { c.Rotated = []string{"x"} }},
		{"Follow", func(c *file.Config) { c.Dir, c.Follow, c.Recursive = "", "f", true }},
		{"Follow", func(c *file.Config) { c.Dir, c.Follow, c.Include = "", "f", []string{"*"} }},
		{"After", func(c *file.Config) { c.Dir, c.Follow, c.After = "", "f", file.Move }},
		{"After", func(c *file.Config) { c.After = "burn" }},
		{"Order", func(c *file.Config) { c.Order = "size" }},
		{"Include", func(c *file.Config) { c.Include = []string{"[a"} }},
		{"Exclude", func(c *file.Config) { c.Exclude = []string{""} }},
		{"Include", func(c *file.Config) { c.Include = make([]string, 101) }},
		{"Format", func(c *file.Config) { c.Format = "xml" }},
		{"Format", func(c *file.Config) { c.Dir, c.Follow, c.Format = "", "f", file.Whole }},
		{"Format", func(c *file.Config) { c.Comma = ';' }},
		{"Comma", func(c *file.Config) { c.Format, c.Comma = file.CSV, '"' }},
		{"Comma", func(c *file.Config) { c.Format, c.Comma = file.CSV, '\n' }},
		{"Comma", func(c *file.Config) { c.Format, c.Comma = file.CSV, 'é' }},
		{"Columns", func(c *file.Config) { c.Format, c.Columns = file.CSV, []string{"a", "a"} }},
		{"Columns", func(c *file.Config) { c.Format, c.Columns = file.CSV, []string{""} }},
		{"Columns", func(c *file.Config) { c.Format, c.Columns = file.CSV, []string{} }},
		{"Parallel", func(c *file.Config) { c.Parallel = -1 }},
		{"Parallel", func(c *file.Config) { c.Parallel = 1025 }},
		{"MaxRecord", func(c *file.Config) { c.MaxRecord = -1 }},
		{"MaxRecord", func(c *file.Config) { c.MaxRecord = 64<<20 + 1 }},
		{"Window", func(c *file.Config) { c.Parallel, c.Window = 8, 7 }},
		{"Window", func(c *file.Config) { c.Window = 100_001 }},
		{"Checkpoint", func(c *file.Config) { c.Checkpoint = time.Microsecond }},
		{"Quiet", func(c *file.Config) { c.Quiet = 25 * time.Hour }},
		{"Rescan", func(c *file.Config) { c.Rescan = time.Millisecond }},
		{"Forget", func(c *file.Config) { c.Forget = time.Millisecond }},
		{"Timeout", func(c *file.Config) { c.Timeout = -1 }},
		{"Tries", func(c *file.Config) { c.Tries = -1 }},
		{"RetryFirst", func(c *file.Config) { c.RetryFirst = -1 }},
		{"RetryLast", func(c *file.Config) { c.RetryFirst, c.RetryLast = time.Minute, time.Second }},
		{"RetryCodes", func(c *file.Config) { c.RetryCodes = []bus.Code{""} }},
		{"Lease", func(c *file.Config) { c.Lease = time.Second }},
		{"Drain", func(c *file.Config) { c.Drain = -1 }},
		{"Done", func(c *file.Config) { c.Done = "../done" }},
		{"Done", func(c *file.Config) { c.Done = "." }},
		{"Failed", func(c *file.Config) { c.Failed = "/failed" }},
		{"Failed", func(c *file.Config) { c.Failed = "done" }},
	}
}
