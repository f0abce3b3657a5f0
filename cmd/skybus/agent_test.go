package main

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/registry"
)

// TestAgents has two agents watch: the record of the instance that died is removed, and told of by one of them. Those of the
// living stay.
func TestAgents(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	conn := connectTo(t, s)
	putInstances(t, conn)
	reg, err := registry.Open(t.Context(), conn, registry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reg.Close() }()

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	var out [2]string
	for i, format := range []string{"json", "table"} {
		running.Go(func() {
			code, stdout, stderr := runs(ctx, &cli{}, "agent", "--after", "1s", "-o", format, "--log-level", "error", "--server", s.URL())
			if code != exitOK || stderr != "" {
				t.Errorf("agent %d: exit %d, stderr %q", i, code, stderr)
			}
			out[i] = stdout
		})
	}
	bustest.Eventually(t, "the dead to be removed", func() bool { return reg.Service("shop").Instance("c") == nil })
	stop()
	running.Wait()
	var left []string
	for _, i := range reg.Instances(registry.Criteria{}) {
		left = append(left, i.Instance)
	}
	if diff := cmp.Diff([]string{"a", "b"}, left); diff != "" {
		t.Errorf("who is left (-want +got):\n%s", diff)
	}
	all := out[0] + out[1]
	if strings.Count(all, "\n") != 1 {
		t.Fatalf("the agents told %q, want one line", out)
	}
	if out[1] != "" {
		if want := "removed  shop c 1.0.0 host \"\" pid 0\n"; out[1] != want {
			t.Errorf("told %q, want %q", out[1], want)
		}
		return
	}
	var e removal
	if err := json.Unmarshal([]byte(out[0]), &e); err != nil || e.Change != "removed" || e.Instance != "c" || e.At.IsZero() {
		t.Errorf("told %q, %v", out[0], err)
	}
}
