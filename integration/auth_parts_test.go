//go:build unix

package integration_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/auth"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
	"github.com/skybus-io/skybus/micro/route"
)

// part is a user of a role that serves the platform.
func (s *secured) part(t *testing.T, role auth.Role) *bus.Conn {
	t.Helper()
	return s.login(t, auth.UserConfig{Role: role, App: "shop", Env: "prod"}, "shop.prod")
}

// TestRouterUnderRole runs a router with nothing but the rights of its role: it serves a route and does an asynchronous step,
// for a client that as a gateway may also run the route itself.
func TestRouterUnderRole(t *testing.T) {
	t.Parallel()
	twice(t, routerUnderRole)
}

func routerUnderRole(t *testing.T, s *secured) {
	t.Helper()
	orders, web, admin, conn := s.service(t, "orders"), s.client(t), s.admin(t, "shop.prod"), s.part(t, auth.Router)
	noted := make(chan string, 16)
	serveTickets(t, orders, "orders", "o1", noted)
	store, err := route.OpenStore(t.Context(), admin, route.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	steps := []route.Step{{Service: "orders", Endpoint: "check"}, {Service: "orders", Endpoint: "note", Async: true}}
	if _, err := store.Put(t.Context(), "tickets", route.Route{Steps: steps}, 0); err != nil {
		t.Fatal(err)
	}

	client := newClient(t, conn, micro.ClientConfig{Name: "router"})
	runner, err := route.NewRunner(t.Context(), client, route.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = runner.Close() })
	router, err := route.NewRouter(runner, route.RouterConfig{Instance: "r1"})
	if err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, route.NewWorker(client, route.WorkerConfig{Runner: runner}).Run)
	runUntilCleanup(t, router.Run)

	gateway := newClient(t, web, micro.ClientConfig{Name: "gateway"})
	awaitRoutes(t, gateway.Registry(), 1, "tickets")
	if _, err := micro.Call[ticket](t.Context(), gateway, "route.tickets", ticket{Text: "by the router"}); err != nil {
		t.Error(err)
	}
	heard(t, noted, "by the router")
	own, err := route.NewRunner(t.Context(), gateway, route.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Close() }()
	body, err := json.Marshal(ticket{Text: "by the gateway"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := own.Run(t.Context(), "tickets", route.Request{Body: body}); err != nil {
		t.Error(err)
	}
	heard(t, noted, "by the gateway")
	harmless(t, conn, web)
}

// TestAgentUnderRole removes the record of a dead instance with nothing but the rights of an agent. The living stay.
func TestAgentUnderRole(t *testing.T) {
	t.Parallel()
	twice(t, agentUnderRole)
}

func agentUnderRole(t *testing.T, s *secured) {
	t.Helper()
	serveTickets(t, s.service(t, "orders"), "orders", "o1", make(chan string, 16))
	admin, conn := s.admin(t, "shop.prod"), s.part(t, auth.Agent)
	records, err := kv.Open[registry.Record](t.Context(), admin, registry.InstancesBucket, kv.Config{})
	if err != nil {
		t.Fatal(err)
	}
	dead := registry.Record{Service: "orders", Instance: "dead", Version: "1.0.0", Registered: true, Started: time.Now()}
	if _, err := records.Put(t.Context(), "shop.prod.orders.dead", dead); err != nil {
		t.Fatal(err)
	}
	reg, err := registry.Open(t.Context(), conn, registry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	reaped := make(chan registry.Record, 4)
	reaper, err := registry.NewReaper(conn, reg, registry.ReaperConfig{After: time.Second, Reaped: func(r registry.Record) { reaped <- r }})
	if err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, reaper.Run)
	select {
	case r := <-reaped:
		if r.Instance != "dead" {
			t.Errorf("%s/%s was removed", r.Service, r.Instance)
		}
	case <-time.After(patience):
		t.Fatal("the record of the dead is still there")
	}
	if s := reg.Service("orders"); s == nil || s.Instance("o1") == nil {
		t.Error("the living is gone too")
	}
	harmless(t, conn)
}
