//go:build unix

package integration_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/route"
)

// TestRoutesWithoutLeader runs a route on three servers. The leader of the bucket of routes is killed: requests go on, and an
// edit made meanwhile is stored and obeyed as soon as there is another. A second server is killed, and with it the quorum:
// requests still go on, by the last route that was known, and an edit fails in its time and says why.
func TestRoutesWithoutLeader(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	const election = 15 * time.Second // 4 to 9 s, and a busy machine
	c := startCluster(t)
	up := startUp(t, "--demo", "--server", c.urls())
	survivor := c.named(up.ports["nats"])
	var victims []string
	for name := range c {
		if name != survivor {
			victims = append(victims, name)
		}
	}
	conn := connect(t, c.urls())
	store, err := route.OpenStore(t.Context(), conn, route.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	put := func(within time.Duration, endpoints ...string) error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		_, err := store.Put(ctx, "getwidgets", route.Route{Steps: chain(endpoints...)}, 0)
		return err
	}
	obeyed := func(endpoints ...string) {
		t.Helper()
		eventually(t, patience, "the gateway obeys the edit", func() bool { return slices.Equal(trail(t, up.ports["http"]), endpoints) })
	}
	if err := put(patience, "authorize.check", "getwidgets.get"); err != nil {
		t.Fatal(err)
	}
	obeyed("authorize.check", "getwidgets.get")
	awaitPeers(t, conn, "KV_"+route.Bucket)
	lead(t, conn, "KV_"+route.Bucket, victims[0])
	l := startLoad(t, 4, callWidgets(t, up.ports["http"]))
	l.await(100)

	killed := time.Now()
	c[victims[0]].kill()
	if err := put(election, "getwidgets.get"); err != nil {
		t.Errorf("an edit while there is no leader: %v", err)
	}
	t.Logf("stored %v after the leader was killed", time.Since(killed))
	obeyed("getwidgets.get")
	l.await(100)

	c[victims[1]].kill()
	begin := time.Now()
	err = put(5*time.Second, "authorize.check", "getwidgets.get")
	if code := bus.CodeOf(err); code != bus.Unavailable && code != bus.DeadlineExceeded || !strings.Contains(err.Error(), "quorum") {
		t.Errorf("an edit without a quorum: %v", err)
	}
	if took := time.Since(begin); took > 8*time.Second {
		t.Errorf("it took %v to fail, want 5s", took)
	}
	file := filepath.Join(t.TempDir(), "route.yaml")
	if err := os.WriteFile(file, []byte("steps: [{service: authorize, endpoint: check}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := run(t, "skybus", "routes", "put", "other", "-f", file, "--timeout", "5s", "--server", c[survivor].ports["nats"])
	if code != 1 || !strings.Contains(stderr, "quorum") {
		t.Errorf("skybus routes put ends with %d without a quorum: %s", code, stderr)
	}
	t.Logf("without a quorum: %v; %s", err, stderr)
	l.await(200)
	obeyed("getwidgets.get")
	if failed := l.end().failed(); len(failed) > 0 {
		t.Errorf("%d requests failed: %v", len(failed), failed)
	}

	for _, name := range victims { // one of them may be the only one that the other knows
		c[name].restart()
	}
	if err := put(election, "getwidgets.get", "authorize.check"); err != nil {
		t.Errorf("an edit once there is a quorum again: %v", err)
	}
	obeyed("getwidgets.get", "authorize.check")
}

// chain is steps that may be repeated.
func chain(targets ...string) []route.Step {
	var steps []route.Step
	for _, target := range targets {
		service, endpoint, _ := strings.Cut(target, ".")
		steps = append(steps, route.Step{Service: service, Endpoint: endpoint, Retry: true})
	}
	return steps
}
