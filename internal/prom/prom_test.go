package prom_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/internal/prom"
)

func TestWriter(t *testing.T) {
	t.Parallel()
	var l prom.Latencies
	for _, took := range []time.Duration{-time.Second, 0, 500 * time.Microsecond, 501 * time.Microsecond, 30 * time.Second, time.Minute} {
		l.Observe(took)
	}
	var b strings.Builder
	f := prom.NewWriter(&b, "skybus_test_")
	f.Head("seconds", "histogram", "How long.")
	f.Latencies(&l, "what", "a")
	f.Head("open", "gauge", "How many.")
	f.Value(3)
	f.Value(0.5, "a", `x"\`+"\n", "b", "")
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	want.WriteString(`# HELP skybus_test_seconds How long.
# TYPE skybus_test_seconds histogram
`)
	for le := range strings.FieldsSeq("0.0005=3 0.001=4 0.0025=4 0.005=4 0.01=4 0.025=4 0.05=4 0.1=4 0.25=4 0.5=4 1=4 2.5=4 5=4 10=4 30=5 +Inf=6") {
		bound, n, _ := strings.Cut(le, "=")
		want.WriteString(`skybus_test_seconds_bucket{what="a",le="` + bound + `"} ` + n + "\n")
	}
	want.WriteString(`skybus_test_seconds_sum{what="a"} 90.001001
skybus_test_seconds_count{what="a"} 6
# HELP skybus_test_open How many.
# TYPE skybus_test_open gauge
skybus_test_open 3
skybus_test_open{a="x\"\\\n",b=""} 0.5
`)
	if diff := cmp.Diff(want.String(), b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestFlushTellsOfErrors(t *testing.T) {
	t.Parallel()
	f := prom.NewWriter(broken{}, "")
	f.Head("a", "gauge", strings.Repeat("x", 10_000))
	f.Value(1)
	if err := f.Flush(); !errors.Is(err, errBroken) {
		t.Errorf("%v", err)
	}
}
