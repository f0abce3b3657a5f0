package election_test

import (
	"context"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/election"
)

const (
	service = "shop"
	ttl     = 2 * time.Second // the shortest
)

func connect(t testing.TB, cfg bus.Config) *bus.Conn {
	t.Helper()
	c, err := bus.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.NATS().Close() })
	return c
}

func open(t testing.TB, c *bus.Conn, cfg election.Config) *election.Election {
	t.Helper()
	e, err := election.Open(t.Context(), c, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() }) // the server may be gone
	return e
}

// join opens an election with a connection of its own.
func join(t testing.TB, s *bustest.Node) *election.Election {
	t.Helper()
	return open(t, connect(t, bus.Config{InProcess: s}), election.Config{TTL: ttl})
}

func campaign(t testing.TB, e *election.Election, candidate string) *election.Leadership {
	t.Helper()
	l, err := e.Campaign(t.Context(), service, candidate)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// campaignLater campaigns beside the test, which takes the leadership from the channel. None comes when the campaign failed.
func campaignLater(t testing.TB, e *election.Election, candidate string) <-chan *election.Leadership {
	t.Helper()
	elected := make(chan *election.Leadership, 1)
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(ended)
		if l, err := e.Campaign(ctx, service, candidate); err == nil {
			elected <- l
		} else if ctx.Err() == nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return elected
}

// watch collects what a watcher is told.
func watch(t testing.TB, e *election.Election, each func(election.Change)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for c, err := range e.Watch(ctx, service) {
			if err != nil {
				t.Errorf("watch: %v", err)
				return
			}
			each(c)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
}

// order checks that a leader is lost before the next is got, and that terms grow.
type order struct {
	leads election.Leader
	last  election.Leader
	told  int
}

func (o *order) check(t testing.TB, c election.Change) {
	t.Helper()
	o.told++
	switch c.Kind {
	case election.Got:
		if o.leads.Candidate != "" {
			t.Errorf("got %v while %v leads", c.Leader, o.leads)
		}
		if c.Term.Compare(o.last.Term) <= 0 {
			t.Errorf("got %v after %v", c.Leader, o.last)
		}
		o.leads, o.last = c.Leader, c.Leader
	case election.Lost:
		if c.Leader != o.leads {
			t.Errorf("lost %v while %v leads", c.Leader, o.leads)
		}
		o.leads = election.Leader{}
	}
}
