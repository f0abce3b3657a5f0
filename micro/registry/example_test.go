package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
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

// Attributes are values that an instance changes as it runs and others follow.
func ExampleRegistry_WatchAttributes() {
	server, conn := begin()
	defer end(server, conn)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	oven, err := registry.NewAnnouncer(conn, registry.Record{
		Service: "oven", Instance: "i1", Version: "1.0.0", Registered: true,
		Attributes: map[string]json.RawMessage{"celsius": json.RawMessage("20")},
	}, registry.AnnounceConfig{})
	check(err)
	check(oven.Claim(ctx)) // fails where another process is oven/i1
	var running sync.WaitGroup
	running.Go(func() { check(oven.Run(ctx)) })

	r, err := registry.Open(ctx, conn, registry.Config{})
	check(err)
	for change := range r.WatchAttributes(ctx, registry.Criteria{Registered: new(true)}) {
		celsius, _, err := registry.Attribute[int](change.Instance, change.Key)
		check(err)
		fmt.Println(change.Instance.Instance, change.Key, celsius)
		if celsius == 200 {
			break
		}
		check(oven.Update(ctx, func(r *registry.Record) error {
			r.Attributes["celsius"] = json.RawMessage("200")
			return nil
		}))
	}
	stop()
	running.Wait()
	check(r.Close())
	// Output:
	// i1 celsius 20
	// i1 celsius 200
}

// Records of instances that died are removed, by any number of reapers.
func ExampleReaper() {
	server, conn := begin()
	defer end(server, conn)
	ctx, stop := context.WithCancel(context.Background())
	records, err := kv.Open[registry.Record](ctx, conn, registry.InstancesBucket, kv.Config{})
	check(err)
	_, err = records.Put(ctx, "default.dev.shop.dead", registry.Record{Version: "1.0.0"}) // nothing says that it is alive
	check(err)

	r, err := registry.Open(ctx, conn, registry.Config{})
	check(err)
	reaper, err := registry.NewReaper(conn, r, registry.ReaperConfig{
		After: 100 * time.Millisecond,
		Reaped: func(r registry.Record) {
			fmt.Println("removed", r.Service, r.Instance)
			stop()
		},
	})
	check(err)
	check(reaper.Run(ctx))
	check(r.Close())
	// Output:
	// removed shop dead
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
