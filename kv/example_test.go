package kv_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
)

type route struct {
	Steps []string `json:"steps"`
}

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

func ExampleTable() {
	ctx := context.Background()
	conn, end := exampleConn(ctx) // in a program: bus.Connect(ctx, bus.Config{})
	defer end()

	routes, err := kv.Open[route](ctx, conn, "routes", kv.Config{History: 10})
	if err != nil {
		fmt.Println(err)
		return
	}
	rev, err := routes.Create(ctx, "hello", route{Steps: []string{"log"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := routes.Update(ctx, "hello", route{Steps: []string{"log", "greet"}}, rev); err != nil {
		fmt.Println(err)
		return
	}
	_, err = routes.Update(ctx, "hello", route{}, rev) // somebody was faster
	fmt.Println(errors.Is(err, kv.ErrConflict), err)

	for e, err := range routes.History(ctx, "hello") {
		fmt.Println(e.Revision, e.Value.Steps, err)
	}
	// Output:
	// true kv: update "hello" in "routes": has another revision: nats: API error: code=400 err_code=10071 description=wrong last sequence: 2
	// 1 [log] <nil>
	// 2 [log greet] <nil>
}

func ExampleTable_Watch() {
	ctx := context.Background()
	conn, end := exampleConn(ctx)
	defer end()
	routes, err := kv.Open[route](ctx, conn, "routes", kv.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := routes.Put(ctx, "a.old", route{}); err != nil {
		fmt.Println(err)
		return
	}

	for e, err := range routes.Watch(ctx, "a.>") {
		switch {
		case err != nil:
			fmt.Println(err)
			return
		case e.Key == "":
			fmt.Println("that is all there is; now the changes")
			if _, err := routes.Put(ctx, "a.new", route{}); err != nil {
				fmt.Println(err)
				return
			}
			continue
		}
		fmt.Println(e.Key)
		if e.Key == "a.new" {
			break
		}
	}
	// Output:
	// a.old
	// that is all there is; now the changes
	// a.new
}

func ExampleCopy() {
	ctx := context.Background()
	conn, end := exampleConn(ctx)
	defer end()
	routes, err := kv.Open[route](ctx, conn, "routes", kv.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	local, err := routes.Copy(ctx, ">")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = local.Close() }()

	changed := local.Changed()
	if _, err := routes.Put(ctx, "hello", route{Steps: []string{"greet"}}); err != nil {
		fmt.Println(err)
		return
	}
	<-changed
	e, ok := local.Get("hello") // asks nobody
	fmt.Println(e.Value.Steps, ok)
	// Output: [greet] true
}

func ExampleLease() {
	ctx := context.Background()
	conn, end := exampleConn(ctx)
	defer end()
	leases, err := kv.OpenLeases(ctx, conn)
	if err != nil {
		fmt.Println(err)
		return
	}
	lease, err := leases.Wait(ctx, "shop.prod.cleaner", "host-1", 10*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = leases.Acquire(ctx, "shop.prod.cleaner", "host-2", 10*time.Second)
	if held, ok := errors.AsType[*kv.HeldError](err); ok {
		fmt.Println("held by", held.Holder.Owner)
	}

	if lease.Valid() { // before each piece of work, which carries lease.Term along
		fmt.Println("working")
	}
	if err := lease.Release(ctx); err != nil {
		fmt.Println(err)
		return
	}
	<-lease.Lost()
	fmt.Println("done:", !lease.Valid())
	// Output:
	// held by host-1
	// working
	// done: true
}
