// Command gateway is a service behind an HTTP gateway of its own: API keys and scopes, rates, server-sent events, and a description of the API.
//
//	skybus server &
//	go run ./examples/gateway --listen 127.0.0.1:8090
//
// It prints a key and what to try with it.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/initiators/http/auth"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}

// Order is an order of the shop.
type Order struct {
	ID    string `json:"id"`
	Item  string `json:"item"`
	Count int    `json:"count"`
}

// entries are what the gateway serves. They are data: `skybus http edit new-order` changes one while this runs.
func entries() map[string]string {
	return map[string]string{
		// {id} of the path becomes the member id of the request.
		"order": `{"method":"GET","path":"/orders/{id}","call":"orders.get","description":"One order.","auth":{"scopes":["orders:read"]},
			"templates":{"text/html":"<h1>{{.Response.count}} {{.Response.item}}</h1>"}}`,
		// Ten a minute for each key, and a repeat with the same Idempotency-Key makes no second order.
		"new-order": `{"method":"POST","path":"/orders","call":"orders.put","description":"Orders something.","auth":{"scopes":["orders:write"]},
			"limits":{"key":{"requests":10,"per":"1m"}},"idempotency":{},"statuses":{"ok":201,"already_exists":409}}`,
		// Each new order, as it happens, for whoever listens.
		"events": `{"method":"GET","path":"/orders/events","events":{"subject":"default.dev.pub.orders"},"auth":{"anonymous":true},"limits":{"ip":{"requests":5}}}`,
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	flags := flag.NewFlagSet("gateway", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:8090", "where the gateway listens")
	server := flags.String("server", cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL), "NATS server")
	if err := flags.Parse(args); err != nil {
		return err
	}
	conn, err := bus.Connect(ctx, bus.Config{Server: *server})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	stop, err := serveOrders(ctx, conn)
	if err != nil {
		return err
	}
	defer stop()
	return serveGateway(ctx, conn, *listen, stdout)
}

// serveOrders runs the service until stop is called. It knows nothing of HTTP.
func serveOrders(ctx context.Context, conn *bus.Conn) (stop func(), err error) {
	started := make(chan struct{})
	s, err := micro.NewService(conn, micro.Config{Name: "orders", Hooks: micro.Hooks{Started: func() { close(started) }}})
	if err != nil {
		return nil, err
	}
	var orders sync.Map
	get := func(_ context.Context, req struct {
		ID string `json:"id"`
	},
	) (Order, error) {
		o, ok := orders.Load(req.ID)
		if !ok {
			return Order{}, bus.Errorf(bus.NotFound, "there is no order %q", req.ID)
		}
		return o.(Order), nil // there is nothing else in it
	}
	put := func(_ context.Context, o Order) (Order, error) {
		if o.ID == "" || o.Count < 1 {
			return o, bus.Errorf(bus.InvalidArgument, "want an id, and a count of 1 or more")
		}
		if _, there := orders.LoadOrStore(o.ID, o); there {
			return o, bus.Errorf(bus.AlreadyExists, "there is an order %q", o.ID)
		}
		event := &nats.Msg{Subject: "default.dev.pub.orders", Data: fmt.Appendf(nil, `{"id":%q}`, o.ID)}
		return o, conn.Publish(event)
	}
	if err := errors.Join(micro.Handle(s, "get", get, micro.Idempotent()), micro.Handle(s, "put", put)); err != nil {
		return nil, err
	}
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	failed := make(chan error, 1)
	go func() { failed <- s.Run(serving) }()
	select {
	case <-started:
	case err := <-failed:
		cancel()
		return nil, err
	}
	return func() {
		cancel()
		if err := <-failed; err != nil {
			fmt.Fprintln(os.Stderr, "orders:", err)
		}
	}, nil
}

// serveGateway stores the entries, makes a key, and serves until ctx ends.
func serveGateway(ctx context.Context, conn *bus.Conn, listen string, stdout io.Writer) error {
	store, err := gateway.OpenStore(ctx, conn, false)
	if err != nil {
		return err
	}
	for name, text := range entries() {
		e, err := gateway.ParseJSON([]byte(text))
		if err == nil {
			_, err = store.Put(ctx, name, e, 0)
		}
		if err != nil {
			return err
		}
	}
	keys, err := auth.OpenKeys(ctx, conn, false)
	if err != nil {
		return err
	}
	_, key, err := keys.New(ctx, auth.NewKey{Name: "example", Scopes: []string{"orders:read", "orders:write"}})
	if err != nil {
		return err
	}
	guard, err := auth.Open(ctx, conn, auth.Config{Keys: &auth.KeysConfig{}}, auth.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = guard.Close() }() // nothing is asked of it any more
	client, err := micro.NewClient(ctx, conn, micro.ClientConfig{Name: "gateway"})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // likewise
	runner, err := route.NewRunner(ctx, client, route.Config{})
	if err != nil {
		return err
	}
	defer func() { _ = runner.Close() }() // likewise
	g, err := gateway.Open(ctx, initiators.Sources{Client: client, Runner: runner}, gateway.Config{Guard: guard})
	if err != nil {
		return err
	}
	defer func() { _ = g.Close() }() // likewise
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, `url http://%[1]s
key %[2]s
try
  curl -N http://%[1]s/orders/events &
  curl -H 'X-Api-Key: %[2]s' -d '{"id":"7","item":"widget","count":2}' http://%[1]s/orders
  curl -H 'X-Api-Key: %[2]s' http://%[1]s/orders/7
  curl -H 'X-Api-Key: %[2]s' http://%[1]s/v1/openapi.json        # in a browser: http://%[1]s/v1/docs
`, l.Addr(), key)
	return g.Serve(ctx, l)
}
