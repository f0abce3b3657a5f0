package bus_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// soon is more than what happens at once takes on a busy machine, and far less than any deadline here.
const soon = 2 * time.Second

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// connect connects to s and closes the connection when the test ends.
func connect(t testing.TB, s *bustest.Node, cfg bus.Config) *bus.Conn {
	t.Helper()
	cfg.InProcess = s
	c, err := bus.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// connectTo is connect over TCP.
func connectTo(t testing.TB, server string) *bus.Conn {
	t.Helper()
	c, err := bus.Connect(t.Context(), bus.Config{Server: server})
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// serve answers each message on subject with what f makes of it.
func serve(t testing.TB, c *bus.Conn, subject string, f func(*nats.Msg) *nats.Msg) {
	t.Helper()
	subscribe(t, c, subject, func(m *nats.Msg) {
		if err := m.RespondMsg(f(m)); err != nil {
			t.Errorf("respond on %q: %v", subject, err)
		}
	})
}

// echo answers each message on "echo" with its own body.
func echo(t testing.TB, c *bus.Conn) {
	t.Helper()
	serve(t, c, "echo", func(m *nats.Msg) *nats.Msg { return &nats.Msg{Data: m.Data} })
}

// subscribe returns when the server knows of the subscription.
func subscribe(t testing.TB, c *bus.Conn, subject string, f nats.MsgHandler) *nats.Subscription {
	t.Helper()
	sub, err := c.NATS().Subscribe(subject, f)
	if err != nil {
		t.Fatalf("subscribe %q: %v", subject, err)
	}
	flush(t, c)
	return sub
}

// inbox collects what arrives on subject.
func inbox(t testing.TB, c *bus.Conn, subject string) <-chan *nats.Msg {
	t.Helper()
	ch := make(chan *nats.Msg, 1024)
	if _, err := c.NATS().ChanSubscribe(subject, ch); err != nil {
		t.Fatalf("subscribe %q: %v", subject, err)
	}
	flush(t, c)
	return ch
}

func flush(t testing.TB, c *bus.Conn) {
	t.Helper()
	if err := c.NATS().FlushTimeout(patience); err != nil {
		t.Fatalf("flush: %v", err)
	}
}

func request(t testing.TB, c *bus.Conn, timeout time.Duration, msg *nats.Msg) (*nats.Msg, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return c.Request(ctx, msg)
}

// works fails the test unless c can send requests, over the connection it had when its client id was id.
func works(t testing.TB, c *bus.Conn, id uint64) {
	t.Helper()
	const subject = "test.works"
	sub := subscribe(t, c, subject, func(m *nats.Msg) { _ = m.Respond(nil) })
	defer func() { _ = sub.Unsubscribe() }()
	if _, err := request(t, c, patience, &nats.Msg{Subject: subject}); err != nil {
		t.Errorf("request afterwards: %v", err)
	}
	if now := clientID(t, c); now != id {
		t.Errorf("the connection was lost: client id is %d, was %d", now, id)
	}
}

func clientID(t testing.TB, c *bus.Conn) uint64 {
	t.Helper()
	id, err := c.NATS().GetClientID()
	if err != nil {
		t.Fatalf("client id: %v", err)
	}
	return id
}

// stopServer stops s and waits until c has noticed.
func stopServer(t testing.TB, s *bustest.Node, c *bus.Conn) {
	t.Helper()
	s.Stop()
	bustest.Eventually(t, "connection lost", func() bool { return !c.NATS().IsConnected() })
}

func wantCode(t testing.TB, err error, want bus.Code) {
	t.Helper()
	if got := bus.CodeOf(err); got != want {
		t.Errorf("code %q, want %q: %v", got, want, err)
	}
}
