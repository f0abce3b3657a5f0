package micro_test

import (
	"context"
	"sync"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// platform is what an example runs on: a server in this process and a connection to it.
type platform struct {
	conn   *bus.Conn
	client *micro.Client

	server *bustest.Node
	stop   context.CancelFunc
	runs   sync.WaitGroup
}

// begin stands for bus.Connect and micro.NewClient of a program.
func begin() (context.Context, *platform) {
	ctx, stop := context.WithCancel(context.Background())
	server, err := bustest.Open()
	check(err)
	conn, err := bus.Connect(ctx, bus.Config{InProcess: server, Codec: bus.JSON{}})
	check(err)
	client, err := micro.NewClient(ctx, conn, micro.ClientConfig{Name: "example"})
	check(err)
	return ctx, &platform{conn: conn, client: client, server: server, stop: stop}
}

// run stands for a service's own program. Calls wait for it to start.
func (p *platform) run(ctx context.Context, s *micro.Service) {
	p.runs.Go(func() { check(s.Run(ctx)) })
}

func (p *platform) end() {
	p.stop()
	p.runs.Wait()
	check(p.client.Close())
	check(p.conn.Close())
	check(p.server.Close())
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
