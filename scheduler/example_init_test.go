package scheduler_test

import (
	"context"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// exampleConn has a server of its own.
func exampleConn(ctx context.Context) (*bus.Conn, func()) {
	server, err := bustest.Open()
	if err != nil {
		panic(err)
	}
	conn, err := bus.Connect(ctx, bus.Config{InProcess: server})
	if err != nil {
		panic(err)
	}
	return conn, func() {
		_ = conn.Close()
		_ = server.Close()
	}
}
