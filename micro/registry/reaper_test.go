package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/registry"
)

// reaped are the ids of what reapers removed.
type reaped struct {
	mu  sync.Mutex
	ids []string
}

func (r *reaped) add(record registry.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids = append(r.ids, record.Instance)
}

func (r *reaped) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ids)
}

func reap(t *testing.T, conn *bus.Conn, r *registry.Registry, cfg registry.ReaperConfig) {
	t.Helper()
	p, err := registry.NewReaper(conn, r, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// subscribeUndead takes pings for instances without liveness.
func subscribeUndead(t *testing.T, nc *nats.Conn) {
	t.Helper()
	for id, answer := range map[string]nats.MsgHandler{
		"frozen":  func(*nats.Msg) {},
		"answers": func(m *nats.Msg) { _ = m.Respond(nil) },
		"refuses": func(m *nats.Msg) {
			reply := bus.NewErrorReply(bus.JSON{}, bus.Errorf(bus.Unimplemented, "no"))
			_ = m.RespondMsg(reply)
		},
	} {
		if _, err := nc.Subscribe("default.dev.ctl.shop."+id+".*", answer); err != nil {
			t.Fatal(err)
		}
	}
}

// expectOffline takes as many events and looks at each.
func expectOffline(t *testing.T, events *nats.Subscription, n int) {
	t.Helper()
	for range n {
		m, err := events.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		var gone registry.Record
		if err := json.Unmarshal(m.Data, &gone); err != nil || m.Subject != "default.dev.ev.instance.shop."+gone.Instance+".offline" {
			t.Errorf("event %s: %s", m.Subject, m.Data)
		}
	}
}

// The dead and the frozen are removed, by one of two reapers, and told of; the living and who answers stay.
func TestReaper(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	r := open(t, conn, nil)
	records, liveness := tables(t, conn)
	const dead = 40
	for n := range dead {
		if _, err := records.Put(t.Context(), fmt.Sprintf("default.dev.shop.dead%d", n), record("shop", "x")); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"frozen", "answers", "refuses"} {
		if _, err := records.Put(t.Context(), "default.dev.shop."+id, record("shop", id)); err != nil {
			t.Fatal(err)
		}
	}
	if err := write(t.Context(), records, liveness, "shop", "alive"); err != nil {
		t.Fatal(err)
	}
	other := s.Connect(t)
	subscribeUndead(t, other)
	events, err := other.SubscribeSync("default.dev.ev.instance.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Flush(); err != nil {
		t.Fatal(err)
	}
	var book logBook
	var removed reaped
	cfg := registry.ReaperConfig{After: 400 * time.Millisecond, Ping: 3 * time.Second, Reaped: removed.add, Logger: book.logger()}
	begin := time.Now()
	reap(t, conn, r, cfg)
	second := connect(t, s)
	reap(t, second, open(t, second, nil), cfg)
	bustest.Eventually(t, "the dead to be removed", func() bool { return len(r.Instances(registry.Criteria{})) == 3 })
	if took := time.Since(begin); took < cfg.After {
		t.Errorf("removed after %v", took)
	}
	expectOffline(t, events, dead+1)
	warned := func() int { return strings.Count(book.String(), "gives no sign of life") }
	bustest.Eventually(t, "the warnings", func() bool { return warned() == 4 })
	<-time.After(2 * cfg.After)
	for _, id := range []string{"alive", "answers", "refuses"} {
		if find(r, "shop", id) == nil {
			t.Errorf("%s was removed", id)
		}
	}
	if n := removed.count(); n != dead+1 {
		t.Errorf("%d reports of %d removed instances", n, dead+1)
	}
	if n := warned(); n != 4 { // each reaper of each, once
		t.Errorf("%d warnings", n)
	}
	if m, err := events.NextMsg(time.Millisecond); !errors.Is(err, nats.ErrTimeout) {
		t.Errorf("one more event: %+v, %v", m, err)
	}
}

// An instance that comes back while it is asked whether it is there keeps its record.
func TestReaperSparesWhoComesBack(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	r := open(t, conn, nil)
	records, liveness := tables(t, conn)
	back := map[string]func() error{
		"lives": func() error {
			_, err := liveness.Put(t.Context(), "default.dev.shop.lives", registry.Load{}, kv.TTL(time.Minute))
			return err
		},
		"writes": func() error {
			_, err := records.Put(t.Context(), "default.dev.shop.writes", record("shop", "writes"))
			return err
		},
	}
	const rounds = 4
	asked := make(chan string, 2*rounds)
	for id, comes := range back {
		if _, err := records.Put(t.Context(), "default.dev.shop."+id, record("shop", id)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Connect(t).Subscribe("default.dev.ctl.shop."+id+".ping", func(*nats.Msg) {
			if err := comes(); err != nil {
				t.Error(err)
			}
			asked <- id
		}); err != nil {
			t.Fatal(err)
		}
	}
	var removed reaped
	reap(t, conn, r, registry.ReaperConfig{After: 400 * time.Millisecond, Ping: 2 * time.Second, Reaped: removed.add})
	for times := map[string]int{}; times["lives"] < 1 || times["writes"] < rounds; {
		select {
		case id := <-asked:
			times[id]++
		case <-time.After(patience):
			t.Fatalf("nobody asks: %v", times)
		}
	}
	if removed.count() > 0 || state(r, "shop", "lives") == "" || state(r, "shop", "writes") == "" {
		t.Errorf("removed %d", removed.count())
	}
}

// A minute, which callers need to go around a frozen instance.
func TestReaperAfterAMinute(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		s := bustest.Server(t)
		conn := connect(t, s)
		r := open(t, conn, nil)
		mortal := connect(t, s)
		a := announce(t, mortal, record("shop", "a"), registry.AnnounceConfig{})
		announce(t, conn, record("shop", "b"), registry.AnnounceConfig{})
		becomes(t, r, "shop", "a", registry.Online)
		becomes(t, r, "shop", "b", registry.Online)
		reap(t, conn, r, registry.ReaperConfig{})
		mortal.NATS().Close()
		begin := time.Now()
		becomes(t, r, "shop", "a", registry.Offline)
		time.Sleep(time.Minute - time.Second)
		if got := state(r, "shop", "a"); got != registry.Offline {
			t.Errorf("after a minute it is %q", got)
		}
		time.Sleep(20 * time.Second)
		if got := state(r, "shop", "a"); got != "" {
			t.Errorf("%v after its death it is %q", time.Since(begin), got)
		}
		if got := state(r, "shop", "b"); got != registry.Online {
			t.Errorf("the living is %q", got)
		}
		_ = a.stop() // cannot withdraw
	})
}

func TestNewReaperRefuses(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	r := open(t, conn, nil)
	for what, cfg := range map[string]registry.ReaperConfig{
		"After": {After: -1}, "Ping": {Ping: -1}, "Parallel": {Parallel: -1},
	} {
		if _, err := registry.NewReaper(conn, r, cfg); bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("%s: error %v", what, err)
		}
	}
	other := connect(t, s, func(cfg *bus.Config) { cfg.Namespace = "shop.prod" })
	if _, err := registry.NewReaper(other, r, registry.ReaperConfig{}); bus.CodeOf(err) != bus.InvalidArgument {
		t.Errorf("another namespace: error %v", err)
	}
}
