package balance_test

import (
	"context"
	"encoding/json"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/registry"
)

// begin is instances in a registry, which end ends.
func begin(ids ...string) (instances []*registry.Instance, end func()) {
	ctx := context.Background()
	server, err := bustest.Open()
	check(err)
	conn, err := bus.Connect(ctx, bus.Config{InProcess: server})
	check(err)
	r, err := registry.Open(ctx, conn, registry.Config{})
	check(err)
	for _, id := range ids {
		put(ctx, conn, registry.LivenessBucket, id, registry.Load{})
		put(ctx, conn, registry.InstancesBucket, id, registry.Record{Version: "1.0.0", Registered: true})
	}
	for {
		changed := r.Changed()
		if s := r.Service("shop"); s != nil && len(s.Online) == len(ids) {
			instances = s.Online
			break
		}
		<-changed
	}
	return instances, func() {
		check(r.Close())
		check(conn.Close())
		check(server.Close())
	}
}

func put(ctx context.Context, conn *bus.Conn, bucket, id string, v any) {
	kv, err := conn.JetStream().KeyValue(ctx, bucket)
	check(err)
	data, err := json.Marshal(v)
	check(err)
	_, err = kv.Put(ctx, conn.Namespace().Key("shop", id), data)
	check(err)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
