//go:build unix

package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/auth"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/config"
	"github.com/skybus-io/skybus/micro/registry"
	"github.com/skybus-io/skybus/micro/route"
)

const configBucket = config.Bucket

// secured is a server in operator mode with one account, where an admin has made what others only bind to.
type secured struct {
	*bustest.Node

	account *auth.Account // nil: the server knows no users, all may do everything
}

// twice runs a test on a server that knows no users, and a second time in operator mode, where everybody has nothing but the
// rights of a role.
func twice(t *testing.T, test func(t *testing.T, s *secured)) {
	t.Helper()
	t.Run("without users", func(t *testing.T) {
		t.Parallel()
		s := &secured{Node: bustest.Server(t)}
		prepare(t, s.admin(t, "shop.prod"))
		test(t, s)
	})
	t.Run("under roles", func(t *testing.T) {
		t.Parallel()
		test(t, startSecured(t))
	})
}

func startSecured(t *testing.T) *secured {
	t.Helper()
	op, err := auth.NewOperator(auth.OperatorConfig{Name: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	account, err := op.NewAccount(auth.AccountConfig{Name: "shop", MaxStore: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := jwt.DecodeOperatorClaims(op.JWT())
	if err != nil {
		t.Fatal(err)
	}
	s := &secured{account: account}
	s.Node = bustest.Server(t, bustest.Configure(func(o *server.Options) {
		resolver := &server.MemAccResolver{}
		if err := errors.Join(resolver.Store(account.ID(), account.JWT()), resolver.Store(op.System().ID(), op.System().JWT())); err != nil {
			t.Error(err)
		}
		o.TrustedOperators, o.AccountResolver, o.SystemAccount = []*jwt.OperatorClaims{trusted}, resolver, op.System().ID()
	}))
	prepare(t, s.admin(t, "shop.prod"))
	return s
}

// prepare makes the buckets and streams.
func prepare(t *testing.T, conn *bus.Conn) {
	t.Helper()
	client, err := micro.NewClient(t.Context(), conn, micro.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	runner, err := route.NewRunner(t.Context(), client, route.Config{})
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := kv.OpenLeases(t.Context(), conn)
	_, err2 := config.Table(t.Context(), conn, false)
	if err := errors.Join(err1, err2, runner.Close(), client.Close()); err != nil {
		t.Fatal(err)
	}
}

func (s *secured) admin(t *testing.T, namespace string) *bus.Conn {
	t.Helper()
	return s.login(t, auth.UserConfig{Role: auth.Admin}, namespace)
}

// service is a user who serves services in shop.prod, and calls all.
func (s *secured) service(t *testing.T, services ...string) *bus.Conn {
	t.Helper()
	return s.login(t, auth.UserConfig{Role: auth.Service, App: "shop", Env: "prod", Services: services}, "shop.prod")
}

func (s *secured) client(t *testing.T, calls ...string) *bus.Conn {
	t.Helper()
	return s.login(t, auth.UserConfig{Role: auth.Client, App: "shop", Env: "prod", Calls: calls}, "shop.prod")
}

func (s *secured) login(t *testing.T, cfg auth.UserConfig, namespace string) *bus.Conn {
	t.Helper()
	var login []nats.Option
	if s.account != nil {
		user, err := s.account.NewUser(cfg)
		if err != nil {
			t.Fatal(err)
		}
		login = append(login, nats.UserCredentialBytes(user.Creds()))
	}
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: s, Namespace: namespace, Options: login})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.NATS().Close() })
	return conn
}

// harmless fails the test when something that a role does all day was refused.
func harmless(t *testing.T, conns ...*bus.Conn) {
	t.Helper()
	for _, conn := range conns {
		if err := conn.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if n := conn.AsyncErrors(); n > 0 {
			t.Errorf("%d errors, the last is %v", n, conn.NATS().LastError())
		}
	}
}

type ticket struct {
	Text string `json:"text"`
	By   string `json:"by,omitempty"`
}

// serveTickets runs a service with the endpoints check, hello, note (which tells noted and takes one-way messages too) and
// hold (which tells noted when its caller gave up) until the test ends, and returns when it is registered.
func serveTickets(t *testing.T, conn *bus.Conn, name, instance string, noted chan<- string) *micro.Service {
	t.Helper()
	registered := make(chan struct{})
	svc, err := micro.NewService(conn, micro.Config{
		Name: name, Instance: instance, Hooks: micro.Hooks{Registered: sync.OnceFunc(func() { close(registered) })},
	})
	if err != nil {
		t.Fatal(err)
	}
	answer := func(_ context.Context, in ticket) (ticket, error) { return ticket{in.Text, instance}, nil }
	err = errors.Join(
		micro.Handle(svc, "check", answer),
		micro.Handle(svc, "hello", answer, micro.Idempotent()),
		micro.Handle(svc, "note", func(_ context.Context, in ticket) (ticket, error) {
			noted <- in.Text
			return ticket{}, nil
		}, micro.OneWay()),
		micro.Handle(svc, "hold", func(ctx context.Context, in ticket) (ticket, error) {
			<-ctx.Done()
			noted <- "gave up " + in.Text
			return ticket{}, context.Cause(ctx)
		}),
	)
	if err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, svc.Run)
	select {
	case <-registered:
	case <-time.After(patience):
		t.Fatalf("%s is not registered", name)
	}
	return svc
}

// heard wants a message among those that are noted.
func heard(t *testing.T, noted <-chan string, want string) {
	t.Helper()
	select {
	case got := <-noted:
		if got != want {
			t.Errorf("%q is noted, want %q", got, want)
		}
	case <-time.After(patience):
		t.Errorf("%q is not noted", want)
	}
}

// runUntilCleanup runs f until the test ends, and wants it to end well.
func runUntilCleanup(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestRolesSuffice does what services and clients do, with all rights and with nothing but those of their roles.
func TestRolesSuffice(t *testing.T) {
	t.Parallel()
	twice(t, sdkUnderRoles)
}

func sdkUnderRoles(t *testing.T, s *secured) {
	t.Helper()
	orders, web, admin := s.service(t, "orders"), s.client(t, "orders"), s.admin(t, "shop.prod")
	noted := make(chan string, 16)
	svc := serveTickets(t, orders, "orders", "o1", noted)
	client := newClient(t, web, micro.ClientConfig{Name: "web"})
	ctx := t.Context()

	t.Run("discovery", func(t *testing.T) {
		eventually(t, patience, "the client knows the instance", func() bool {
			return slices.Equal(inState(client.Registry(), "orders", registry.Online), []string{"o1"})
		})
	})
	t.Run("calls", func(t *testing.T) {
		for _, opts := range [][]micro.CallOption{nil, {micro.ToInstance("o1")}, {micro.ToVersion("0.0.0")}} {
			if got, err := micro.Call[ticket](ctx, client, "orders.check", ticket{Text: "a"}, opts...); err != nil || got.By != "o1" {
				t.Errorf("got %v, %v", got, err)
			}
		}
		inner := newClient(t, orders, micro.ClientConfig{Name: "web"}) // a handler's
		if _, err := micro.Call[ticket](ctx, inner, "orders.check", ticket{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("control and open discovery", func(t *testing.T) {
		for _, subject := range []string{"shop.prod.ctl.orders.o1.ping", "$SRV.INFO", "$SRV.STATS.orders.o1"} {
			if err := ask(t, web, subject); err != nil {
				t.Errorf("%s: %v", subject, err)
			}
		}
	})
	t.Run("routes", func(t *testing.T) { routesUnderRoles(t, admin, client, noted) })
	t.Run("one-way, broadcast and cancel", func(t *testing.T) { othersUnderRoles(t, client, noted) })
	t.Run("streams", func(t *testing.T) { streamsUnderRoles(t, orders, web) })
	t.Run("registering and attributes", func(t *testing.T) { attributesUnderRoles(t, svc, client.Registry()) })
	t.Run("election", func(t *testing.T) { electionUnderRoles(t, orders, web) })
	t.Run("leases", func(t *testing.T) { leasesUnderRoles(t, orders, web) })
	t.Run("configuration", func(t *testing.T) { configUnderRoles(t, admin, orders, web) })
	harmless(t, orders, web, admin)
}

func ask(t *testing.T, conn *bus.Conn, subject string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := conn.Request(ctx, &nats.Msg{Subject: subject})
	return err
}

func routesUnderRoles(t *testing.T, admin *bus.Conn, client *micro.Client, noted <-chan string) {
	t.Helper()
	ctx := t.Context()
	store, err := route.OpenStore(ctx, admin, route.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	steps := []route.Step{{Service: "orders", Endpoint: "check"}, {Service: "orders", Endpoint: "note", Async: true}}
	if _, err := store.Put(ctx, "tickets", route.Route{Steps: steps}, 0); err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, route.NewWorker(newClient(t, admin, micro.ClientConfig{Name: "web"}), route.WorkerConfig{}).Run)
	runner, err := route.NewRunner(ctx, client, route.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = runner.Close() }()
	body, err := json.Marshal(ticket{Text: "by a route"})
	if err != nil {
		t.Fatal(err)
	}
	result, err := runner.Run(ctx, "tickets", route.Request{Body: body})
	if err != nil || len(result.Hops) != 2 {
		t.Fatalf("got %+v, %v", result, err)
	}
	heard(t, noted, "by a route")
}

func leasesUnderRoles(t *testing.T, orders, web *bus.Conn) {
	t.Helper()
	ctx := t.Context()
	key := orders.Namespace().Key("election", "orders")
	candidates, err := kv.OpenLeases(ctx, orders)
	if err != nil {
		t.Fatal(err)
	}
	watchers, err := kv.OpenLeases(ctx, web)
	if err != nil {
		t.Fatal(err)
	}
	lease, err := candidates.Acquire(ctx, key, "o1", 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	first := lease.Deadline()
	eventually(t, patience, "the lease is renewed", func() bool { return lease.Deadline().After(first) })
	if h, err := watchers.Holder(ctx, key); err != nil || h.Owner != "o1" {
		t.Errorf("a client sees the holder %v, %v", h, err)
	}
	next := make(chan error, 1)
	go func() {
		lease, err := candidates.Wait(ctx, key, "o2", 2*time.Second)
		if err == nil {
			err = lease.Release(ctx)
		}
		next <- err
	}()
	if err := lease.Release(ctx); err != nil {
		t.Error(err)
	}
	if err := <-next; err != nil {
		t.Error(err)
	}
}

func configUnderRoles(t *testing.T, admin, orders, web *bus.Conn) {
	t.Helper()
	ctx := t.Context()
	writer, err := config.Table(ctx, admin, true)
	if err != nil {
		t.Fatal(err)
	}
	key := admin.Namespace().Key("orders", "_", "log", "level")
	for i, reader := range []*bus.Conn{orders, web} {
		values, err := config.Open(ctx, reader, config.Config{})
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprint("level ", i)
		if _, err := writer.Put(ctx, key, []byte(want)); err != nil {
			t.Fatal(err)
		}
		eventually(t, patience, "the configuration is read", func() bool {
			return config.Get(values, config.Scope{Service: "orders"}, "log.level", "") == want
		})
		if err := values.Close(); err != nil {
			t.Error(err)
		}
		table, err := config.Table(ctx, reader, false)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := table.Get(ctx, key); err != nil || string(e.Value) != want {
			t.Errorf("Get = %q, %v", e.Value, err)
		}
		for e, err := range table.History(ctx, key) {
			if err != nil {
				t.Errorf("history: %v, %v", e, err)
			}
		}
	}
}
