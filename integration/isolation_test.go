//go:build unix

package integration_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
	"github.com/skybus-io/skybus/micro/route"
)

// TestNamespacesDoNotMix runs the same services in three namespaces of one account, whose names are as alike as can be. What
// looks into one of them sees nothing of the others, also of what happens while it looks.
func TestNamespacesDoNotMix(t *testing.T) {
	t.Parallel()
	server := bustest.Server(t, bustest.TCP())
	join := func(namespace string) *bus.Conn {
		conn, err := bus.Connect(t.Context(), bus.Config{Server: server.URL(), Namespace: namespace})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.NATS().Close() })
		return conn
	}
	mine := join("shop.dev")
	reg, err := registry.Open(t.Context(), mine, registry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	watched := watchServices(t, reg)
	events, err := mine.NATS().SubscribeSync("shop.dev.ev.>")
	if err != nil {
		t.Fatal(err)
	}

	serveTickets(t, mine, "orders", "mine", nil)
	for _, namespace := range []string{"shop.dev2", "shop.de", "shop2.dev", "dev.shop"} {
		other := join(namespace)
		serveTickets(t, other, "orders", "theirs-"+strings.ReplaceAll(namespace, ".", "-"), nil)
		serveTickets(t, other, "secret", "hidden-"+strings.ReplaceAll(namespace, ".", "-"), nil)
		fillNamespace(t, other, "secret")
	}
	fillNamespace(t, mine, "orders")
	awaitState(t, reg, "orders", registry.Online, 1)

	t.Run("listing", func(t *testing.T) {
		if services := reg.Services(); len(services) != 1 || services["orders"] == nil {
			t.Errorf("services: %v", services)
		}
		for _, i := range reg.Instances(registry.Criteria{}) {
			if i.Instance != "mine" {
				t.Errorf("instance %s of %s", i.Instance, i.Service)
			}
		}
	})
	t.Run("calls", func(t *testing.T) { callsStayInNamespace(t, mine) })
	t.Run("routes", func(t *testing.T) { routesStayInNamespace(t, mine) })
	t.Run("command line", func(t *testing.T) { commandsStayInNamespace(t, server) })
	watched()
	heardOnlyMine(t, events)
}

// watchServices watches everything from now on; what it returns ends that and fails the test for what is not mine.
func watchServices(t *testing.T, reg *registry.Registry) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan []string, 1)
	go func() {
		var ids []string
		for change := range reg.Watch(ctx, registry.Criteria{}) {
			ids = append(ids, change.Instance.Instance)
		}
		seen <- ids
	}()
	return func() {
		cancel()
		ids := <-seen
		if len(ids) == 0 {
			t.Error("the watch has seen nothing")
		}
		for _, id := range ids {
			if id != "mine" {
				t.Errorf("the watch has seen %s", id)
			}
		}
	}
}

func callsStayInNamespace(t *testing.T, conn *bus.Conn) {
	t.Helper()
	client := newClient(t, conn, micro.ClientConfig{Patience: -1})
	for range 50 {
		if got, err := micro.Call[ticket](t.Context(), client, "orders.check", ticket{}); err != nil || got.By != "mine" {
			t.Fatalf("got %v, %v", got, err)
		}
	}
	if _, err := micro.Call[ticket](t.Context(), client, "secret.check", ticket{}); !errors.Is(err, bus.ErrNoResponders) {
		t.Errorf("a service of others: %v", err)
	}
	if _, err := micro.Call[ticket](t.Context(), client, "orders.check", ticket{}, micro.ToInstance("theirs-shop-de")); !errors.Is(err, bus.ErrNoResponders) {
		t.Errorf("an instance of others: %v", err)
	}
}

// fillNamespace stores a route and a value of the configuration.
func fillNamespace(t *testing.T, conn *bus.Conn, name string) {
	t.Helper()
	store, err := route.OpenStore(t.Context(), conn, route.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), name, route.Route{Steps: []route.Step{{Service: name, Endpoint: "check"}}}, 0); err != nil {
		t.Fatal(err)
	}
	config, err := kv.Open[[]byte](t.Context(), conn, configBucket, kv.Config{History: 64, Codec: bus.Raw{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config.Put(t.Context(), conn.Namespace().Key(name, "_", "color"), []byte("blue")); err != nil {
		t.Fatal(err)
	}
}

func routesStayInNamespace(t *testing.T, mine *bus.Conn) {
	t.Helper()
	store, err := route.OpenStore(t.Context(), mine, route.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for r, err := range store.List(t.Context()) {
		if err != nil || r.Name != "orders" {
			t.Errorf("route %q, %v", r.Name, err)
		}
	}
	if _, err := store.Get(t.Context(), "secret"); bus.CodeOf(err) != bus.NotFound {
		t.Errorf("a route of others: %v", err)
	}
}

func commandsStayInNamespace(t *testing.T, server *bustest.Node) {
	t.Helper()
	needPrograms(t)
	for _, command := range [][]string{{"services"}, {"instances"}, {"routes"}, {"config"}} {
		out := skybus(t, server.URL(), append(command, "--namespace", "shop.dev", "-o", "json")...)
		if !strings.Contains(out, "orders") {
			t.Errorf("%v does not show what is there:\n%s", command, out)
		}
		for _, foreign := range []string{"theirs", "hidden", "secret"} {
			if strings.Contains(out, foreign) {
				t.Errorf("%v shows %q:\n%s", command, foreign, out)
			}
		}
	}
}

func heardOnlyMine(t *testing.T, events *nats.Subscription) {
	t.Helper()
	for {
		m, err := events.NextMsg(10 * time.Millisecond)
		if errors.Is(err, nats.ErrTimeout) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(m.Subject, "secret") || strings.Contains(string(m.Data), "theirs") {
			t.Errorf("heard %s: %s", m.Subject, m.Data)
		}
	}
}
