package bus_test

import (
	"context"
	"fmt"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// exampleServer stands in for the NATS server that programs have, and takes errors away from the examples.
type exampleServer struct {
	*bustest.Node
	conns []*bus.Conn
}

func startServer() *exampleServer {
	s, err := bustest.Open()
	if err != nil {
		panic(err)
	}
	return &exampleServer{Node: s}
}

func (s *exampleServer) connect(cfg bus.Config) *bus.Conn {
	cfg.InProcess = s
	c, err := bus.Connect(context.Background(), cfg)
	if err != nil {
		panic(err)
	}
	s.conns = append(s.conns, c)
	return c
}

func (s *exampleServer) stop() {
	for _, c := range s.conns {
		if err := c.Close(); err != nil {
			fmt.Println(err)
		}
	}
	if err := s.Close(); err != nil {
		fmt.Println(err)
	}
}
