package file_test

import (
	"strings"
	"testing"

	"github.com/skybus-io/skybus/initiators/file"
)

// The figures are those of what was done, by source.
func TestWriteMetrics(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	one, two := t.TempDir(), t.TempDir()
	write(t, one, "a", "1\n2\n3\n")
	write(t, one, "b", "4\n")
	write(t, two, "c", "x\xff\n")
	s := &sink{}
	a, b := done(t, conn, s, file.Config{Name: "one", Dir: one}), done(t, conn, s, file.Config{Name: "two", Dir: two})
	var page strings.Builder
	if err := file.WriteMetrics(&page, a, b); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"# TYPE skybus_files_sent_total counter", `skybus_files_sent_total{source="one"} 4`, `skybus_files_sent_total{source="two"} 0`, `skybus_files_finished_total{source="one"} 2`,
		`skybus_files_refused_total{source="two"} 1`, `skybus_files_bytes_total{source="one"} 8`, `skybus_files_left_bytes{source="one"} 0`, `skybus_files_takeovers_total{source="one"} 1`,
		`skybus_files_active{source="one"} 0`, "# TYPE skybus_files_left_bytes gauge",
	} {
		if !strings.Contains(page.String(), line+"\n") {
			t.Errorf("no %s in\n%s", line, page.String())
		}
	}
}
