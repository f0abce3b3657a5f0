package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
)

func TestMain(m *testing.M) { bustest.Main(m, "github.com/skybus-io/skybus/") }

func TestNameRouter(t *testing.T) {
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
	done := make(chan error, 2)
	for name, every := range map[string]time.Duration{"one": time.Hour, "two": 10 * time.Millisecond} {
		conn := connect()
		go func() { done <- serve(ctx, conn, name, every) }()
	}
	client, err := micro.NewClient(ctx, connect(), micro.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	for c := range client.Registry().WatchAttributes(ctx, registry.Criteria{}) { // until the price of two is no longer that of one
		if c.Instance.Instance == "two" && string(c.Value) != "1" {
			break
		}
	}
	bustest.Eventually(t, "both to be online", func() bool {
		s := client.Registry().Service(service)
		return s != nil && len(s.Online) == 2
	})
	answers := map[string]string{}
	for _, p := range policies() {
		var out bytes.Buffer
		if err := callFour(ctx, client, p, &out); err != nil {
			t.Fatal(err)
		}
		name, who, _ := strings.Cut(strings.TrimSpace(out.String()), ": ")
		answers[name] = who
	}
	if who := answers["loop"]; strings.Count(who, "one") != 2 || strings.Count(who, "two") != 2 {
		t.Errorf("by turns: %s", who)
	}
	for _, name := range []string{"mod hash of ada", "consistent hash of ada"} {
		if who := strings.Fields(answers[name]); len(who) != 4 || who[0] != who[1] || who[1] != who[2] || who[2] != who[3] {
			t.Errorf("%s: %v", name, who)
		}
	}
	if who := answers["cheapest"]; who != "one one one one" {
		t.Errorf("cheapest: %s", who)
	}
	stop()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
