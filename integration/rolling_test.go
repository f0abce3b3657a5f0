//go:build unix

package integration_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
	"github.com/skybus-io/skybus/micro/route"
)

// TestRollingRestart replaces three instances one after another while requests flow that may not be repeated. None fails.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	platform := startUp(t, "--memory")
	server, gateway := platform.Ports["nats"], platform.Ports["http"]
	conn := connect(t, server)
	client := newClient(t, conn, micro.ClientConfig{})
	instance := func(id string) *process {
		return service{Server: server, Name: "roller", Instance: id, Delay: 20 * time.Millisecond}.start(t)
	}
	var running []*process
	for i := range 3 {
		running = append(running, instance(fmt.Sprintf("old-%d", i)))
	}
	awaitState(t, client.Registry(), "roller", registry.Online, 3)
	putRoute(t, conn, "roller", route.Step{Service: "roller", Endpoint: "work"})
	viaRoute := callRoute(t, gateway, "roller")
	eventually(t, patience, "the gateway knows the route", func() bool {
		_, err := viaRoute(t.Context())
		return err == nil
	})

	loads := map[string]*load{
		"sdk":     startLoad(t, 8, callService(client, "roller.work")),
		"gateway": startLoad(t, 8, viaRoute),
	}
	awaitAll := func(more int) {
		for _, l := range loads {
			l.await(more)
		}
	}
	const rounds = 2
	var stops []string // for who looks for the reason of a loss
	for round := range rounds {
		for i, old := range running {
			awaitAll(50)
			begin := time.Now()
			took := old.Stop(syscall.SIGTERM)
			stops = append(stops, fmt.Sprintf("%s from %s for %v", old.Name(), begin.Format(time.StampMicro), took))
			awaitAll(50) // by the two that are left
			running[i] = instance(fmt.Sprintf("new-%d-%d", round, i))
		}
	}
	awaitAll(50)
	t.Logf("stopped %q", stops)
	for name, l := range loads {
		all := l.end()
		slowest := all.slowest()
		t.Logf("%s: %v, slowest %v by %q from %s", name, all, slowest.took(), slowest.instance, slowest.begin.Format(time.StampMicro))
		if failed := all.failed(); len(failed) > 0 {
			t.Errorf("%s: %v; the first began %s", name, failed, failed[0].begin.Format(time.StampMicro))
		}
		for i := range 3 {
			for _, id := range []string{fmt.Sprintf("old-%d", i), fmt.Sprintf("new-%d-%d", rounds-1, i)} {
				if len(all.from(id)) == 0 {
					t.Errorf("%s: instance %s answered nothing", name, id)
				}
			}
		}
	}
}
