package micro_test

import (
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/balance"
	"github.com/skybus-io/skybus/micro/registry"
	wire "github.com/skybus-io/skybus/micro/stream"
)

// An instance that has no room for a stream refuses it as it does any request, and another takes it.
func TestStreamsGoWhereThereIsRoom(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	ended := make(chan error, 2)
	for range 2 {
		serve(t, connect(t, srv), micro.Config{Name: "s", Streams: wire.Config{MaxStreams: 1}}, waitsForEnd(ended))
	}
	c := newClient(t, connect(t, srv), micro.ClientConfig{})
	sees(t, c, "s", 2)
	first, err := c.OpenStream(t.Context(), micro.Request{Service: "s", Endpoint: "wait"})
	if err != nil {
		t.Fatal(err)
	}
	full := micro.Request{Service: "s", Endpoint: "wait", Policy: balance.Func(func(all []*registry.Instance, _ balance.Call) *registry.Instance {
		for _, i := range all {
			if at := (bus.Address{Namespace: c.Conn().Namespace(), Service: "s", Instance: i.Instance}); at.String() == first.From() {
				return i
			}
		}
		return all[0]
	})}
	second, err := c.OpenStream(t.Context(), full)
	if err != nil {
		t.Fatal(err)
	}
	if second.From() == first.From() {
		t.Error("both streams are of the instance that takes one")
	}
	for _, st := range []*micro.ClientStream{first, second} {
		_ = st.Close() // has no error
		wantCode(t, bustest.Receive(t, "the handler to end", ended), bus.Canceled)
	}
}
