package http_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
)

type (
	article struct {
		Name  string  `json:"name" jsonschema:"What it is called."`
		Price float64 `json:"price,omitempty"`
	}
	order struct {
		ID       string    `json:"id" jsonschema:"Id of the order."`
		Number   int64     `json:"number"`
		Articles []article `json:"articles,omitempty"`
		Due      time.Time `json:"due,omitzero"`
	}
	receipt struct {
		By      string `json:"by"`
		Version string `json:"version"`
		Order   order  `json:"order"`
	}
)

// shop runs an instance of the service shop until the test ends, and returns when the gateway's registry shows it.
//
//	put    answers with the order and who took it
//	purge  is internal
//	tail   is a stream
func (h *house) shop(t testing.TB, version, instance string, more ...func(*micro.Service) error) *micro.Service {
	t.Helper()
	s, err := micro.NewService(h.conn, micro.Config{
		Name: "shop", Version: version, Instance: instance, Description: "sells articles", Drain: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	take := func(ctx context.Context, o order) (receipt, error) {
		h.calls.Add(1)
		h.lastID.Store(micro.Info(ctx).RequestID)
		return receipt{micro.Info(ctx).Instance, version, o}, ctx.Err()
	}
	for _, add := range append(more,
		func(s *micro.Service) error {
			return micro.Handle(s, "put", take, micro.Idempotent(), micro.Description("Takes an order."))
		},
		func(s *micro.Service) error { return micro.Handle(s, "purge", take, micro.Internal()) },
		func(s *micro.Service) error {
			return micro.HandleServerStream(s, "tail", func(context.Context, order, *micro.Sender[article]) error { return nil })
		},
	) {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) }) // the tests see what goes wrong
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	bustest.Eventually(t, "the instance "+instance, func() bool {
		i := h.client.Registry().Service("shop").Instance(instance)
		return i != nil && i.State == registry.Online
	})
	return s
}

func decode[T any](t testing.TB, a answer) T {
	t.Helper()
	var v T
	unmarshal := json.Unmarshal
	if a.header.Get("Content-Type") == typeMsgpack {
		unmarshal = bus.MessagePack{}.Unmarshal
	}
	if err := unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return v
}
