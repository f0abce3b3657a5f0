//go:build unix

package integration_test

import (
	"context"
	"fmt"
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
	c := startCluster(t)
	up := startUp(t, "--demo", "--server", c.urls())
	survivor := c.named(up.Ports["nats"])
	var victims []string
	for name := range c {
		if name != survivor {
			victims = append(victims, name)
		}
	}
	conn := connect(t, c.urls())
	e := newEditor(t, conn, up.Ports["http"])
	e.put(patience, "authorize.check", "getwidgets.get")
	awaitPeers(t, conn, "KV_"+route.Bucket)
	lead(t, conn, "KV_"+route.Bucket, victims[0])
	l := startLoad(t, 4, callWidgets(t, up.Ports["http"]))
	l.await(100)

	killed := time.Now()
	c[victims[0]].Kill()
	stored := e.putting("getwidgets.get")
	elected := awaitLeader(t, conn, "KV_"+route.Bucket, victims[0]).Sub(killed)
	if err := <-stored; err != nil {
		t.Fatalf("an edit while there is no leader, which was elected after %v: %v", elected, err)
	}
	e.obeyed("getwidgets.get")
	took := time.Since(killed)
	t.Logf("a leader was elected %v after the other was killed, the edit stored and obeyed after %v", elected, took)
	if took-elected > patience/2 {
		t.Errorf("it took %v to store an edit since there is a leader", took-elected)
	}
	l.await(100)

	c[victims[1]].Kill()
	soon := putWithoutQuorum(t, c[survivor].Ports["nats"]) // while the one that is left may still believe in its leader
	begin := time.Now()
	err := e.try(5*time.Second, "authorize.check", "getwidgets.get")
	if code := bus.CodeOf(err); code != bus.Unavailable && code != bus.DeadlineExceeded || !strings.Contains(err.Error(), "quorum") {
		t.Errorf("an edit without a quorum: %v", err)
	}
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("it took %v to fail, want 5s", took)
	}
	stderr := putWithoutQuorum(t, c[survivor].Ports["nats"])
	t.Logf("without a quorum: %s; %v; %s", soon, err, stderr)
	l.await(200)
	e.obeyed("getwidgets.get")
	if failed := l.end().failed(); len(failed) > 0 {
		t.Errorf("%d requests failed: %v", len(failed), failed)
	}

	for _, name := range victims { // one of them may be the only one that the other knows
		c[name].Restart()
	}
	e.put(elections, "getwidgets.get", "authorize.check")
}

// editor edits the demo's route.
type editor struct {
	t       *testing.T
	store   *route.Store
	gateway string
}

func newEditor(t *testing.T, conn *bus.Conn, gateway string) *editor {
	t.Helper()
	store, err := route.OpenStore(t.Context(), conn, route.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return &editor{t, store, gateway}
}

func (e *editor) try(within time.Duration, targets ...string) error {
	ctx, cancel := context.WithTimeout(e.t.Context(), within)
	defer cancel()
	_, err := e.store.Put(ctx, "getwidgets", route.Route{Steps: chain(targets...)}, 0)
	return err
}

// putting edits the route meanwhile, as soon as somebody can store that.
func (e *editor) putting(targets ...string) <-chan error {
	stored := make(chan error, 1)
	go func() { stored <- e.try(elections, targets...) }()
	return stored
}

// put edits the route and returns when the gateway obeys.
func (e *editor) put(within time.Duration, targets ...string) {
	e.t.Helper()
	if err := e.try(within, targets...); err != nil {
		e.t.Fatalf("edit to %q: %v", targets, err)
	}
	e.obeyed(targets...)
}

func (e *editor) obeyed(targets ...string) {
	e.t.Helper()
	eventually(e.t, patience, fmt.Sprintf("the gateway obeys %q", targets), func() bool {
		return slices.Equal(trail(e.t, e.gateway), targets)
	})
}

// putWithoutQuorum tries to store a route by the program and returns what that says.
func putWithoutQuorum(t *testing.T, server string) (stderr string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "route.yaml")
	if err := os.WriteFile(file, []byte("steps: [{service: authorize, endpoint: check}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := run(t, "skybus", "routes", "put", "other", "-f", file, "--timeout", "5s", "--server", server)
	if code != 1 || !strings.Contains(stderr, "quorum") {
		t.Errorf("skybus routes put ends with %d without a quorum: %s", code, stderr)
	}
	return stderr
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
