package micro_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// hopsIn reads the header as another program would: by its words.
func hopsIn(t *testing.T, reply *nats.Msg) [][]string {
	t.Helper()
	var hops [][]string
	for text := range strings.SplitSeq(reply.Header.Get(bus.HeaderHops), ",") {
		words := strings.Fields(text)
		if len(words) != 5 {
			t.Fatalf("hop %q", text)
		}
		hops = append(hops, words)
	}
	return hops
}

func TestHops(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	entered := make(chan struct{}, 1)
	svc := serve(t, connect(t, s), micro.Config{Name: "greeter", Drain: 100 * time.Millisecond}, endpoints(
		endpoint("hello", greet),
		endpoint("fail", func(context.Context, hello) (greeting, error) { return greeting{}, bus.Errorf(bus.NotFound, "no") }),
		endpoint("wait", func(ctx context.Context, _ hello) (greeting, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return greeting{}, ctx.Err()
		}, micro.Concurrency(1)),
	))
	nc := s.Connect(t)
	ask := func(endpoint string, more ...string) *nats.Msg {
		h := nats.Header{bus.HeaderTrace: {"1"}}
		if len(more) > 0 {
			h[bus.HeaderTimeout] = more
		}
		return request(t, nc, "default.dev.svc.greeter."+endpoint, h, `{}`)
	}
	check := func(reply *nats.Msg, endpoint, code string, least time.Duration) {
		t.Helper()
		hops := hopsIn(t, reply)
		if len(hops) != 1 {
			t.Fatalf("hops %v", hops)
		}
		took, err := time.ParseDuration(hops[0][2] + "ns")
		if hops[0][0] != "default.dev.greeter/"+svc.id || hops[0][1] != endpoint || err != nil || took < least || took > patience ||
			hops[0][3] != code || hops[0][4] != "0" {
			t.Errorf("hop %v of %s", hops[0], endpoint)
		}
	}
	check(ask("hello"), "hello", "-", 1)
	check(ask("fail"), "fail", "not_found", 1)
	check(ask("wait", "50"), "wait", "deadline_exceeded", 50*time.Millisecond)
	bustest.Receive(t, "the handler", entered)
	bustest.Eventually(t, "the place to be free", func() bool { return stat(svc, "wait").InFlight == 0 })
	send(t, nc, &nats.Msg{Subject: "default.dev.svc.greeter.wait", Reply: nc.NewInbox(), Data: []byte(`{}`), Header: nats.Header{bus.HeaderTimeout: {"60000"}}})
	bustest.Receive(t, "the handler", entered)
	check(ask("wait"), "wait", "unavailable", 0)
	if reply := request(t, nc, helloSubject, nil, `{}`); reply.Header.Get(bus.HeaderHops) != "" {
		t.Errorf("hops nobody asked for: %v", reply.Header)
	}
	if err := svc.Remove("wait"); bus.CodeOf(err) == bus.NotFound {
		t.Error(err)
	}
}
