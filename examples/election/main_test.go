package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

func TestMain(m *testing.M) { bustest.Main(m, "github.com/skybus-io/skybus/") }

func connect(t *testing.T, srv *bustest.Node) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: srv})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Two candidates take turns, and a leader is always lost before the next is got.
func TestElection(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 2)
	for _, name := range []string{"ping", "pong"} {
		conn := connect(t, srv)
		go func() { done <- run(ctx, conn, []string{"candidate", name}, io.Discard) }()
	}
	var out bytes.Buffer
	if err := run(ctx, connect(t, srv), []string{"watch", "20"}, &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	leads := map[string]int{}
	holder := ""
	for _, line := range lines {
		kind, name, _ := strings.Cut(line, " ")
		switch {
		case kind == "got" && holder == "":
			holder = name
			leads[name]++
		case kind == "lost" && holder == name:
			holder = ""
		default:
			t.Fatalf("%q while %q led:\n%s", line, holder, out.String())
		}
	}
	if leads["ping"]+leads["pong"] != 20 || leads["ping"] < 5 || leads["pong"] < 5 {
		t.Errorf("they led %v times, want about 10 each", leads)
	}
	stop()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
