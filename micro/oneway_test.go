package micro_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

func oneWayMessage(subject, body string, more nats.Header) *nats.Msg {
	h := nats.Header{bus.HeaderOneWay: {"1"}, bus.HeaderContentType: {"application/json"}}
	maps.Copy(h, more)
	return &nats.Msg{Subject: "default.dev." + subject, Header: h, Data: []byte(body)}
}

func TestOneWay(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	got := make(chan string, 10)
	handler := func(who string) func(context.Context, hello) (greeting, error) {
		return func(ctx context.Context, req hello) (greeting, error) {
			if err := micro.SetReplyHeader(ctx, "X-Reply", "x"); err != nil {
				t.Error(err)
			}
			got <- who + " " + req.Name
			return greeting{}, nil
		}
	}
	a := serve(t, connect(t, s), micro.Config{Name: "log", Instance: "a"}, endpoint("write", handler("a"), micro.OneWay()))
	b := serve(t, connect(t, s), micro.Config{Name: "log", Instance: "b"}, endpoint("write", handler("b"), micro.OneWay()))
	nc := s.Connect(t)
	heard, err := nc.SubscribeSync("_INBOX.x.y")
	if err != nil {
		t.Fatal(err)
	}
	// To one of them, with and without a reply subject; to one by name; to all.
	m := oneWayMessage("one.log.write", `{"name":"1"}`, nil)
	send(t, nc, m)
	first := bustest.Receive(t, "the message", got)
	m.Reply = "_INBOX.x.y"
	send(t, nc, m)
	second := bustest.Receive(t, "the message", got)
	if first != "a 1" && first != "b 1" || second != "a 1" && second != "b 1" {
		t.Errorf("%q, %q", first, second)
	}
	send(t, nc, oneWayMessage("inst.log.b.write", `{"name":"2"}`, nil))
	if got := bustest.Receive(t, "the message", got); got != "b 2" {
		t.Errorf("%q", got)
	}
	send(t, nc, oneWayMessage("all.log.write", `{"name":"3"}`, nil))
	if one, other := bustest.Receive(t, "the message", got), bustest.Receive(t, "the message", got); one == other || one[2:] != "3" || other[2:] != "3" {
		t.Errorf("%q, %q", one, other)
	}
	// A request still is one.
	request(t, nc, "default.dev.inst.log.a.write", nil, `{}`)
	bustest.Receive(t, "the request", got)
	// Unregistered it takes what is sent to it by name and to all, and no share of one.
	if err := a.SetRegistered(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		send(t, nc, oneWayMessage("one.log.write", `{"name":"4"}`, nil))
		if got := bustest.Receive(t, "the message", got); got != "b 4" {
			t.Errorf("%q", got)
		}
	}
	send(t, nc, oneWayMessage("inst.log.a.write", `{"name":"5"}`, nil))
	if got := bustest.Receive(t, "the message", got); got != "a 5" {
		t.Errorf("%q", got)
	}
	if reply, err := heard.NextMsg(50 * time.Millisecond); err == nil {
		t.Errorf("a one-way message is answered: %v %s", reply.Header, reply.Data)
	}
	if n := total(a.Stats().Dropped) + total(b.Stats().Dropped); n != 0 {
		t.Errorf("dropped %v %v", a.Stats().Dropped, b.Stats().Dropped)
	}
}

// failing makes a handler that fails in the way it is told.
func failing(ended chan<- error) func(context.Context, hello) (greeting, error) {
	return func(ctx context.Context, req hello) (greeting, error) {
		switch req.Name {
		case "fail":
			return greeting{}, errors.New("no")
		case "panic":
			panic("oh")
		case "wait":
			<-ctx.Done()
			ended <- ctx.Err()
			return greeting{}, ctx.Err()
		}
		return greeting{}, nil
	}
}

// What goes wrong with a one-way message is counted, and told nobody.
func TestOneWayFailures(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	ended := make(chan error, 1)
	svc := serve(t, connect(t, s), micro.Config{Name: "log", Timeout: 50 * time.Millisecond}, endpoints(
		endpoint("write", failing(ended), micro.OneWay()),
		endpoint("both", greet),
	))
	nc := s.Connect(t)
	heard, err := nc.SubscribeSync("_INBOX.x.y")
	if err != nil {
		t.Fatal(err)
	}
	counted := func(errs uint64) {
		t.Helper()
		bustest.Eventually(t, "the errors to be counted", func() bool { return stat(svc, "write").Errors == errs })
	}
	sendIt := func(m *nats.Msg) {
		m.Reply = "_INBOX.x.y"
		send(t, nc, m)
	}
	sendIt(oneWayMessage("one.log.write", `{"name":"fail"}`, nil))
	sendIt(oneWayMessage("inst.log."+svc.id+".write", `{"name":"panic"}`, nil))
	sendIt(oneWayMessage("all.log.write", `[`, nil))
	counted(3)
	sendIt(oneWayMessage("one.log.write", `{}`, nats.Header{bus.HeaderAttempt: {"x"}}))
	sendIt(oneWayMessage("one.log.write", `{}`, nats.Header{bus.HeaderContentType: {"text/xml"}}))
	counted(5)
	start := time.Now()
	sendIt(oneWayMessage("one.log.write", `{"name":"wait"}`, nats.Header{bus.HeaderTimeout: {"20"}}))
	if err := bustest.Receive(t, "the end of the handler", ended); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) < 20*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	sendIt(oneWayMessage("one.log.write", `{"name":"wait"}`, nil)) // the service's own deadline
	if err := bustest.Receive(t, "the end of the handler", ended); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	counted(7)
	// What is no one-way message, and what is sent to an endpoint that takes none, is dropped.
	for _, m := range []*nats.Msg{
		oneWayMessage("one.log.write", `{}`, nats.Header{bus.HeaderOneWay: nil}),
		oneWayMessage("one.log.write", `{}`, nats.Header{bus.HeaderContentType: nil}),
		oneWayMessage("all.log.both", `{}`, nil),
		oneWayMessage("inst.log."+svc.id+".both", `{}`, nil),
	} {
		send(t, nc, m)
	}
	bustest.Eventually(t, "them to be dropped", func() bool { return svc.Stats().Dropped[bus.DropNotOneWay] == 4 })
	if st := stat(svc, "write"); st.Requests != 7 || st.Panics != 1 || st.InFlight != 0 {
		t.Errorf("%+v", st)
	}
	if m, err := heard.NextMsg(50 * time.Millisecond); err == nil {
		t.Errorf("somebody was told: %v %s", m.Header, m.Data)
	}
}

// Above the endpoint's bound one-way messages are refused as requests are, and counted.
func TestOneWayShed(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	entered, release := make(chan struct{}, 10), make(chan struct{})
	svc := serve(t, connect(t, s), micro.Config{Name: "log"}, endpoint("write", func(context.Context, hello) (greeting, error) {
		entered <- struct{}{}
		bustest.Hold(t, release)
		return greeting{}, nil
	}, micro.OneWay(), micro.Concurrency(1)))
	nc := s.Connect(t)
	m := oneWayMessage("one.log.write", `{}`, nil)
	send(t, nc, m)
	bustest.Receive(t, "the handler", entered)
	send(t, nc, m)
	send(t, nc, m)
	bustest.Eventually(t, "two to be refused", func() bool { return stat(svc, "write").Shed == 2 })
	close(release)
}

// stat is the figures of one endpoint.
func stat(svc *instance, endpoint string) micro.EndpointStats {
	for _, ep := range svc.Stats().Endpoints {
		if ep.Name == endpoint {
			return ep
		}
	}
	return micro.EndpointStats{}
}
