package stream_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/stream"
)

const patience = 20 * time.Second

func connect(t testing.TB, s *bustest.Node) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // some tests close it themselves
	return conn
}

func newMux(t testing.TB, conn *bus.Conn, cfg stream.Config) *stream.Mux {
	t.Helper()
	m, err := stream.New(conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

// accepts makes m accept streams on subject and hand them to h.
func accepts(t testing.TB, conn *bus.Conn, m *stream.Mux, subject string, h func(context.Context, *stream.Stream, *nats.Msg)) {
	t.Helper()
	sub, err := conn.NATS().Subscribe(subject, func(msg *nats.Msg) {
		ctx, s, err := m.Accept(context.WithoutCancel(t.Context()), msg, nil)
		if err != nil {
			reply := bus.NewErrorReply(bus.JSON{}, err)
			reply.Subject = msg.Reply
			_ = conn.Publish(reply) // as a service would
			return
		}
		go h(ctx, s, msg)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
}

func open(t testing.TB, m *stream.Mux, subject string) *stream.Stream {
	t.Helper()
	s, err := m.Open(t.Context(), &nats.Msg{Subject: subject})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pair is a stream between two connections, with both of its ends.
func pair(t testing.TB, near, far *bus.Conn, nearCfg, farCfg stream.Config) (a, b *stream.Stream, done <-chan struct{}) {
	t.Helper()
	type end struct {
		done <-chan struct{}
		s    *stream.Stream
	}
	got := make(chan end, 1)
	subject := nats.NewInbox()[1:]
	accepts(t, far, newMux(t, far, farCfg), subject, func(ctx context.Context, s *stream.Stream, _ *nats.Msg) { got <- end{ctx.Done(), s} })
	a = open(t, newMux(t, near, nearCfg), subject)
	e := receive(t, got, "the stream to be accepted")
	return a, e.s, e.done
}

func receive[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, what)
		panic("unreachable")
	}
}

func send(t testing.TB, s *stream.Stream, text string) {
	t.Helper()
	if err := s.Send(t.Context(), []byte(text)); err != nil {
		t.Fatalf("send %q: %v", text, err)
	}
}

func wantMsg(t testing.TB, s *stream.Stream, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, err := s.Recv(ctx)
	if err != nil || string(got) != text {
		t.Fatalf("received %q, %v; want %q", got, err, text)
	}
}

func wantEOF(t testing.TB, s *stream.Stream) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if got, err := s.Recv(ctx); !errors.Is(err, io.EOF) {
		t.Fatalf("received %q, %v; want the end", got, err)
	}
}

func wantCode(t testing.TB, err error, code bus.Code, parts ...string) {
	t.Helper()
	if bus.CodeOf(err) != code {
		t.Fatalf("error %v: code %q, want %q", err, bus.CodeOf(err), code)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

// recvErr is the error of a Recv that has nothing to return.
func recvErr(t testing.TB, s *stream.Stream) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		if _, err := s.Recv(ctx); err != nil {
			return err
		}
	}
}
