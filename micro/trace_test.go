package micro_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// TestTrace follows a call through a service that calls two others, one of which fails, and is asked on behalf of a handler
// that traces its own calls too.
func TestTrace(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	client := newClient(t, conn, micro.ClientConfig{})
	const slow = 20 * time.Millisecond
	serve(t, conn, micro.Config{Name: "leaf"}, endpoints(
		endpoint("good", func(context.Context, hello) (greeting, error) {
			time.Sleep(slow) // takes its time
			return greeting{}, nil
		}),
		endpoint("bad", func(context.Context, hello) (greeting, error) { return greeting{}, bus.Errorf(bus.NotFound, "no") }),
	))
	var own []micro.Hop
	serve(t, conn, micro.Config{Name: "middle"}, endpoints(endpoint("both", func(ctx context.Context, _ hello) (greeting, error) {
		if _, err := micro.Call[greeting](ctx, client, "leaf.good", hello{}, micro.Trace(&own)); err != nil {
			return greeting{}, err
		}
		_, err := micro.Call[greeting](ctx, client, "leaf.bad", hello{})
		return greeting{}, err
	})))
	serve(t, conn, micro.Config{Name: "top"}, endpoints(endpoint("go", func(ctx context.Context, _ hello) (greeting, error) {
		_, _ = micro.Call[greeting](ctx, client, "middle.both", hello{}) // its failure is in the trace
		return greeting{}, nil
	})))

	var hops []micro.Hop
	begin := time.Now()
	if _, err := micro.Call[greeting](t.Context(), client, "top.go", hello{}, micro.Trace(&hops)); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	var got []string
	for _, h := range hops {
		address, err := bus.ParseAddress(h.Address)
		if err != nil || address.Instance == "" {
			t.Errorf("address %q: %v", h.Address, err)
		}
		got = append(got, strings.TrimSpace(fmt.Sprintf("%d %s.%s %s", h.Depth, address.Service, h.Endpoint, h.Code)))
	}
	if got, want := strings.Join(got, ", "), "0 top.go, 1 middle.both not_found, 2 leaf.good, 2 leaf.bad not_found"; got != want {
		t.Fatalf("hops %s, want %s", got, want)
	}
	if top, middle, leaf := hops[0].Took, hops[1].Took, hops[2].Took; leaf < slow || middle < leaf || top < middle || took < top {
		t.Errorf("the call took %v, top %v, middle %v, leaf %v", took, top, middle, leaf)
	}
	if len(own) != 1 || own[0].Endpoint != "good" || own[0].Depth != 0 {
		t.Errorf("the handler's own trace is %+v", own)
	}

	// What fails is traced, too. Nobody asked is nobody told.
	var failed []micro.Hop
	_, err := micro.Call[greeting](t.Context(), client, "leaf.bad", hello{}, micro.Trace(&failed))
	if bus.CodeOf(err) != bus.NotFound || len(failed) != 1 || failed[0].Code != bus.NotFound {
		t.Errorf("hops %+v, error %v", failed, err)
	}
	failed = append(failed, micro.Hop{})
	if _, err := client.Do(t.Context(), micro.Request{Service: "nobody", Endpoint: "there", Patience: -1, Trace: &failed}); err == nil || len(failed) != 0 {
		t.Errorf("hops %+v, error %v", failed, err)
	}
}
