package stream_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/stream"
)

// wire lets a test speak to one end of a stream as its peer would.
type wire struct {
	nc   *nats.Conn
	own  string
	peer string
	in   *nats.Subscription
}

func (w wire) send(t testing.TB, header string, data string) {
	t.Helper()
	msg := &nats.Msg{Subject: w.peer, Reply: w.own, Header: nats.Header{bus.HeaderStream: {header}}, Data: []byte(data)}
	if err := w.nc.PublishMsg(msg); err != nil {
		t.Fatal(err)
	}
}

// next is the next frame whose kind is not ping.
func (w wire) next(t testing.TB) *nats.Msg {
	t.Helper()
	for {
		msg, err := w.in.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(msg.Header.Get(bus.HeaderStream), "ping") {
			return msg
		}
	}
}

// opened makes m open a stream to a peer that the test plays.
func opened(t testing.TB, srv *bustest.Node, cfg stream.Config) (*stream.Stream, wire) {
	t.Helper()
	w := wire{nc: srv.Connect(t), own: nats.NewInbox()}
	in, err := w.nc.SubscribeSync(w.own)
	if err != nil {
		t.Fatal(err)
	}
	w.in = in
	asked := make(chan string, 1)
	if _, err := w.nc.Subscribe("raw", func(msg *nats.Msg) {
		asked <- msg.Reply
		_ = msg.RespondMsg(&nats.Msg{Reply: w.own, Header: nats.Header{bus.HeaderStream: {"accept 0 2 1000"}}})
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	s := open(t, newMux(t, connect(t, srv), cfg), "raw")
	w.peer = <-asked
	return s, w
}

func TestLostFrames(t *testing.T) {
	t.Parallel()
	for _, after := range []string{"data 3", "end 3", "done 3", "ping 2", "credit 2 9 9000"} {
		t.Run(strings.Fields(after)[0], func(t *testing.T) {
			t.Parallel()
			s, w := opened(t, bustest.Server(t), stream.Config{})
			w.send(t, "data 1", "a")
			w.send(t, after, "c")
			wantMsg(t, s, "a")
			_, err := s.Recv(t.Context())
			wantCode(t, err, bus.DataLoss)
			told := w.next(t)
			if !strings.HasPrefix(told.Header.Get(bus.HeaderStream), "done 1") || told.Header.Get(bus.HeaderErrorCode) != string(bus.DataLoss) {
				t.Errorf("the peer is told %v", told.Header)
			}
		})
	}
}

func TestOverrunIsCutOff(t *testing.T) {
	t.Parallel()
	s, w := opened(t, bustest.Server(t), stream.Config{Window: 3})
	for i := range 4 {
		w.send(t, fmt.Sprintf("data %d", i+1), "x")
	}
	if told := w.next(t); told.Header.Get(bus.HeaderErrorCode) != string(bus.ResourceExhausted) {
		t.Errorf("the peer is told %v", told.Header)
	}
	for range 3 {
		wantMsg(t, s, "x")
	}
	_, err := s.Recv(t.Context())
	wantCode(t, err, bus.ResourceExhausted)
}

// Frames of somebody who is not the peer change nothing, and what a server of another version sends neither.
func TestForeignFrames(t *testing.T) {
	t.Parallel()
	s, w := opened(t, bustest.Server(t), stream.Config{})
	other := w
	other.own = "_INBOX.other"
	other.send(t, "data 1", "not from the peer")
	other.send(t, "credit 0 100 100", "")
	w.send(t, "", "")
	w.send(t, "dance 1", "")
	w.send(t, "data -1", "")
	w.send(t, "data 1", "mine")
	wantMsg(t, s, "mine")
	for range 2 {
		send(t, s, "x")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	wantCode(t, s.Send(ctx, nil), bus.DeadlineExceeded)
	w.send(t, "credit 1 3 1000", "")
	send(t, s, "y")
}
