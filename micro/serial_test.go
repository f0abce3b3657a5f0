package micro_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

func contextFor(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

// order notes who runs, and finds who runs beside another of the same key.
type order struct {
	t       *testing.T
	mu      sync.Mutex
	running map[string]bool
	seen    map[string][]int
	most    int // that ran at once
}

func (o *order) handle(_ context.Context, req hello) (greeting, error) {
	o.mu.Lock()
	if o.running[req.Name] {
		o.t.Errorf("two of %s at once", req.Name)
	}
	o.running[req.Name] = true
	o.most = max(o.most, len(o.running))
	o.mu.Unlock()
	time.Sleep(time.Duration(req.Times%3) * time.Millisecond) // the work, of different lengths
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.running, req.Name)
	o.seen[req.Name] = append(o.seen[req.Name], req.Times)
	return greeting{}, nil
}

func newOrder(t *testing.T) *order {
	t.Helper()
	return &order{t: t, running: map[string]bool{}, seen: map[string][]int{}}
}

func TestSerial(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		keys []string
		opt  micro.EndpointOption
	}{
		{"all", []string{"x"}, micro.Serial()},
		{"typed key", []string{"a", "b", "c"}, micro.SerialBy(func(req hello) string { return req.Name })},
		{"any key", []string{"a", "b", "c"}, micro.SerialBy(func(req any) string { return req.(hello).Name })},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := bustest.Server(t)
			o := newOrder(t)
			svc := serve(t, connect(t, s), micro.Config{Name: "line", Concurrency: 1000}, endpoint("next", o.handle, c.opt))
			nc := s.Connect(t)
			const each = 60
			for i := range each {
				for _, key := range c.keys {
					body := fmt.Appendf(nil, `{"name":%q,"times":%d}`, key, i)
					if err := nc.PublishRequest("default.dev.svc.line.next", nc.NewInbox(), body); err != nil {
						t.Fatal(err)
					}
				}
			}
			bustest.Eventually(t, "all to be handled", func() bool { return svc.Stats().Endpoints[0].Requests == uint64(each*len(c.keys)) })
			o.mu.Lock()
			defer o.mu.Unlock()
			for _, key := range c.keys {
				if got := o.seen[key]; len(got) != each || !slices.IsSorted(got) {
					t.Errorf("%s: %v", key, got)
				}
			}
			if (o.most > 1) != (len(c.keys) > 1) {
				t.Errorf("%d ran at once", o.most)
			}
		})
	}
}

// Those that wait are bounded, leave at their deadline without being handled, and can be canceled.
func TestSerialQueue(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	entered, release := make(chan string, 10), make(chan struct{})
	svc := serve(t, connect(t, s), micro.Config{Name: "line"}, endpoint("next", func(_ context.Context, req hello) (greeting, error) {
		entered <- req.Name
		bustest.Hold(t, release)
		return greeting{req.Name}, nil
	}, micro.Serial(), micro.Concurrency(4)))
	nc := s.Connect(t)
	const subject = "default.dev.svc.line.next"
	answers := make(chan *nats.Msg, 10)
	inbox := nc.NewRespInbox()
	if _, err := nc.ChanSubscribe(inbox, answers); err != nil {
		t.Fatal(err)
	}
	begin := func(name, timeout string) {
		send(t, nc, &nats.Msg{Subject: subject, Reply: inbox, Data: fmt.Appendf(nil, `{"name":%q}`, name), Header: nats.Header{
			"Skybus-Timeout": {timeout}, "Skybus-Request-Id": {name},
		}})
	}
	begin("first", "10000")
	bustest.Receive(t, "the first", entered)
	begin("short", "50")
	begin("canceled", "10000")
	begin("last", "10000")
	bustest.Eventually(t, "the queue to be full", func() bool { return svc.Stats().Endpoints[0].InFlight == 4 })
	wantError(t, request(t, nc, subject, nil, `{}`), bus.Unavailable, 503, "already")
	wantError(t, bustest.Receive(t, "the answer of short", answers), bus.DeadlineExceeded, 504)
	// It is out of the queue, not only answered.
	bustest.Eventually(t, "a place to be free", func() bool { return svc.Stats().Endpoints[0].InFlight == 3 })
	cancel := cancelMessage("canceled", "", nc.NewRespInbox(), "")
	cancel.Subject = strings.Replace(cancel.Subject, "slow", "line", 1)
	send(t, nc, cancel)
	wantError(t, bustest.Receive(t, "the answer of canceled", answers), bus.Canceled, 499)
	for _, want := range []string{"first", "last"} {
		release <- struct{}{}
		if got := string(bustest.Receive(t, "an answer", answers).Data); !strings.Contains(got, want) {
			t.Errorf("answer %s, want %s", got, want)
		}
	}
	if got := bustest.Receive(t, "the last", entered); got != "last" || len(entered) > 0 {
		t.Errorf("%s was handled, and %d more", got, len(entered))
	}
	if st := svc.Stats().Endpoints[0]; st.Requests != 4 || st.Errors != 2 || st.Shed != 1 || st.InFlight != 0 {
		t.Errorf("%+v", st)
	}
}

// What does not decode, a key that panics and a handler that panics leave the queue as it was.
func TestSerialFailures(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	svc := serve(t, connect(t, s), micro.Config{Name: "line"}, endpoint("next", func(ctx context.Context, req hello) (greeting, error) {
		if req.Times == 1 {
			panic("handler")
		}
		return greet(ctx, req)
	}, micro.SerialBy(func(req hello) string {
		if req.Times == 2 {
			panic("key")
		}
		return req.Name
	})))
	nc := s.Connect(t)
	const subject = "default.dev.svc.line.next"
	for range 3 {
		wantError(t, request(t, nc, subject, nil, `[`), bus.InvalidArgument, 400)
		wantError(t, request(t, nc, subject, nats.Header{"Skybus-Attempt": {"x"}}, `{}`), bus.InvalidArgument, 400)
		wantError(t, request(t, nc, subject, nil, `{"times":1}`), bus.Internal, 500, "panicked")
		wantError(t, request(t, nc, subject, nil, `{"times":2}`), bus.Internal, 500, "panicked")
		if reply := request(t, nc, subject, nil, `{"name":"you"}`); string(reply.Data) != `{"text":"Hello you"}` {
			t.Errorf("answer %s", reply.Data)
		}
	}
	if st := svc.Stats().Endpoints[0]; st.Requests != 15 || st.Errors != 12 || st.Panics != 6 || st.InFlight != 0 {
		t.Errorf("%+v", st)
	}
	bad := micro.Handle(svc.Service, "bad", greet, micro.SerialBy(func(greeting) string { return "" }))
	wantCode(t, bad, bus.InvalidArgument, `"bad"`, "SerialBy takes a micro_test.greeting, the handler a micro_test.hello")
}
