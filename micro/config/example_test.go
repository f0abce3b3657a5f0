package config_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/config"
)

// exampleConn connects to a server of its own; end closes both.
func exampleConn(ctx context.Context) (c *bus.Conn, end func()) {
	server, err := bustest.Open()
	if err != nil {
		panic(err)
	}
	c, err = bus.Connect(ctx, bus.Config{InProcess: server})
	if err != nil {
		panic(err)
	}
	return c, func() { _ = errors.Join(c.Close(), server.Close()) }
}

// examplePut is `skybus config put`.
func examplePut(ctx context.Context, conn *bus.Conn, scope config.Scope, key, value string) {
	table, err := config.Table(ctx, conn, false)
	if err != nil {
		panic(err)
	}
	bucketKey, err := config.BucketKey(conn.Namespace(), scope, key)
	if err != nil {
		panic(err)
	}
	if _, err := table.Put(ctx, bucketKey, []byte(value)); err != nil {
		panic(err)
	}
}

func ExampleGet() {
	ctx := context.Background()
	conn, end := exampleConn(ctx) // in a program: bus.Connect
	defer end()
	examplePut(ctx, conn, config.Scope{}, "client.timeout.total", "10s")               // for all
	examplePut(ctx, conn, config.Scope{Service: "shop"}, "client.timeout.total", "5s") // for one service

	values, err := config.Open(ctx, conn, config.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = values.Close() }()
	for _, service := range []string{"shop", "till"} {
		scope := config.Scope{Service: service, Version: "1.0.0"}
		fmt.Println(service, config.Get(values, scope, config.ClientTimeoutTotal, time.Second))
	}
	fmt.Println(config.Get(values, config.Scope{Service: "shop"}, "color", "blue"))
	// Output:
	// shop 5s
	// till 10s
	// blue
}

func ExampleWatch() {
	ctx := context.Background()
	conn, end := exampleConn(ctx)
	defer end()
	values, err := config.Open(ctx, conn, config.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = values.Close() }()

	shop := config.Scope{Service: "shop", Version: "1.0.0"}
	for color := range config.Watch(ctx, values, shop, "color", "blue") {
		fmt.Println(color)
		if color == "red" {
			break
		}
		examplePut(ctx, conn, config.Scope{Service: "shop"}, "color", "red")
	}
	// Output:
	// blue
	// red
}
