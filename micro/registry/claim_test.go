package registry_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/registry"
)

// refused checks that another has the id, and that the error says all of that.
func refused(t *testing.T, err error, parts ...string) {
	t.Helper()
	if bus.CodeOf(err) != bus.AlreadyExists {
		t.Fatalf("error %v", err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in the error %v", part, err)
		}
	}
}

// holder is a record of shop/a that says where it is.
func holder() registry.Record {
	r := record("shop", "a")
	r.Host, r.PID, r.Started = "h1", 4711, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return r
}

// Who has claimed an id has it until it is withdrawn, before and while it runs.
func TestClaim(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	one, two := connect(t, s), connect(t, s)
	r := open(t, two, nil)
	cfg := quickly()
	cfg.AnswerPing = true
	a := newAnnouncer(t, one, holder(), cfg)
	for range 2 {
		if err := a.Claim(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	becomes(t, r, "shop", "a", registry.Unregistered)
	b := newAnnouncer(t, two, record("shop", "a"), quickly())
	err := b.Claim(t.Context())
	refused(t, err, `"a"`, `"shop"`, `"h1"`, "process 4711", "since 2026-01-02T03:04:05Z", "stop that one")
	if e := bus.AsError(err); e.Details["host"] != "h1" || e.Details["pid"] != "4711" || e.Details["started"] != "2026-01-02T03:04:05Z" {
		t.Errorf("details %v", e.Details)
	}
	running := run(t, a)
	becomes(t, r, "shop", "a", registry.Online)
	refused(t, b.Claim(t.Context()), "process 4711")
	records, liveness := tables(t, two)
	for what, lose := range map[string]func() error{
		"record":   func() error { return records.Delete(t.Context(), "default.dev.shop.a") },
		"liveness": func() error { return liveness.Delete(t.Context(), "default.dev.shop.a") },
	} {
		if err := lose(); err != nil {
			t.Fatal(err)
		}
		if err := b.Claim(t.Context()); bus.CodeOf(err) != bus.AlreadyExists {
			t.Errorf("without %s: error %v", what, err)
		}
	}
	if err := running.stop(); err != nil {
		t.Fatal(err)
	}
	if err := b.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	gives, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Run(gives); err != nil {
		t.Fatal(err)
	}
	for e, err := range records.List(t.Context(), ">") {
		t.Errorf("record %s is left (%v)", e.Key, err)
	}
	for e, err := range liveness.List(t.Context(), ">") {
		t.Errorf("liveness %s is left (%v)", e.Key, err)
	}
}

// The id of who was killed is free at once, though its liveness is not over.
func TestClaimAfterDeath(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	one, two := connect(t, s), connect(t, s)
	r := open(t, two, nil)
	a := announce(t, one, holder(), registry.AnnounceConfig{AnswerPing: true})
	becomes(t, r, "shop", "a", registry.Online)
	one.NATS().Close()
	begin := time.Now()
	b := newAnnouncer(t, two, record("shop", "a"), registry.AnnounceConfig{})
	if err := b.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, b)
	bustest.Eventually(t, "the new instance", func() bool {
		i := find(r, "shop", "a")
		return i.State == registry.Online && i.PID == 0
	})
	t.Logf("taken over %v after the death", time.Since(begin))
	if took := time.Since(begin); took > registry.DefaultTTL/2 {
		t.Errorf("it took %v", took)
	}
	_ = a.stop() // cannot withdraw
	if state(r, "shop", "a") != registry.Online {
		t.Error("the dead has withdrawn the living")
	}
}

// Who is subscribed and does not answer has the id until its liveness is over.
func TestClaimOfFrozen(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	if _, err := s.Connect(t).Subscribe("default.dev.ctl.shop.a.*", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	records, liveness := tables(t, conn)
	if _, err := records.Put(t.Context(), "default.dev.shop.a", holder()); err != nil {
		t.Fatal(err)
	}
	if _, err := liveness.Put(t.Context(), "default.dev.shop.a", registry.Load{}, kv.TTL(3*time.Second)); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	a := newAnnouncer(t, conn, record("shop", "a"), registry.AnnounceConfig{Heartbeat: time.Second, TTL: 3 * time.Second})
	err := a.Claim(t.Context())
	refused(t, err, "silent", "process 4711", "counts until")
	free, perr := time.Parse(time.RFC3339, bus.AsError(err).Details["free_at"])
	if wait := free.Sub(begin); perr != nil || wait < time.Second || wait > 4*time.Second {
		t.Errorf("free in %v (%v), it is to be 3s", wait, perr)
	}
	bustest.Eventually(t, "the id to be free", func() bool { return a.Claim(t.Context()) == nil })
	if took := time.Since(begin); took < 2*time.Second || took > 15*time.Second {
		t.Errorf("the id was free after %v", took)
	}
	run(t, a)
	becomes(t, open(t, conn, nil), "shop", "a", registry.Online)
}

// Of many who claim an id at the same time exactly one gets it, whether it was never used or is that of a dead.
func TestClaimsAtOnce(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	const claimers, rounds = 5, 10
	var conns []*bus.Conn
	for range claimers {
		conns = append(conns, connect(t, s))
	}
	records, liveness := tables(t, conns[0])
	for round := range rounds {
		id := fmt.Sprintf("i%d", round)
		if round%2 == 0 {
			if err := write(t.Context(), records, liveness, "shop", id); err != nil {
				t.Fatal(err)
			}
		}
		begin := make(chan struct{})
		errs := make([]error, claimers)
		var all sync.WaitGroup
		for n, conn := range conns {
			a := newAnnouncer(t, conn, record("shop", id), registry.AnnounceConfig{})
			all.Go(func() {
				<-begin
				errs[n] = a.Claim(t.Context())
			})
		}
		close(begin)
		all.Wait()
		won := 0
		for _, err := range errs {
			switch {
			case err == nil:
				won++
			case bus.CodeOf(err) != bus.AlreadyExists:
				t.Errorf("error %v", err)
			}
		}
		if won != 1 {
			t.Errorf("round %d: %d have the id", round, won)
		}
	}
}

// An instance whose id was taken ends, and leaves what is another's.
func TestTaken(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	one, two := connect(t, s), connect(t, s)
	r := open(t, two, nil)
	first := announce(t, one, holder(), registry.AnnounceConfig{})
	becomes(t, r, "shop", "a", registry.Online)
	second := announce(t, two, record("shop", "a"), quickly()) // asks nobody
	select {
	case <-first.done:
	case <-time.After(registry.DefaultHeartbeat / 2):
		t.Fatal("it goes on, and waits for its heartbeat to notice")
	}
	refused(t, first.err, `"a"`, `"shop"`, "stop serving")
	bustest.Eventually(t, "the second", func() bool {
		i := find(r, "shop", "a")
		return i != nil && i.PID == 0 && i.State == registry.Online
	})
	if err := second.Update(t.Context(), setRegistered(false)); err != nil {
		t.Error(err)
	}
	if err := second.stop(); err != nil {
		t.Error(err)
	}
	becomes(t, r, "shop", "a", "")
}

// That somebody answers is told without JetStream.
func TestClaimWithoutJetStream(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.Configure(func(o *server.Options) {
		plain := server.NewAccount("plain")
		o.Accounts = []*server.Account{plain}
		o.Users = []*server.User{{Username: "u", Account: plain}}
		o.NoAuthUser = "u"
	}))
	other, conn := s.Connect(t), connect(t, s)
	if _, err := other.Subscribe("default.dev.ctl.shop.a.ping", func(m *nats.Msg) { _ = m.Respond(nil) }); err != nil {
		t.Fatal(err)
	}
	if err := other.Flush(); err != nil {
		t.Fatal(err)
	}
	a := newAnnouncer(t, conn, record("shop", "a"), registry.AnnounceConfig{})
	refused(t, a.Claim(t.Context()), "another process")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	b := newAnnouncer(t, conn, record("shop", "b"), registry.AnnounceConfig{})
	if err := b.Claim(ctx); err == nil || bus.CodeOf(err) == bus.AlreadyExists {
		t.Errorf("error %v", err)
	}
}

// Who stops at the moment at which its id is taken removes nothing of the other's.
func TestTakenWhileStopping(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	records, liveness := tables(t, conn)
	r := open(t, conn, nil)
	for n := range 20 {
		id := fmt.Sprintf("i%d", n)
		a := announce(t, connect(t, s), record("shop", id), quickly())
		becomes(t, r, "shop", id, registry.Online)
		if err := write(t.Context(), records, liveness, "shop", id); err != nil {
			t.Fatal(err)
		}
		if err := a.stop(); err != nil && bus.CodeOf(err) != bus.AlreadyExists {
			t.Fatal(err)
		}
		if _, err := records.Get(t.Context(), "default.dev.shop."+id); err != nil {
			t.Errorf("record: %v", err)
		}
		if _, err := liveness.Get(t.Context(), "default.dev.shop."+id); err != nil {
			t.Errorf("liveness: %v", err)
		}
	}
}

// Whoever may not ask cannot claim, and is told so at once. Without its events an instance is announced all the same.
func TestPermissions(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.Configure(func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"*.*.ctl.>", "*.*.ev.>"}},
		}}}
		o.NoAuthUser = "u"
	}))
	conn := connect(t, s)
	r := open(t, conn, nil)
	a := newAnnouncer(t, conn, record("shop", "a"), quickly())
	begin := time.Now()
	err := a.Claim(t.Context())
	if took := time.Since(begin); bus.CodeOf(err) != bus.PermissionDenied || !strings.Contains(err.Error(), "default.dev.ctl.shop.a.ping") || took > 5*time.Second {
		t.Errorf("after %v: %v", took, err)
	}
	running := run(t, a)
	becomes(t, r, "shop", "a", registry.Online)
	if err := a.Update(t.Context(), setRegistered(false)); err != nil {
		t.Error(err)
	}
	becomes(t, r, "shop", "a", registry.Unregistered)
	if err := running.stop(); err != nil {
		t.Error(err)
	}
}
