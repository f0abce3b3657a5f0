package main

import (
	"bytes"
	"context"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

func TestMain(m *testing.M) {
	bustest.Main(m, "github.com/skybus-io/skybus/", "google.golang.org/grpc")
}

const wanted = `Hello Ann
InvalidArgument - who?
Hello Bob
Hello Bob
Hello Cid and Dee
Hello Eve
`

func TestGRPC(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	connect := func() *bus.Conn {
		conn, err := bus.Connect(t.Context(), bus.Config{InProcess: srv})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	server := connect()
	go func() { done <- run(ctx, server, []string{"serve"}, nil) }()
	for _, way := range []string{"bus", "native"} { // callers wait for the server to start
		var out bytes.Buffer
		if err := run(t.Context(), connect(), []string{"call", way}, &out); err != nil {
			t.Errorf("%s: %v", way, err)
		}
		if got := out.String(); got != wanted {
			t.Errorf("%s: got\n%swant\n%s", way, got, wanted)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := run(t.Context(), server, nil, nil); err == nil {
		t.Error("no arguments are no error")
	}
}
