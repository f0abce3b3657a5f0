package route_test

import (
	"context"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// exampleShop runs the services of the example and returns when they take requests.
func exampleShop(ctx context.Context) (*bus.Conn, func()) {
	server, err := bustest.Open()
	if err != nil {
		panic(err)
	}
	conn, err := bus.Connect(ctx, bus.Config{InProcess: server})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	services := map[string]func(*micro.Service) error{"stock": says("check", `{"in_stock":3}`), "till": says("charge", `{"paid":true}`)}
	for name, add := range services {
		started := make(chan struct{})
		s, err := micro.NewService(conn, micro.Config{Name: name, Hooks: micro.Hooks{Started: func() { close(started) }}})
		if err != nil {
			panic(err)
		}
		if err := add(s); err != nil {
			panic(err)
		}
		go func() {
			_ = s.Run(ctx) // the example shows what goes wrong
			ended <- struct{}{}
		}()
		<-started
	}
	return conn, func() {
		cancel()
		for range services {
			<-ended
		}
		_ = conn.Close()
		_ = server.Close()
	}
}
