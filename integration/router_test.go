//go:build unix

package integration_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
	"github.com/skybus-io/skybus/micro/route"
)

// startRouter starts `skybus router`.
func startRouter(t *testing.T, server, instance string) *platform {
	t.Helper()
	return startPlatform(t, "router", "--server", server, "--instance", instance)
}

// startGateway starts `skybus gateway`.
func startGateway(t *testing.T, server string) *platform {
	t.Helper()
	return startPlatform(t, "gateway", "--server", server, "--http", "127.0.0.1:0")
}

// awaitRoutes waits until each online router serves each of the routes.
func awaitRoutes(t *testing.T, reg *registry.Registry, routers int, names ...string) {
	t.Helper()
	eventually(t, patience, fmt.Sprintf("%d routers serve %q", routers, names), func() bool {
		s := reg.Service(route.RouterService)
		if s == nil || len(s.Online) != routers {
			return false
		}
		for _, i := range s.Online {
			for _, name := range names {
				if _, ok := i.Endpoint(name); !ok {
					return false
				}
			}
		}
		return true
	})
}

// callRouter runs a route by a router, which is the instance that answered.
func callRouter(client *micro.Client, name string) call {
	return func(ctx context.Context) (string, error) {
		reply, err := client.Do(ctx, micro.Request{Service: route.RouterService, Endpoint: name, Body: []byte("{}")})
		from, _ := bus.ParseAddress(reply.From)
		return from.Instance, err
	}
}

// TestKillRouter kills one of two routers under load. A route whose steps may be repeated loses no request; of one whose steps
// may not, those are lost that were in flight to the killed router, and no other.
func TestKillRouter(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startServer(t, "--sync", "1s").Ports["nats"] // measures no disk
	for _, instance := range []string{"app-1", "app-2"} {
		service{Server: server, Name: "app", Instance: instance, Delay: 2 * time.Millisecond}.start(t)
	}
	conn := connect(t, server)
	putRoute(t, conn, "safe", route.Step{Service: "app", Endpoint: "safe", Retry: true})
	putRoute(t, conn, "work", route.Step{Service: "app", Endpoint: "work"})
	victim := startRouter(t, server, "router-1")
	startRouter(t, server, "router-2")
	client := newClient(t, conn, micro.ClientConfig{Timeout: 20 * time.Second, AttemptTimeout: 2 * time.Second})
	awaitRoutes(t, client.Registry(), 2, "safe", "work")

	safe, work := startLoad(t, 8, callRouter(client, "safe")), startLoad(t, 8, callRouter(client, "work"))
	safe.await(400)
	work.await(400)
	killed := time.Now()
	victim.Kill()
	gone := time.Now()
	safe.await(400)
	work.await(400)
	enough := time.Now()
	for name, all := range map[string]outcomes{"safe": safe.end(), "work": work.end()} {
		failed, held := all.failed(), all.flying(killed)
		t.Logf("%s: %v; in flight at the kill %d, longest gap %v, slowest %v", name, all, len(held), all.gap(killed, enough), all.slowest().took())
		if len(all.from("router-1")) == 0 || len(all.from("router-2")) == 0 {
			t.Errorf("%s: a router never answered", name)
		}
		if late := all.after(gone).from("router-1"); len(late) > 0 {
			t.Errorf("%s: %d answers from the killed router", name, len(late))
		}
		if name == "safe" && len(failed) > 0 {
			t.Errorf("%s: %d requests failed though they may be repeated: %v", name, len(failed), failed)
		}
		// Until the server hears of the death it gives requests to the dead: these were sent before it was gone.
		if lost := failed.after(gone.Add(soon)); len(lost) > 0 || len(failed) > 8 {
			t.Errorf("%s: %d requests failed, %d of them sent later than %v after the kill: %v", name, len(failed), len(lost), soon, failed)
		}
	}
}

// TestKillGateway kills one of two gateways under load. Their clients know both, as a balancer would, and go to the other when
// one is gone: nobody fails.
func TestKillGateway(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startServer(t, "--sync", "1s").Ports["nats"] // measures no disk
	startApplication(t, server)
	victim, other := startGateway(t, server), startGateway(t, server)
	gateways := []string{victim.Ports["http"], other.Ports["http"]}
	b := newBrowser(t)
	var turn, moved atomic.Int64
	l := startLoad(t, 8, func(ctx context.Context) (string, error) {
		first := int(turn.Add(1)) % 2
		_, err := b.widgets(ctx, gateways[first])
		if err == nil {
			return fmt.Sprint(first), nil
		}
		moved.Add(1)
		_, err = b.widgets(ctx, gateways[1-first])
		return fmt.Sprint(1 - first), err
	})
	l.await(400)
	victim.Kill()
	gone := time.Now()
	l.await(400)
	all := l.end()
	t.Logf("%v; %d went to the other", all, moved.Load())
	if failed := all.failed(); len(failed) > 0 {
		t.Errorf("%d requests failed at both gateways: %v", len(failed), failed)
	}
	if late := all.after(gone).from("0"); len(late) > 0 || moved.Load() == 0 {
		t.Errorf("%d answers from the killed gateway, %d requests moved", len(late), moved.Load())
	}
}

// TestRouterAsyncSurvivesKills kills a router again and again, right after it has answered: every asynchronous step of what it
// answered is done, be it an endpoint or a route.
func TestRouterAsyncSurvivesKills(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startServer(t).Ports["nats"]
	conn := connect(t, server)
	records := t.TempDir()
	for _, instance := range []string{"log-1", "log-2"} {
		start(t, "service", "--name", "log", "--instance", instance, "--server", server, "--record", filepath.Join(records, instance))
	}
	client := newClient(t, conn, micro.ClientConfig{Timeout: 20 * time.Second, AttemptTimeout: 2 * time.Second})
	awaitState(t, client.Registry(), "log", registry.Online, 2)
	putRoute(t, conn, "note", route.Step{Service: "log", Endpoint: "write", Retry: true})
	putRoute(t, conn, "later", route.Step{Service: "log", Endpoint: "write", Async: true}, route.Step{Route: "note", Async: true})
	var answered []string
	for round := range 4 {
		router := startRouter(t, server, fmt.Sprint("router-", round))
		eventually(t, patience, "the new router answers", func() bool {
			s := client.Registry().Service(route.RouterService)
			return s != nil && s.Instance(fmt.Sprint("router-", round)) != nil
		})
		for range 25 {
			id := nuid.Next()
			_, err := client.Do(micro.WithRequestID(t.Context(), id), micro.Request{
				Service: route.RouterService, Endpoint: "later", Body: []byte(`{"input":"x"}`),
			})
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			answered = append(answered, id)
		}
		router.Kill()
	}
	startRouter(t, server, "last") // somebody has to do the rest
	eventually(t, 2*time.Minute, "no step is left", func() bool { return messages(t, conn, route.AsyncStream) == 0 })
	noted := notes(t, records)
	missing := slices.DeleteFunc(answered, func(id string) bool { return noted[id] >= 2 })
	if dead := messages(t, conn, route.DeadLetterStream); len(missing) > 0 || dead != 0 {
		t.Errorf("%d requests were answered and not noted twice; %d steps were given up", len(missing), dead)
	}
}
