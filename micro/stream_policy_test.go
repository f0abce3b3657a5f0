package micro_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/balance"
	"github.com/skybus-io/skybus/micro/registry"
)

// serveWhoStreams runs an instance whose stream "are" sends which instance it is.
func serveWhoStreams(t testing.TB, s *bustest.Node, cfg micro.Config) {
	t.Helper()
	serve(t, connect(t, s), cfg, func(svc *micro.Service) error {
		return micro.HandleServerStream(svc, "are", func(ctx context.Context, _ hello, out *micro.Sender[string]) error {
			return out.Send(ctx, micro.Info(ctx).Instance)
		})
	})
}

// spreadStreams is how often each instance answers n streams.
func spreadStreams(t testing.TB, c *micro.Client, n int, opts ...micro.CallOption) map[string]int {
	t.Helper()
	by := map[string]int{}
	for range n {
		for id, err := range micro.CallServerStream[string](t.Context(), c, "who.are", hello{}, opts...) {
			if err != nil {
				t.Fatal(err)
			}
			by[id]++
		}
	}
	return by
}

// observed counts the attempts that a policy was told of.
type observed struct {
	balance.Policy

	begun, done, failed atomic.Int64
}

func (o *observed) Observe(*registry.Instance, balance.Call) func(time.Duration, error) {
	o.begun.Add(1)
	return func(_ time.Duration, err error) {
		o.done.Add(1)
		if err != nil {
			o.failed.Add(1)
		}
	}
}

// Streams go where calls go.
func TestStreamPolicies(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	for id, where := range map[string][2]string{"a": {"eu", "1.0.0"}, "b": {"eu", "2.0.0"}, "c": {"us", "2.0.0"}} {
		serveWhoStreams(t, s, micro.Config{Name: "who", Instance: id, Region: where[0], Version: where[1]})
	}
	c := newClient(t, connect(t, s), micro.ClientConfig{Policy: balance.RoundRobin()})
	sees(t, c, "who", 3)
	for _, tt := range []struct {
		name string
		opts []micro.CallOption
		want map[string]int // of 12 streams
	}{
		{"of the client", nil, map[string]int{"a": 4, "b": 4, "c": 4}},
		{"of the call", []micro.CallOption{micro.WithPolicy(only("b"))}, map[string]int{"b": 12}},
		{"region", []micro.CallOption{micro.ToRegion("eu")}, map[string]int{"a": 6, "b": 6}},
		{"version", []micro.CallOption{micro.ToVersion("2.0.0")}, map[string]int{"b": 6, "c": 6}},
		{"instance", []micro.CallOption{micro.ToInstance("c")}, map[string]int{"c": 12}},
	} {
		if by := spreadStreams(t, c, 12, tt.opts...); fmt.Sprint(by) != fmt.Sprint(tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, by, tt.want)
		}
	}
	by := map[string]bool{}
	for i := range 12 {
		key := []micro.CallOption{micro.WithPolicy(balance.ConsistentHash()), micro.WithKey(fmt.Sprint("key", i))}
		keyed := spreadStreams(t, c, 3, key...)
		if len(keyed) != 1 {
			t.Errorf("key %d went to %v", i, keyed)
		}
		for id := range keyed {
			by[id] = true
		}
	}
	if len(by) < 2 {
		t.Errorf("all keys are with %v", by)
	}
}

// A stream to a region never leaves it.
func TestStreamStaysInRegion(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serveWhoStreams(t, s, micro.Config{Name: "who", Instance: "us1", Region: "us"})
	record := `{"version":"1.0.0","registered":true,"region":"eu","endpoints":[{"name":"are"}]}`
	put(t, s.Connect(t), registry.LivenessBucket, "default.dev.who.dead", `{}`)
	put(t, s.Connect(t), registry.InstancesBucket, "default.dev.who.dead", record)
	c := newClient(t, connect(t, s), micro.ClientConfig{Patience: 100 * time.Millisecond})
	sees(t, c, "who", 2)
	for _, opts := range [][]micro.CallOption{
		{micro.ToRegion("eu")},
		{micro.ToRegion("eu"), micro.WithPolicy(balance.RoundRobin())},
		{micro.ToRegion("eu"), micro.ToInstance("us1")},
		{micro.ToRegion("ap")},
	} {
		for id, err := range micro.CallServerStream[string](t.Context(), c, "who.are", hello{}, opts...) {
			if err == nil {
				t.Errorf("%s answered", id)
			}
			wantCode(t, err, bus.Unavailable, "in region")
		}
	}
}

// A policy that learns is told of every stream that was opened, or was not, exactly once.
func TestStreamsAreObserved(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serveWhoStreams(t, s, micro.Config{Name: "who", Instance: "a"})
	o := &observed{Policy: balance.Random()}
	c := newClient(t, connect(t, s), micro.ClientConfig{Policy: o, Patience: -1})
	sees(t, c, "who", 1)
	spreadStreams(t, c, 5)
	if begun, done, failed := o.begun.Load(), o.done.Load(), o.failed.Load(); begun != 5 || done != 5 || failed != 0 {
		t.Errorf("told of %d that began, %d that ended and %d that failed, want 5, 5 and 0", begun, done, failed)
	}
	st, err := c.OpenStream(t.Context(), micro.Request{Service: "who", Endpoint: "are"})
	if err != nil {
		t.Fatal(err)
	}
	if begun, done := o.begun.Load(), o.done.Load(); begun != 6 || done != 6 {
		t.Errorf("a stream that is open: told of %d and %d, want 6 and 6", begun, done)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// An instance that fails to open streams is left out, as one that fails calls is.
func TestStreamOutlier(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serveWhoStreams(t, s, micro.Config{Name: "who", Instance: "good"})
	nc := s.Connect(t)
	var asked atomic.Int64
	if _, err := nc.Subscribe("default.dev.inst.who.bad.are", func(m *nats.Msg) {
		asked.Add(1)
		reply := bus.NewErrorReply(bus.MessagePack{}, bus.Errorf(bus.Internal, "broken"))
		reply.Header.Set(bus.HeaderFrom, "skybus://default.dev.who/bad")
		_ = m.RespondMsg(reply) // who waits in vain fails the test
	}); err != nil {
		t.Fatal(err)
	}
	put(t, nc, registry.LivenessBucket, "default.dev.who.bad", `{}`)
	put(t, nc, registry.InstancesBucket, "default.dev.who.bad", `{"version":"1.0.0","registered":true,"endpoints":[{"name":"are"}]}`)
	c := newClient(t, connect(t, s), micro.ClientConfig{Policy: balance.RoundRobin(), Outliers: micro.OutlierConfig{ConsecutiveFailures: 3}})
	sees(t, c, "who", 2)
	failed := 0
	for range 20 {
		for _, err := range micro.CallServerStream[string](t.Context(), c, "who.are", hello{}) {
			if err != nil {
				wantCode(t, err, bus.Internal, "broken")
				failed++
			}
		}
	}
	if failed != 3 || asked.Load() != 3 {
		t.Errorf("%d streams failed and it was asked %d times, want 3 and 3", failed, asked.Load())
	}
}
