package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/skybus-io/skybus/bus/bustest"
)

func TestServerStopsInTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ports := filepath.Join(dir, "ports")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan int, 1)
	go func() {
		code, _, stderr := runs(ctx, &cli{}, "server", "--nats", "127.0.0.1:0", "--data", dir, "--ports-file", ports)
		t.Log(stderr)
		done <- code
	}()
	urls := waitPorts(t, ports)
	if code, _, stderr := runs(t.Context(), &connectCLI{}, "connect", "--dial", "-s", urls["nats"]); code != exitOK {
		t.Errorf("connect: exit %d, %s", code, stderr)
	}
	begin := time.Now()
	cancel()
	if code := <-done; code != exitOK {
		t.Errorf("exit %d", code)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

func TestConnectLogsIn(t *testing.T) { // not parallel: it sets variables
	s := bustest.Server(t, bustest.TCP(), bustest.Configure(func(o *server.Options) {
		o.Username, o.Password = "joe", "hunter2"
	}))
	t.Setenv("NATS_PASSWORD", "hunter2")
	t.Setenv("SKYBUS_NAMESPACE", "shop.prod")
	code, stdout, stderr := runs(t.Context(), &connectCLI{}, "connect", "--dial", "-s", s.URL(), "--user", "joe", "-o", "json")
	if code != exitOK || !strings.Contains(stdout, "shop.prod") {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	t.Setenv("NATS_PASSWORD", "wrong")
	code, _, stderr = runs(t.Context(), &connectCLI{}, "connect", "--dial", "-s", s.URL(), "--user", "joe", "-o", "json")
	if code != exitFailed || !strings.Contains(stderr, `"code": "unauthenticated"`) || !strings.Contains(stderr, `"hint"`) {
		t.Errorf("with a wrong password: exit %d, stderr %q", code, stderr)
	}
}

func TestConnectTakesTheTimeout(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	// A listener that never says anything.
	l := silentListener(t)
	code, _, stderr := runs(t.Context(), &connectCLI{}, "connect", "--dial", "-s", "nats://"+l, "--timeout", "100ms")
	if code != exitFailed || stderr == "" {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("took %v", took)
	}
}
