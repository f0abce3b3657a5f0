package tcp_test

import (
	"context"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/micro"
)

// exampleSources has a server and a service of its own.
func exampleSources(ctx context.Context) (initiators.Sources, func()) {
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
	client, err := micro.NewClient(ctx, conn, micro.ClientConfig{Name: "tcp"})
	if err != nil {
		panic(err)
	}
	return initiators.Sources{Client: client}, func() {
		_ = client.Close()
		cancel()
		<-ended
		_ = conn.Close()
		_ = server.Close()
	}
}
