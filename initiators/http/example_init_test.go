package http_test

import (
	"context"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// exampleRunner has a server, a service and a route of its own.
func exampleRunner(ctx context.Context) (*route.Runner, func()) {
	server, err := bustest.Open()
	if err != nil {
		panic(err)
	}
	conn, err := bus.Connect(ctx, bus.Config{InProcess: server})
	if err != nil {
		panic(err)
	}
	started := make(chan struct{})
	s, err := micro.NewService(conn, micro.Config{Name: "greeter", Hooks: micro.Hooks{Started: func() { close(started) }}})
	if err != nil {
		panic(err)
	}
	type hello struct {
		Name string `json:"name"`
	}
	if err := micro.Handle(s, "hello", func(_ context.Context, req hello) (map[string]string, error) {
		return map[string]string{"text": "Hello " + req.Name}, nil
	}); err != nil {
		panic(err)
	}
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Run(serving) // the example shows what goes wrong
	}()
	<-started
	store, err := route.OpenStore(ctx, conn, route.StoreConfig{})
	if err != nil {
		panic(err)
	}
	if _, err := store.Create(ctx, "hello", route.Route{Steps: []route.Step{{Service: "greeter", Endpoint: "hello"}}}); err != nil {
		panic(err)
	}
	client, err := micro.NewClient(ctx, conn, micro.ClientConfig{Name: "gateway"})
	if err != nil {
		panic(err)
	}
	runner, err := route.NewRunner(ctx, client, route.Config{})
	if err != nil {
		panic(err)
	}
	return runner, func() {
		_ = runner.Close()
		_ = client.Close()
		cancel()
		<-ended
		_ = conn.Close()
		_ = server.Close()
	}
}
