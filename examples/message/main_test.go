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

func TestMessage(t *testing.T) {
	t.Parallel()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 2)
	for _, region := range []string{"eu", "us"} {
		go func() { done <- run(ctx, conn, []string{"serve", region}, io.Discard) }()
	}
	do := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if err := run(ctx, conn, args, &out); err != nil {
			t.Fatal(args, err)
		}
		return out.String()
	}
	do("send", "eu", "one")
	do("send", "us", "two")
	do("send", "eu", "three")
	if got := do("list", "eu"); got != "one\nthree\n" {
		t.Errorf("eu has %q", got)
	}
	if got := do("list", "us"); got != "two\n" {
		t.Errorf("us has %q", got)
	}
	if err := run(ctx, conn, []string{"send", "eu", ""}, io.Discard); bus.CodeOf(err) != bus.InvalidArgument {
		t.Errorf("an empty text: %v", err)
	}
	stop()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A message that is sent twice is kept once, and old ones make room.
func TestKeep(t *testing.T) {
	t.Parallel()
	var s MsgService
	for i := range most + 5 {
		m := &Message{ID: string(rune('a' + i)), Text: "t"}
		for range 2 {
			if _, err := s.Keep(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	all, err := s.List(t.Context(), nil)
	if err != nil || len(*all) != most || (*all)[0].ID != string(rune('a'+5)) {
		t.Errorf("%d kept, %v", len(*all), err)
	}
}
