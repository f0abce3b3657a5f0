//go:build unix

package integration_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// Streams and bodies that fit into no message need no other rights than calls do.
func TestStreamsUnderRoles(t *testing.T) {
	t.Parallel()
	twice(t, bodiesUnderRoles)
}

func bodiesUnderRoles(t *testing.T, s *secured) {
	t.Helper()
	tickets, web := s.service(t, "tickets"), s.client(t, "tickets")
	registered := make(chan struct{})
	svc, err := micro.NewService(tickets, micro.Config{
		Name: "tickets", Hooks: micro.Hooks{Registered: sync.OnceFunc(func() { close(registered) })},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		micro.Handle(svc, "echo", func(_ context.Context, body []byte) ([]byte, error) { return body, nil }),
		micro.HandleBidi(svc, "each", func(ctx context.Context, in *micro.Receiver[ticket], out *micro.Sender[ticket]) error {
			for tk, err := range in.All(ctx) {
				if err == nil {
					err = out.Send(ctx, tk)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}),
	); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = svc.Run(ctx) })
	defer running.Wait()
	defer stop()
	<-registered

	client, err := micro.NewClient(t.Context(), web, micro.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }() // has no error to tell
	body := bytes.Repeat([]byte("x"), 3<<20)
	if got, err := micro.Call[[]byte](t.Context(), client, "tickets.echo", body); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes came back as %d, %v", len(body), len(got), err)
	}
	st, err := micro.CallBidi[ticket, ticket](t.Context(), client, "tickets.each")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }() // has no error to tell
	for range 1000 {                  // more than a window: credits pass too
		if err := st.Send(t.Context(), ticket{Text: "t"}); err != nil {
			t.Fatal(err)
		}
		if got, err := st.Recv(t.Context()); err != nil || got.Text != "t" {
			t.Fatalf("received %v, %v", got, err)
		}
	}
	harmless(t, tickets, web)

	_, err = micro.CallBidi[ticket, ticket](t.Context(), client, "orders.each")
	want := bus.PermissionDenied
	if s.account == nil {
		want = bus.Unavailable // nobody serves it
	}
	if bus.CodeOf(err) != want {
		t.Errorf("a stream to another service: %v, want %s", err, want)
	}
}
