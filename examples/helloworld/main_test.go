package main

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

func TestMain(m *testing.M) { bustest.Main(m, "github.com/skybus-io/skybus/") }

func TestHelloWorld(t *testing.T) {
	t.Parallel()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, conn, []string{"serve"}, io.Discard) }()
	var out bytes.Buffer
	if err := run(ctx, conn, []string{"hello", "Ada"}, &out); err != nil || out.String() != "Hello Ada\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if err := run(ctx, conn, []string{"hello", ""}, &out); bus.CodeOf(err) != bus.InvalidArgument {
		t.Errorf("without a name: %v", err)
	}
	if err := run(ctx, conn, []string{"goodbye"}, &out); err == nil {
		t.Error("goodbye was understood")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
