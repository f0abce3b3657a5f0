package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/balance"
)

// TestRun measures for so short that the figures mean nothing, and looks whether all of them are there.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("GORACE", "atexit_sleep_ms=0") // each of many processes would wait a second at its end
	var stdout, stderr strings.Builder
	profiles := t.TempDir()
	args := []string{"-only", "typed,raw,lookup", "-windows", "2", "-window", "20ms", "-c", "2", "-o", "json", "-profile", profiles}
	if code := run(t.Context(), args, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	var rep report
	if err := json.Unmarshal([]byte(stdout.String()), &rep); err != nil {
		t.Fatal(err)
	}
	if len(rep.Calls) != 2 || rep.Lookup == nil {
		t.Fatalf("got %d comparisons, lookup %v: want 2 and one", len(rep.Calls), rep.Lookup)
	}
	for _, c := range rep.Calls {
		if len(c.Windows) != 2 || c.Callers != 2 {
			t.Errorf("%s: got %d windows with %d callers: want 2 with 2", c.Workload, len(c.Windows), c.Callers)
		}
		for _, f := range []figures{c.Skybus, c.NATS, c.Ratio, c.Lowest, c.Highest} {
			for i, v := range f.fields() {
				if *v <= 0 {
					t.Errorf("%s: figure %d is %v: want more than 0", c.Workload, i, *v)
				}
			}
		}
	}
	if files, err := os.ReadDir(profiles); err != nil || len(files) != 2*2*3*2 {
		t.Errorf("got %d profiles, %v: want two of each of three processes of two sides of two workloads", len(files), err)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"-windows", "0"},
		{"-window", "0s"},
		{"-c", "0"},
		{"-c", "1,x"},
		{"-c", "100000"},
		{"-only", "typo"},
		{"-o", "yaml"},
		{"typed"},
	} {
		var stderr strings.Builder
		if _, err := parse(args, &stderr); err == nil || stderr.Len() == 0 {
			t.Errorf("%q: got error %v, told %q: want both", args, err, stderr.String())
		}
	}
	s, err := parse([]string{"-c", "1, 8", "-only", "up"}, &strings.Builder{})
	if err != nil || len(s.callers) != 2 || s.callers[1] != 8 || !s.wants("up") || s.wants("typed") {
		t.Errorf("got %+v, %v", s, err)
	}
}

// TestPayload keeps the two sides equal: the same bytes on the wire.
func TestPayload(t *testing.T) {
	t.Parallel()
	byHand, err := msgpack.Marshal(newOrder(firstID))
	if err != nil {
		t.Fatal(err)
	}
	skybus, err := bus.MessagePack{}.Marshal(newOrder(firstID))
	if err != nil {
		t.Fatal(err)
	}
	if len(byHand) != payloadSize || len(skybus) != payloadSize {
		t.Errorf("order has %d bytes by msgpack, %d by skybus: want %d", len(byHand), len(skybus), payloadSize)
	}
	if err := checkOrder(5, answerOrder(newOrder(5))); err != nil {
		t.Error(err)
	}
	if checkOrder(5, newOrder(5)) == nil || checkBody(nil) == nil {
		t.Error("a wrong answer passes")
	}
}

func TestHistogram(t *testing.T) {
	t.Parallel()
	for _, v := range []uint64{0, 1, 63, 64, 127, 128, 129, 1000, 123_456, 1 << 40, 1<<63 + 12345} {
		got := valueOf(bucketOf(v))
		if diff := max(got, v) - min(got, v); float64(diff) > 0.016*float64(v) {
			t.Errorf("%d is counted as %d", v, got)
		}
	}
	var a, b histogram
	for i := range 500 {
		a.add(time.Duration(i+1) * time.Microsecond)
		b.add(time.Duration(i+501) * time.Microsecond)
	}
	a.merge(&b)
	for q, want := range map[float64]time.Duration{0.001: 1, 0.5: 500, 0.99: 990, 1: 1000} {
		want *= time.Microsecond
		if got := a.quantile(q); (got - want).Abs() > want/50 {
			t.Errorf("quantile %v is %v: want about %v", q, got, want)
		}
	}
	if got := new(histogram).quantile(0.5); got != 0 {
		t.Errorf("quantile of nothing is %v: want 0", got)
	}
}

func TestComparison(t *testing.T) {
	t.Parallel()
	c := newComparison(typed, 1, []pair{
		{Skybus: figures{Rate: 10}, NATS: figures{Rate: 20}},
		{Skybus: figures{Rate: 30}, NATS: figures{Rate: 10}},
		{Skybus: figures{Rate: 20}, NATS: figures{Rate: 20}},
	})
	got := []float64{c.Skybus.Rate, c.NATS.Rate, c.Ratio.Rate, c.Lowest.Rate, c.Highest.Rate}
	want := []float64{20, 20, 1, 0.5, 3}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %v: want %v", got, want)
		}
	}
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("median of four is %v: want 2.5", m)
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0.0", 9.96: "10.0", 99.94: "99.9", 100: "100", 999.6: "1,000", 1234567: "1,234,567"} {
		if got := number(v); got != want {
			t.Errorf("%v is %q: want %q", v, got, want)
		}
	}
}

func TestUse(t *testing.T) {
	t.Parallel()
	if n, err := memoryOf(os.Getpid()); err != nil || n < 1<<20 {
		t.Errorf("memory of this process is %d, %v", n, err)
	}
	own, err := ownUse()
	if err != nil {
		t.Fatal(err)
	}
	other, err := cpuOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if diff := (other - own.CPU).Abs(); diff > 500*time.Millisecond {
		t.Errorf("CPU of this process is %v by getrusage, %v by /proc", own.CPU, other)
	}
}

// TestParts makes the further measurements for so short that the figures mean nothing, and looks whether all of them are there.
func TestParts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("GORACE", "atexit_sleep_ms=0") // each of many processes would wait a second at its end
	var names []string
	for _, p := range parts() {
		names = append(names, p.name)
	}
	var stdout, stderr strings.Builder
	if code := run(t.Context(), []string{"-quick", "-c", "2", "-o", "json", "-only", strings.Join(names, ",")}, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	var rep report
	if err := json.Unmarshal([]byte(stdout.String()), &rep); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !slices.ContainsFunc(rep.Sections, func(s section) bool { return strings.HasPrefix(s.Name, name) }) {
			t.Errorf("no figures of %s", name)
		}
	}
	for _, s := range rep.Sections {
		for _, r := range s.Rows {
			if len(r.Values) != len(s.Columns) {
				t.Errorf("%s, %s: got %d figures: want %d", s.Name, r.What, len(r.Values), len(s.Columns))
				continue
			}
			for i, v := range r.Values {
				if v < 0 || v == 0 && !r.Ratio && !mayBeZero(s.Columns[i]) {
					t.Errorf("%s, %s: %s is %v", s.Name, r.What, s.Columns[i], v)
				}
			}
		}
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// mayBeZero tells whether a figure may be 0 although all works: there should be no errors, and few timers may fit into memory that a
// process has anyway.
func mayBeZero(column string) bool {
	return slices.ContainsFunc([]string{"error", "failed", "closed", "CPU %", "RSS", "rest", "heap"}, func(s string) bool { return strings.Contains(column, s) })
}

// TestMoved holds the promise of the consistent hash, by the count that the measurement makes.
func TestMoved(t *testing.T) {
	t.Parallel()
	many := randomInstances(10)
	few := slices.Delete(slices.Clone(many), 3, 4)
	if got := moved(balance.ConsistentHash(), few, many); got < 5 || got > 15 {
		t.Errorf("%.1f%% of the keys moved when one of ten went: want about 10", got)
	}
	if got := moved(balance.ModHash(), few, many); got < 80 {
		t.Errorf("%.1f%% of the keys moved by modulo: want about 90", got)
	}
}

func TestLongestGap(t *testing.T) {
	t.Parallel()
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	for _, c := range []struct {
		answered []time.Time
		want     time.Duration
	}{
		{nil, 0},
		{[]time.Time{at(50), at(10), at(90)}, 40 * time.Millisecond},
		{[]time.Time{at(60), at(90)}, 60 * time.Millisecond},
		{[]time.Time{at(10)}, 90 * time.Millisecond},
		{[]time.Time{at(40), at(900)}, 60 * time.Millisecond}, // what comes after the end ends no gap
	} {
		if got := longestGap(c.answered, start, at(100)); got != c.want {
			t.Errorf("gap is %v: want %v", got, c.want)
		}
	}
}
