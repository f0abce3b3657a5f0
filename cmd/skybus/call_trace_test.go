package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
)

func TestTree(t *testing.T) {
	t.Parallel()
	got := trace{Took: 3456789, Hops: []traceRow{
		{"shop", "order", "a1", 3 * time.Millisecond, "", 0},
		{"stock", "reserve", "b2", 1500 * time.Microsecond, bus.NotFound, 1},
		{"log", "write", "c3", 900, "", 2},
	}}.tree()
	const want = `shop.order              3ms  a1
  stock.reserve       1.5ms  b2 not_found
    log.write           1µs  c3
in all              3.457ms
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCallTrace(t *testing.T) {
	t.Parallel()
	url := startSlow(t)
	code, stdout, stderr := runs(t.Context(), &cli{}, "call", "slow.refuse", "--trace", "--server", url)
	tree := regexp.MustCompile(`^slow\.refuse +[\d.]+[mµ]?s  \w+ failed_precondition\nin all +[\d.]+[mµ]?s\nskybus: failed_precondition: `)
	if code != exitFailed || stdout != "" || !tree.MatchString(stderr) {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	_, _, stderr = runs(t.Context(), &cli{}, "call", "slow.refuse", "--trace", "--server", url, "-o", "json")
	var got struct{ Trace trace }
	if err := json.NewDecoder(strings.NewReader(stderr)).Decode(&got); err != nil || len(got.Trace.Hops) != 1 || got.Trace.Took < got.Trace.Hops[0].Took {
		t.Errorf("trace %+v, error %v: %s", got, err, stderr)
	}
}
