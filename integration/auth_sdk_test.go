//go:build unix

package integration_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/election"
	"github.com/skybus-io/skybus/micro/registry"
	"github.com/skybus-io/skybus/micro/stream"
)

// What TestRolesSuffice does beyond calls.

func othersUnderRoles(t *testing.T, client *micro.Client, noted <-chan string) {
	t.Helper()
	ctx := t.Context()
	if err := micro.Notify(ctx, client, "orders.note", ticket{Text: "to one"}); err != nil {
		t.Error(err)
	}
	heard(t, noted, "to one")
	if err := micro.NotifyAll(ctx, client, "orders.note", ticket{Text: "to all"}); err != nil {
		t.Error(err)
	}
	heard(t, noted, "to all")
	var from []string
	for g, err := range micro.CallAll[ticket](ctx, client, "orders.check", ticket{}) {
		if err != nil {
			t.Error(err)
		}
		from = append(from, g.Resp.By)
	}
	if !slices.Equal(from, []string{"o1"}) {
		t.Errorf("a broadcast is answered by %q", from)
	}
	short, cancel := context.WithCancel(ctx)
	called := make(chan error, 1)
	go func() {
		_, err := micro.Call[ticket](short, client, "orders.hold", ticket{Text: "holding"})
		called <- err
	}()
	eventually(t, patience, "the request is held", func() bool {
		for _, i := range client.Registry().Instances(registry.Criteria{}) {
			if i.Load().InFlight > 0 {
				return true
			}
		}
		return false
	})
	cancel()
	if err := <-called; bus.CodeOf(err) != bus.Canceled {
		t.Error(err)
	}
	heard(t, noted, "gave up holding")
}

// streamsUnderRoles sends more than the window holds there and back, so that credits flow both ways.
func streamsUnderRoles(t *testing.T, orders, web *bus.Conn) {
	t.Helper()
	ctx := t.Context()
	mux := func(conn *bus.Conn) *stream.Mux {
		m, err := stream.New(conn, stream.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Close() })
		return m
	}
	serving, calling := mux(orders), mux(web)
	subject := orders.Namespace().ServiceSubject("orders", "echo")
	ended := make(chan error, 1)
	_, err := orders.NATS().Subscribe(subject, func(m *nats.Msg) {
		go func() { ended <- echoStream(ctx, serving, m) }()
	})
	if err == nil {
		err = orders.Flush(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := calling.Open(ctx, &nats.Msg{Subject: subject})
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("0123456789abcdef"), 32<<10)
	for range 8 {
		if err := s.Send(ctx, sent); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Recv(ctx); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d of %d bytes came back: %v", len(got), len(sent), err)
		}
	}
	if err := s.CloseSend(nil); err != nil {
		t.Error(err)
	}
	if _, err := s.Recv(ctx); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func echoStream(ctx context.Context, mux *stream.Mux, m *nats.Msg) error {
	ctx, s, err := mux.Accept(ctx, m, nil)
	if err != nil {
		return err
	}
	for {
		data, err := s.Recv(ctx)
		if errors.Is(err, io.EOF) {
			return s.Finish(nil, nil)
		}
		if err == nil {
			err = s.Send(ctx, data)
		}
		if err != nil {
			return err
		}
	}
}

func attributesUnderRoles(t *testing.T, svc *micro.Service, reg *registry.Registry) {
	t.Helper()
	ctx := t.Context()
	if err := svc.SetAttribute(ctx, "color", "blue"); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the attribute is seen", func() bool {
		i := reg.Service("orders").Instance("o1")
		return i != nil && string(i.Attributes["color"]) == `"blue"`
	})
	for _, registered := range []bool{false, true} {
		if err := svc.SetRegistered(ctx, registered); err != nil {
			t.Error(err)
		}
		want := map[bool]registry.State{true: registry.Online, false: registry.Unregistered}[registered]
		awaitState(t, reg, "orders", want, 1)
	}
}

func electionUnderRoles(t *testing.T, orders, web *bus.Conn) {
	t.Helper()
	ctx := t.Context()
	open := func(conn *bus.Conn) *election.Election {
		e, err := election.Open(ctx, conn, election.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		return e
	}
	candidates, watcher := open(orders), open(web)
	leadership, err := candidates.Campaign(ctx, "orders", "o1")
	if err != nil {
		t.Fatal(err)
	}
	if leader, err := watcher.Leader(ctx, "orders"); err != nil || leader.Candidate != "o1" {
		t.Errorf("a client sees the leader %+v, %v", leader, err)
	}
	for change, err := range watcher.Watch(ctx, "orders") {
		if err != nil {
			t.Errorf("watch: %v, %v", change, err)
		}
		break
	}
	if err := leadership.Resign(ctx); err != nil {
		t.Error(err)
	}
}
