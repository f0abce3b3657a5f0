package election_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/election"
)

func TestWatch(t *testing.T) {
	t.Parallel()
	server := bustest.Server(t)
	a, b := join(t, server), join(t, server)
	first := campaign(t, a, "a")
	told := make(chan election.Change, 10)
	watch(t, join(t, server), func(c election.Change) { told <- c })
	expect := func(kind election.ChangeKind, candidate string, l *election.Leadership) {
		t.Helper()
		want := election.Change{Kind: kind, Leader: election.Leader{Service: service, Candidate: candidate, Term: l.Term()}}
		if got := bustest.Receive(t, "a change", told); got != want {
			t.Errorf("told %v, want %v", got, want)
		}
	}
	expect(election.Got, "a", first)
	elected := campaignLater(t, b, "b")
	if err := first.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := bustest.Receive(t, "the next leader", elected)
	expect(election.Lost, "a", first)
	expect(election.Got, "b", second)
	if err := second.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(election.Lost, "b", second)
	// Renewals are no changes.
	third := campaign(t, a, "a")
	expect(election.Got, "a", third)
	select {
	case c := <-told:
		t.Errorf("told %v", c)
	case <-time.After(ttl):
	}
	for c, err := range a.Watch(t.Context(), service) {
		if c.Kind != election.Got || err != nil {
			t.Errorf("%v, %v", c, err)
		}
		break
	}
}

// A connection that is closed for good ends a watch with an error.
func TestWatchEnds(t *testing.T) {
	t.Parallel()
	conn := connect(t, bus.Config{InProcess: bustest.Server(t)})
	e := open(t, conn, election.Config{TTL: ttl})
	campaign(t, e, "a")
	var errs []error
	for c, err := range e.Watch(t.Context(), service) {
		if err != nil {
			errs = append(errs, err)
		}
		if c.Kind == election.Got {
			conn.NATS().Close()
		}
	}
	if len(errs) != 1 || !errors.Is(errs[0], nats.ErrConnectionClosed) {
		t.Errorf("errors %v", errs)
	}
}

// A thousand changes, and watchers of every pace: a leader is always lost before the next is got.
func TestWatchOrder(t *testing.T) {
	t.Parallel()
	server := bustest.Server(t)
	e := join(t, server)
	const changes = 1000
	var last atomic.Pointer[election.Leader]
	var told [3]atomic.Int64
	caught := make(chan struct{}, len(told))
	for i := range told {
		var o order
		watch(t, join(t, server), func(c election.Change) {
			o.check(t, c)
			told[i].Add(1)
			if l := last.Load(); l != nil && o.last == *l {
				caught <- struct{}{}
			}
			if i > 0 {
				<-time.After(time.Duration(i*i*i) * time.Millisecond) // slow, and slower
			}
		})
	}
	var term kv.Term
	for range changes {
		l := campaign(t, e, "a")
		term = l.Term()
		if err := l.Resign(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	l := campaign(t, e, "last")
	last.Store(&election.Leader{Service: service, Candidate: "last", Term: l.Term()})
	if l.Term().Compare(term) <= 0 {
		t.Errorf("term %v after %v", l.Term(), term)
	}
	bustest.Eventually(t, "some watcher to be told much", func() bool { return told[0].Load() > changes/10 })
	t.Logf("told %d, %d, %d changes of %d", told[0].Load(), told[1].Load(), told[2].Load(), 2*changes+1)
}

// The leadership changes while the watcher cannot hear of it.
func TestWatchOverRestart(t *testing.T) {
	t.Parallel()
	server := bustest.Server(t)
	a := join(t, server)
	first := campaign(t, a, "a")
	told := make(chan election.Change, 10)
	var o order
	watch(t, join(t, server), func(c election.Change) {
		o.check(t, c)
		told <- c
	})
	if c := bustest.Receive(t, "the leader", told); c.Term != first.Term() {
		t.Errorf("told %v", c)
	}
	server.Stop()
	<-first.Lost() // cannot renew
	server.Start(t)
	second := campaign(t, join(t, server), "b")
	if c := bustest.Receive(t, "the end of the first", told); c.Kind != election.Lost || c.Term != first.Term() {
		t.Errorf("told %v", c)
	}
	if c := bustest.Receive(t, "the second", told); c.Kind != election.Got || c.Term != second.Term() || c.Candidate != "b" {
		t.Errorf("told %v", c)
	}
	// One that is over soon ends no leadership.
	server.Restart(t)
	select {
	case c := <-told:
		t.Errorf("told %v", c)
	case <-time.After(ttl):
	}
	if !second.Valid() {
		t.Error("lost by a short restart")
	}
}

// Two candidates, and a watcher that asks each new leader to give up: they take turns.
func TestPingPong(t *testing.T) {
	t.Parallel()
	const turns = 20
	server := bustest.Server(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for _, candidate := range []string{"ping", "pong"} {
		conn := connect(t, bus.Config{InProcess: server})
		e := open(t, conn, election.Config{TTL: ttl})
		resign, err := conn.NATS().SubscribeSync(conn.Namespace().String() + ".pub.resign." + candidate)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			ended <- e.Run(ctx, service, candidate, func(ctx context.Context, term kv.Term) error {
				for {
					m, err := resign.NextMsgWithContext(ctx)
					if err != nil {
						return ctx.Err()
					}
					if string(m.Data) == term.String() {
						return nil
					}
				}
			})
		}()
	}
	conn := connect(t, bus.Config{InProcess: server})
	var o order
	var leaders []string
	for c, err := range open(t, conn, election.Config{TTL: ttl}).Watch(ctx, service) {
		if err != nil {
			t.Fatal(err)
		}
		o.check(t, c)
		if c.Kind == election.Lost {
			continue
		}
		if leaders = append(leaders, c.Candidate); len(leaders) > turns {
			break
		}
		msg := &nats.Msg{Subject: conn.Namespace().String() + ".pub.resign." + c.Candidate, Data: []byte(c.Term.String())}
		if err := conn.NATS().PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	for range 2 {
		if err := bustest.Receive(t, "the end", ended); err != nil {
			t.Error(err)
		}
	}
	repeats := 0
	for i := range turns {
		if leaders[i] == leaders[i+1] {
			repeats++
		}
	}
	if repeats > turns/4 { // who is slow to campaign misses a turn
		t.Errorf("leaders %v: want them to take turns", leaders)
	}
}
