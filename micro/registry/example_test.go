package registry_test

import (
	"context"
	"fmt"
	"sync"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/registry"
)

// Who is there, kept up to date without a message per question.
func ExampleOpen() {
	server, conn := begin() // in a program: bus.Connect
	defer end(server, conn)
	ctx, stop := context.WithCancel(context.Background())

	r, err := registry.Open(ctx, conn, registry.Config{})
	check(err)
	changed := r.Changed()

	// Services announce themselves; a process that is none can do so, too.
	shop, err := registry.NewAnnouncer(conn, registry.Record{
		Service: "shop", Instance: "i1", Version: "1.0.0", Registered: true, Endpoints: []registry.Endpoint{{Name: "buy"}},
	}, registry.AnnounceConfig{})
	check(err)
	var running sync.WaitGroup
	running.Go(func() { check(shop.Run(ctx)) })

	for {
		if s := r.Service("shop"); s != nil && len(s.Online) > 0 {
			i := s.Online[0]
			_, buys := i.Endpoint("buy")
			fmt.Println(i.Instance, i.Version, i.State, buys)
			break
		}
		<-changed
		changed = r.Changed()
	}
	stop()
	running.Wait()
	for r.Service("shop") != nil {
		<-changed
		changed = r.Changed()
	}
	fmt.Println("gone")
	check(r.Close())
	// Output:
	// i1 1.0.0 online true
	// gone
}

func begin() (*bustest.Node, *bus.Conn) {
	server, err := bustest.Open()
	check(err)
	conn, err := bus.Connect(context.Background(), bus.Config{InProcess: server})
	check(err)
	return server, conn
}

func end(server *bustest.Node, conn *bus.Conn) {
	check(conn.Close())
	check(server.Close())
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
