package stream_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/stream"
)

func TestOffer(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	near := connect(t, srv)
	m, n := newMux(t, near, stream.Config{}), newMux(t, connect(t, srv), stream.Config{})
	want := bytes.Repeat([]byte("0123456789"), 1<<19)
	subject, fetched, withdraw, err := m.Offer(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	flush(t, near)
	for range 2 {
		got, err := n.Fetch(t.Context(), subject, len(want))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("fetched %d bytes, %v; want %d", len(got), err, len(want))
		}
	}
	receive(t, fetched, "the offer to be told")
	_, err = n.Fetch(t.Context(), subject, len(want)-1)
	wantCode(t, err, bus.ResourceExhausted)
	_, err = n.Fetch(t.Context(), subject, len(want)+1)
	wantCode(t, err, bus.DataLoss)
	withdraw()
	_, err = n.Fetch(t.Context(), subject, len(want))
	wantCode(t, err, bus.Canceled)
	_, err = n.Fetch(t.Context(), "orders.new", 1)
	wantCode(t, err, bus.InvalidArgument)
	_, err = n.Fetch(t.Context(), "_INBOX.nobody", 1)
	wantCode(t, err, bus.Unavailable)
	bustest.Eventually(t, "all streams to be forgotten", func() bool { return m.Stats().Open == 0 && n.Stats().Open == 0 })
}

// Who fetches slowly keeps the other side no longer than its ctx.
func TestOfferEnds(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	near := connect(t, srv)
	m, n := newMux(t, near, stream.Config{}), newMux(t, connect(t, srv), stream.Config{WindowBytes: 1 << 10})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	subject, _, withdraw, err := m.Offer(ctx, make([]byte, 10<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer withdraw()
	flush(t, near)
	<-ctx.Done()
	_, err = n.Fetch(t.Context(), subject, 10<<20)
	wantCode(t, err, bus.DeadlineExceeded)
}

// flush makes sure that the server has the subscription, which the message that tells of an offer does elsewhere.
func flush(t testing.TB, conn *bus.Conn) {
	t.Helper()
	if err := conn.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
}

// Who offers and then sends nothing, alive though it is, keeps who fetches no longer than the size allows.
func TestFetchOfNothing(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	nc := srv.Connect(t)
	offer := nats.NewInbox()
	if _, err := nc.Subscribe(offer, func(msg *nats.Msg) {
		answer := "pong 0"
		if strings.HasPrefix(msg.Header.Get(bus.HeaderStream), "open") {
			answer = "accept 0 2 1000"
		}
		_ = msg.RespondMsg(&nats.Msg{Reply: offer, Header: nats.Header{bus.HeaderStream: {answer}}})
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	m := newMux(t, connect(t, srv), stream.Config{PingInterval: 50 * time.Millisecond, DeadAfter: 200 * time.Millisecond})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := m.Fetch(ctx, offer, 1000)
	wantCode(t, err, bus.DeadlineExceeded, "1000 bytes did not come within 200ms")
	if ctx.Err() != nil {
		t.Error("it took as long as it was given")
	}
}
