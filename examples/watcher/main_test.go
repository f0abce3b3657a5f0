package main

import (
	"bufio"
	"context"
	"io"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

func TestMain(m *testing.M) { bustest.Main(m, "github.com/skybus-io/skybus/") }

func TestWatcher(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	conn := connect(t, srv)
	out, in := io.Pipe()
	lines := bufio.NewScanner(out)
	done := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { done <- run(ctx, conn, []string{"greeter"}, in) }()

	want := func(line string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != line {
			t.Fatalf("reported %q, want %q", lines.Text(), line)
		}
	}
	stopOther := serve(t, connect(t, srv), "other", "x")
	stopA := serve(t, connect(t, srv), "greeter", "a")
	want("greeter 1.0.0 a is online, 1 online")
	stopB := serve(t, connect(t, srv), "greeter", "b")
	want("greeter 1.0.0 b is online, 2 online")
	stopA()
	want("greeter 1.0.0 a is gone, 1 online")
	stopB()
	want("greeter 1.0.0 b is gone, 0 online")
	want("greeter is UNAVAILABLE")
	stopOther()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := run(t.Context(), conn, []string{"no.service"}, io.Discard); bus.CodeOf(err) != bus.InvalidArgument {
		t.Errorf("a bad name: %v", err)
	}
}

func connect(t *testing.T, srv *bustest.Node) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: srv})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// serve runs an instance until stop is called.
func serve(t *testing.T, conn *bus.Conn, name, id string) (stop func()) {
	t.Helper()
	s, err := micro.NewService(conn, micro.Config{Name: name, Instance: id, Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
