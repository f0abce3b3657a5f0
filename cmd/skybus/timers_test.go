package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDueTime(t *testing.T) {
	t.Parallel()
	local := func(s string) time.Time {
		at, err := time.ParseInLocation(time.DateTime, s, time.Local)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for text, want := range map[string]time.Time{
		"2031-05-01T12:00:00Z":           time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC),
		"2031-05-01T14:00:00.5+02:00":    time.Date(2031, 5, 1, 12, 0, 0, 5e8, time.UTC),
		"2031-05-01 12:30:01":            local("2031-05-01 12:30:01"),
		"2031-05-01T12:30":               local("2031-05-01 12:30:00"),
		"2031-05-01 12:30":               local("2031-05-01 12:30:00"),
		"2031-05-01":                     local("2031-05-01 00:00:00"),
		"tomorrow":                       {},
		"":                               {},
		"2031-13-01":                     {},
		"2031-05-01T12:00:00Z and later": {},
	} {
		var d dueTime
		err := d.UnmarshalText([]byte(text))
		if (err != nil) != want.IsZero() || !d.time().Equal(want) {
			t.Errorf("%q is %v, %v, want %v", text, d.time(), err, want)
		}
	}
	var d dueTime
	if err := d.UnmarshalText([]byte("-90s")); err != nil || time.Until(d.time()) > -90*time.Second || d.String() != "-90s" {
		t.Errorf("-90s is %v, %v", d.time(), err)
	}
}

func TestSpan(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", 340*time.Millisecond + 300*time.Microsecond: "340ms", 12340 * time.Millisecond: "12.3s", 29*time.Minute + 59*time.Second: "29m59s",
		time.Hour: "1h0m", 90*time.Minute + 20*time.Second: "1h30m", 49 * time.Hour: "2d1h",
	} {
		if got := span(d); got != want {
			t.Errorf("%d is %q, want %q", d, got, want)
		}
	}
}

// TestReadLine reads lines, of which those that are too long are left out, each as one.
func TestReadLine(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxTimerLine+1)
	r := bufio.NewReaderSize(strings.NewReader("a\n\n"+long+"\n"+long[:maxTimerLine-1]+"\nb\r\n"+long+long), 64)
	type line struct {
		n   int
		err string
	}
	var got []line
	for {
		text, err := readLine(r)
		if errors.Is(err, io.EOF) {
			break
		}
		l := line{n: len(text)}
		if err != nil {
			l.err = err.Error()
		}
		got = append(got, l)
	}
	tooLong := line{err: errLongLine.Error()}
	if diff := cmp.Diff([]line{{n: 1}, {}, tooLong, {n: maxTimerLine - 1}, {n: 2}, tooLong}, got, cmp.AllowUnexported(line{})); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// TestReadLines ends with the input, and tells how.
func TestReadLines(t *testing.T) {
	t.Parallel()
	lines := make(chan importLine, 10)
	readLines(t.Context(), io.MultiReader(strings.NewReader("a\nb"), brokenReader{}), lines)
	close(lines)
	var got []string
	for l := range lines {
		got = append(got, string(l.text))
		if l.err != nil {
			got = append(got, l.err.Error())
		}
	}
	if diff := cmp.Diff([]string{"a", "b", "broken"}, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	readLines(stopped, strings.NewReader("a\nb"), make(chan importLine)) // returns although nobody takes them
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

func TestProgress(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := &progress{what: "timers", size: 100, begun: time.Now().Add(-time.Second), out: &out}
	p.read(50)
	p.add(10)
	p.read(1000)
	p.add(1) // too soon to be shown
	if got := out.String(); !strings.HasPrefix(got, "\r\x1b[K[###############...............]  50%  10 timers  ") {
		t.Errorf("%q", got)
	}
	out.Reset()
	p.end()
	p.add(1)
	p.end()
	if got := out.String(); got != "\r\x1b[K" {
		t.Errorf("the end is %q", got)
	}
	p = &progress{what: "timers", begun: time.Now()}
	p.add(1)
	p.clear()
}

func TestQuantiles(t *testing.T) {
	t.Parallel()
	var all []time.Duration
	for i := range 1000 {
		all = append(all, time.Duration(999-i)*time.Millisecond)
	}
	if got, want := newQuantiles(all), (quantiles{P50: 500, P99: 990, Max: 999}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := newQuantiles(nil); got != (quantiles{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"10.1.2.3/8": "10.0.0.0/8", "127.0.0.1": "127.0.0.1/32", "::1": "::1/128", "fd00::/8": "fd00::/8", "none": "invalid Prefix",
		"10.0.0.0/33": "", "localhost": "", "": "",
	} {
		var n network
		err := n.UnmarshalText([]byte(text))
		if (err != nil) != (want == "") || err == nil && n.String() != want {
			t.Errorf("%q is %s, %v, want %q", text, n, err, want)
		}
	}
	g := guardFlags{}
	if got := g.networks(true); len(got) != 2 {
		t.Errorf("by default %v", got)
	}
	if got := g.networks(false); len(got) != 0 {
		t.Errorf("by default elsewhere %v", got)
	}
	g.AllowNetwork = []network{{}}
	if got := g.networks(true); len(got) != 0 {
		t.Errorf("none is %v", got)
	}
	g.PublishPrefix = []string{"orders", "orders.", "orders.>"}
	if diff := cmp.Diff([]string{"orders.", "orders.", "orders."}, g.prefixes()); diff != "" {
		t.Errorf("prefixes (-want +got):\n%s", diff)
	}
}
