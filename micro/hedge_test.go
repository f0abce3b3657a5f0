package micro_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/balance"
	"github.com/skybus-io/skybus/micro/registry"
)

// serveHedged runs instances that hang as long as hang says so, and note what they see.
func serveHedged(t testing.TB, s *bustest.Node, ids []string, hang func(id string) bool) <-chan micro.RequestInfo {
	t.Helper()
	seen := make(chan micro.RequestInfo, 1000)
	for _, id := range ids {
		serve(t, connect(t, s), micro.Config{Name: "who", Instance: id, Drain: time.Millisecond}, endpoint("are", func(ctx context.Context, _ hello) (string, error) {
			seen <- micro.Info(ctx)
			if hang(id) {
				<-ctx.Done()
				return "", ctx.Err()
			}
			return id, nil
		}))
	}
	return seen
}

// While an attempt hangs another goes to another instance; the first answer is the call's.
func TestHedge(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	seen := serveHedged(t, s, []string{"a", "b", "c"}, func(id string) bool { return id != "c" })
	c := newClient(t, connect(t, s), micro.ClientConfig{AttemptTimeout: 50 * time.Millisecond, Outliers: micro.OutlierConfig{Off: true}})
	sees(t, c, "who", 3)
	// By request id: an attempt that lost may be heard of only in a later call.
	attempts, instances := map[string]map[int]bool{}, map[string]map[string]bool{}
	calls := 0
	for name, call := range map[string]func() (string, error){
		"option": func() (string, error) {
			return micro.Call[string](t.Context(), c, "who.are", hello{}, micro.Hedge(50*time.Millisecond))
		},
		"send": func() (string, error) { return micro.Send[string](t.Context(), c, "who.are", hello{}) },
		"handle": func() (string, error) {
			var id string
			err := c.Service("who").Send(t.Context(), "are", hello{}, &id)
			return id, err
		},
	} {
		for range 10 {
			id, err := call()
			if err != nil || id != "c" {
				t.Fatalf("%s: %q, %v", name, id, err)
			}
		}
		calls += 10
		most := 0
		for len(seen) > 0 {
			info := <-seen
			id := info.RequestID
			if attempts[id] == nil {
				attempts[id], instances[id] = map[int]bool{}, map[string]bool{}
			}
			if attempts[id][info.Attempt] || instances[id][info.Instance] {
				t.Errorf("attempt %d, instance %s came twice", info.Attempt, info.Instance)
			}
			attempts[id][info.Attempt], instances[id][info.Instance] = true, true
			most = max(most, len(attempts[id]))
		}
		if len(attempts) != calls {
			t.Errorf("%s: %d request ids of %d calls", name, len(attempts), calls)
		}
		if most < 2 {
			t.Errorf("%s: never more than one attempt of ten calls", name)
		}
	}
}

// A hedge that nobody needs is not sent, and one instance alone has two attempts at most.
func TestHedgeBounds(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var hang atomic.Bool
	seen := serveHedged(t, s, []string{"a"}, func(string) bool { return hang.Load() })
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	sees(t, c, "who", 1)
	for range 20 {
		if _, err := micro.Call[string](t.Context(), c, "who.are", hello{}, micro.Hedge(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(seen); n != 20 {
		t.Errorf("%d attempts of 20 calls", n)
	}
	for len(seen) > 0 {
		<-seen
	}
	hang.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := micro.Call[string](ctx, c, "who.are", hello{}, micro.Hedge(time.Millisecond))
	wantCode(t, err, bus.DeadlineExceeded)
	if n := len(seen); n != 2 {
		t.Errorf("%d attempts, want 2", n)
	}
	for _, after := range []time.Duration{0, -1} {
		_, err := micro.Call[string](t.Context(), c, "who.are", hello{}, micro.Hedge(after))
		wantCode(t, err, bus.InvalidArgument, "hedge")
	}
}

// What fails in a way that leaves the answer open is replaced at once; an answer is not, also one that is an error.
func TestHedgeReplaces(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var failing atomic.Value
	var handled atomic.Int64
	for _, id := range []string{"a", "b"} {
		serve(t, connect(t, s), micro.Config{Name: "who", Instance: id}, endpoint("are", func(ctx context.Context, _ hello) (string, error) {
			handled.Add(1)
			if code := failing.Load().(bus.Code); code != "" && micro.Info(ctx).Attempt < 3 {
				return "", bus.Errorf(code, "no")
			}
			return id, nil
		}))
	}
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	sees(t, c, "who", 2)
	for code, attempts := range map[bus.Code]int64{
		bus.Unavailable: 3, bus.DeadlineExceeded: 3, bus.NotFound: 1, bus.Internal: 1, bus.InvalidArgument: 1,
	} {
		failing.Store(code)
		handled.Store(0)
		start := time.Now()
		_, err := micro.Call[string](t.Context(), c, "who.are", hello{}, micro.Hedge(time.Hour))
		if attempts == 3 && err != nil || attempts == 1 && bus.CodeOf(err) != code {
			t.Errorf("%s: %v", code, err)
		}
		if n := handled.Load(); n != attempts || time.Since(start) > 5*time.Second {
			t.Errorf("%s: %d attempts in %v, want %d", code, n, time.Since(start), attempts)
		}
	}
}

// Where nobody is, Send waits without hurry and gives up when patience ends; and it finds who comes.
func TestSendToNobody(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := newClient(t, connect(t, s), micro.ClientConfig{Patience: 400 * time.Millisecond})
	before := c.Conn().NATS().Stats().OutMsgs
	start := time.Now()
	_, err := micro.Send[string](t.Context(), c, "who.are", hello{})
	wantCode(t, err, bus.Unavailable, "nobody serves who.are")
	if took := time.Since(start); took < 300*time.Millisecond || took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if n := c.Conn().NATS().Stats().OutMsgs - before; n > 40 {
		t.Errorf("%d messages were sent to nobody in 400ms", n)
	}
	patient := newClient(t, c.Conn(), micro.ClientConfig{Registry: c.Registry(), Patience: time.Minute})
	answered := make(chan error, 1)
	go func() {
		_, err := micro.Send[string](t.Context(), patient, "who.are", hello{})
		answered <- err
	}()
	serveWho(t, s, micro.Config{Name: "who", Instance: "a"})
	if err := bustest.Receive(t, "the call", answered); err != nil {
		t.Error(err)
	}
	// Its deadline ends it, with what is known: most of the time no attempt is under way, but one may be.
	for deadline := 50 * time.Millisecond; ; deadline *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		_, err = micro.Send[string](ctx, patient, "nobody.hello", hello{})
		cancel()
		if bus.CodeOf(err) != bus.DeadlineExceeded || deadline > time.Second {
			break
		}
	}
	wantCode(t, err, bus.Unavailable, "nobody serves")
}

// SendOnce tries nothing again, whatever happens.
func TestSendOnce(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var handled atomic.Int64
	serve(t, connect(t, s), micro.Config{Name: "x", Drain: time.Millisecond}, endpoints(
		endpoint("fail", func(context.Context, hello) (string, error) {
			handled.Add(1)
			return "", bus.Errorf(bus.DeadlineExceeded, "no")
		}, micro.Idempotent()),
		endpoint("hang", func(ctx context.Context, _ hello) (string, error) {
			handled.Add(1)
			<-ctx.Done()
			return "", ctx.Err()
		}, micro.Idempotent()),
	))
	c := newClient(t, connect(t, s), micro.ClientConfig{AttemptTimeout: 20 * time.Millisecond, Timeout: 300 * time.Millisecond, Patience: time.Minute})
	sees(t, c, "x", 1)
	for i, endpoint := range []string{"fail", "hang"} {
		_, err := micro.SendOnce[string](t.Context(), c, "x."+endpoint, hello{})
		wantCode(t, err, bus.DeadlineExceeded)
		if n := handled.Load(); n != int64(i+1) {
			t.Errorf("%s: handled %d times", endpoint, n)
		}
	}
	start := time.Now()
	_, err := micro.SendOnce[string](t.Context(), c, "nobody.hello", hello{})
	wantCode(t, err, bus.Unavailable, "nobody serves")
	if err := c.Service("nobody").SendOnce(t.Context(), "hello", hello{}, nil); bus.CodeOf(err) != bus.Unavailable {
		t.Error(err)
	}
	if took := time.Since(start); took > 200*time.Millisecond+5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// The frozen of a hundred calls cost each no more than the time to the next attempt.
func TestSendThroughFrozen(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serveHedged(t, s, []string{"a", "b", "c"}, func(id string) bool { return id == "a" })
	c := newClient(t, connect(t, s), micro.ClientConfig{AttemptTimeout: 20 * time.Millisecond})
	sees(t, c, "who", 3)
	for i := range 100 {
		start := time.Now()
		id, err := micro.Send[string](t.Context(), c, "who.are", hello{})
		if err != nil || id == "a" || time.Since(start) > 5*time.Second {
			t.Fatal(fmt.Sprint("call ", i), id, err, time.Since(start))
		}
	}
}

// One that died a moment ago still counts as alive: who is addressed by name instead of it is asked at once.
func TestSendOnceGoesPastTheDead(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	serve(t, connect(t, s), micro.Config{Name: "who", Instance: "living"}, endpoint("are", func(context.Context, hello) (string, error) { return "living", nil }))
	for i := range 8 {
		key := fmt.Sprintf("default.dev.who.dead%d", i)
		put(t, s.Connect(t), registry.LivenessBucket, key, `{}`)
		put(t, s.Connect(t), registry.InstancesBucket, key, `{"version":"0.0.0","registered":true,"endpoints":[{"name":"are"}]}`)
	}
	c := newClient(t, conn, micro.ClientConfig{})
	sees(t, c, "who", 9)
	for range 50 {
		id, err := micro.SendOnce[string](t.Context(), c, "who.are", hello{}, micro.WithPolicy(balance.Random()))
		if err != nil || id != "living" {
			t.Fatalf("%q, %v", id, err)
		}
	}
}
