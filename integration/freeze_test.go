//go:build unix

package integration_test

import (
	"testing"
	"time"

	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
	"github.com/skybus-io/skybus/micro/route"
)

// TestFreezeInstance stops one of three instances without ending it, so that NATS goes on giving it its share. As soon as
// its liveness is gone, calls go around it; when it goes on, it gets calls again.
func TestFreezeInstance(t *testing.T) {
	needPrograms(t)
	platform := startUp(t, "--memory")
	server, gateway := platform.Ports["nats"], platform.Ports["http"]
	conn := connect(t, server)
	client := newClient(t, conn, micro.ClientConfig{AttemptTimeout: 300 * time.Millisecond})
	var frozen *process
	for _, id := range []string{"frozen", "second", "third"} {
		p := service{Server: server, Name: "sleeper", Instance: id, Heartbeat: 300 * time.Millisecond, TTL: time.Second}.start(t)
		if id == "frozen" {
			frozen = p
		}
	}
	awaitState(t, client.Registry(), "sleeper", registry.Online, 3)
	putRoute(t, conn, "sleeper", route.Step{Service: "sleeper", Endpoint: "safe"})
	eventually(t, patience, "the gateway knows the route", func() bool {
		_, err := callRoute(t, gateway, "sleeper")(t.Context())
		return err == nil
	})

	frozen.Freeze()
	since := time.Now()
	// Meanwhile what may be repeated succeeds, if slowly.
	early := startLoad(t, 4, callService(client, "sleeper.safe"))
	awaitState(t, client.Registry(), "sleeper", registry.Offline, 1)
	if failed := early.end().failed(); len(failed) > 0 {
		t.Errorf("before its liveness was gone: %v", failed)
	}
	t.Logf("offline after %v; until then %v, slowest %v", time.Since(since), early.done, early.done.slowest().took())

	for _, way := range []struct {
		name string
		call call
	}{
		{"sdk", callService(client, "sleeper.work")}, // not idempotent: one attempt must do
		{"gateway", callRoute(t, gateway, "sleeper")},
	} {
		const limit = time.Second // one attempt at the frozen instance takes twice that
		slowest := time.Hour
		for try := 0; try < 3 && slowest > limit; try++ { // the machine may be busy, but not each time
			l := startLoad(t, 8, way.call)
			l.await(1500)
			around := l.end()
			slowest = min(slowest, around.slowest().took())
			t.Logf("%s: %v, slowest %v", way.name, around, around.slowest().took())
			if failed := around.failed(); len(failed) > 0 {
				t.Errorf("%s: %v", way.name, failed)
			}
		}
		if slowest > limit {
			t.Errorf("%s: a call took %v", way.name, slowest)
		}
	}

	frozen.Thaw()
	awaitState(t, client.Registry(), "sleeper", registry.Online, 3)
	eventually(t, patience, "the instance takes requests again", func() bool {
		instance, err := callService(client, "sleeper.work")(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return instance == "frozen"
	})
	t.Logf("back %v after it was frozen", time.Since(since))
}
