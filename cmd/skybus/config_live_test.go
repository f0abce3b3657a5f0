package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// TestConfigReachesClients sets what a running client obeys: how long it waits, and which version it calls.
func TestConfigReachesClients(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	conn := connectTo(t, s)
	for _, version := range []string{"1.0.0", "2.0.0"} {
		serveVersion(t, conn, version)
	}
	client, err := micro.NewClient(t.Context(), conn, micro.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	set := func(key, value string) {
		t.Helper()
		if code, _, stderr := runs(t.Context(), &cli{}, "config", "set", "--service", "shop", key, value, "--server", s.URL()); code != exitOK {
			t.Fatalf("exit %d: %s", code, stderr)
		}
	}
	for _, version := range []string{"1.0.0", "2.0.0", "1.0.0"} {
		set("client.canary", `{"`+version+`":100}`)
		bustest.Eventually(t, "all calls to go to "+version, func() bool {
			for range 8 {
				if got, err := micro.Call[string](t.Context(), client, "shop.version", ""); err != nil || got != version {
					return false
				}
			}
			return true
		})
	}
	set("client.timeout.total", "100ms")
	bustest.Eventually(t, "a call to be given up", func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		defer time.AfterFunc(2*time.Second, cancel).Stop()
		_, err := micro.Call[string](ctx, client, "shop.wait", "")
		return bus.CodeOf(err) == bus.DeadlineExceeded
	})
}

// serveVersion runs an instance of shop until the test ends, and returns when it takes requests.
func serveVersion(t *testing.T, conn *bus.Conn, version string) {
	t.Helper()
	started := make(chan struct{})
	svc, err := micro.NewService(conn, micro.Config{
		Name: "shop", Version: version, Drain: time.Millisecond, Hooks: micro.Hooks{Started: func() { close(started) }},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		micro.Handle(svc, "version", func(context.Context, string) (string, error) { return version, nil }),
		micro.Handle(svc, "wait", func(ctx context.Context, _ string) (string, error) {
			<-ctx.Done()
			return "", context.Cause(ctx)
		}),
	)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-started
}
