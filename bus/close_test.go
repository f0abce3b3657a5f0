package bus_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

func TestClose(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c, other := connect(t, s, bus.Config{}), connect(t, s, bus.Config{})
	const n = 500
	arrived := inbox(t, other, "out")
	for i := range n {
		if err := c.Publish(&nats.Msg{Subject: "out", Data: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	for i := range n {
		if got, want := string(bustest.Receive(t, "message", arrived).Data), fmt.Sprint(i); got != want {
			t.Fatalf("message %s, want %s", got, want)
		}
	}

	// Afterwards everything says so, at once.
	if err := c.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	bustest.Receive(t, "Closed", c.Closed())
	if err := c.WaitConnected(t.Context()); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("WaitConnected: %v, want %v", err, nats.ErrConnectionClosed)
	}
	_, err := request(t, c, patience, &nats.Msg{Subject: "out"})
	wantCode(t, err, bus.Unavailable)
	wantCode(t, c.Publish(&nats.Msg{Subject: "out"}), bus.Unavailable)
}

// What subscriptions hold when Close begins is handled before it returns, and answered.
func TestCloseDrains(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c, caller := connect(t, s, bus.Config{}), connect(t, s, bus.Config{})
	const n = 100
	begun, release := make(chan struct{}, n), make(chan struct{})
	handled := 0
	sub := subscribe(t, c, "work", func(m *nats.Msg) {
		begun <- struct{}{}
		bustest.Hold(t, release)
		handled++
		_ = m.Respond(m.Data)
	})
	replies := inbox(t, caller, "_INBOX.replies")
	for range n {
		if err := caller.Publish(&nats.Msg{Subject: "work", Reply: "_INBOX.replies"}); err != nil {
			t.Fatal(err)
		}
	}
	bustest.Receive(t, "the first message", begun)
	bustest.Eventually(t, "messages held", func() bool {
		pending, _, err := sub.Pending()
		return err == nil && pending >= n-1 // the one being handled counts or not
	})
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	bustest.Eventually(t, "draining", c.NATS().IsDraining)
	select {
	case err := <-closed:
		t.Fatalf("closed before the messages were handled: %v", err)
	default:
	}
	close(release)
	if err := bustest.Receive(t, "close", closed); err != nil {
		t.Errorf("close: %v", err)
	}
	if handled != n {
		t.Errorf("%d messages were handled, want %d", handled, n)
	}
	for range n {
		bustest.Receive(t, "reply", replies)
	}
}

func TestCloseConcurrently(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := connect(t, s, bus.Config{})
	release := make(chan struct{})
	begun := make(chan struct{})
	subscribe(t, c, "work", func(*nats.Msg) {
		close(begun)
		bustest.Hold(t, release)
	})
	if err := c.Publish(&nats.Msg{Subject: "work"}); err != nil {
		t.Fatal(err)
	}
	<-begun
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := c.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			if !c.NATS().IsClosed() {
				t.Error("Close returned before the connection was closed")
			}
		})
	}
	close(release)
	wg.Wait()
}

// Whoever closes the connection beneath closes c.
func TestCloseBeneath(t *testing.T) {
	t.Parallel()
	c := connect(t, bustest.Server(t), bus.Config{})
	c.NATS().Close()
	bustest.Receive(t, "Closed", c.Closed())
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// Handlers of a user are called beside ours, which Close and NotifyLoss live on.
func TestHandlersOfTheUser(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	lost, back, closed, failed := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	c := connect(t, s, bus.Config{Options: []nats.Option{
		nats.DisconnectErrHandler(func(*nats.Conn, error) {
			select {
			case <-lost: // Close disconnects too
			default:
				close(lost)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { close(back) }),
		nats.ClosedHandler(func(*nats.Conn) { close(closed) }),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {
			select {
			case failed <- struct{}{}:
			default:
			}
		}),
	}})
	loss := make(chan struct{}, 1)
	defer c.NotifyLoss(loss)()
	s.Restart(t)
	bustest.Receive(t, "lost", lost)
	bustest.Receive(t, "back", back)
	bustest.Receive(t, "notice of the loss", loss)

	sub := subscribe(t, c, "flood", func(*nats.Msg) { <-c.Closed() })
	if err := sub.SetPendingLimits(1, 1024); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := c.Publish(&nats.Msg{Subject: "flood"}); err != nil {
			t.Fatal(err)
		}
	}
	bustest.Receive(t, "error", failed)
	c.NATS().Close()
	bustest.Receive(t, "closed", closed)
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// A protocol error closes the connection for good: this is what checking names is for.
func TestClosedByServer(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := connect(t, s, bus.Config{})
	if err := c.NATS().Publish(strings.Repeat("n", 5000), nil); err != nil {
		t.Fatal(err)
	}
	bustest.Receive(t, "Closed", c.Closed())
	_, err := request(t, c, patience, &nats.Msg{Subject: "a"})
	wantCode(t, err, bus.Unavailable)
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}
