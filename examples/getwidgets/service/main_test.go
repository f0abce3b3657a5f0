package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/examples/getwidgets"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/config"
	"github.com/skybus-io/skybus/micro/registry"
)

func TestMain(m *testing.M) { bustest.Main(m, "github.com/skybus-io/skybus/") }

// lines is a writer that can be read meanwhile.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestRun(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t, bustest.TCP())
	ctx, cancel := context.WithCancel(t.Context())
	var stderr lines
	done := make(chan error, 1)
	record := filepath.Join(t.TempDir(), "record")
	args := []string{"--server", srv.URL(), "--instance", "one", "--record", record, "--namespace", "demo.test"}
	go func() { done <- run(ctx, args, &stderr) }()
	deadline := time.Now().Add(30 * time.Second)
	for strings.Count(stderr.String(), "serving") < len(getwidgets.Names()) {
		if time.Now().After(deadline) {
			t.Fatalf("not serving after 10 s:\n%s", stderr.String())
		}
		time.Sleep(time.Millisecond)
	}
	conn, err := bus.Connect(t.Context(), bus.Config{Server: srv.URL(), Namespace: "demo.test"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // fails only with the server
	client, err := micro.NewClient(t.Context(), conn, micro.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }() // has no error to tell
	for _, target := range []string{"log.write", "authorize.check", "getwidgets.get"} {
		if _, err := micro.Call[getwidgets.Response](t.Context(), client, target, getwidgets.Request{Input: "tea"}, micro.ToInstance("one")); err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	if text, err := os.ReadFile(record); err != nil || !strings.HasSuffix(string(text), " \"tea\"\n") {
		t.Errorf("record %q, %v", text, err)
	}
}

// The program obeys the live configuration: where it runs when it starts, whether it takes requests and what it logs at once.
func TestRunObeysConfiguration(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t, bustest.TCP())
	conn, err := bus.Connect(t.Context(), bus.Config{Server: srv.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // fails only with the server
	table, err := config.Table(t.Context(), conn, false)
	if err != nil {
		t.Fatal(err)
	}
	set := func(key, value string) {
		t.Helper()
		bucketKey, err := config.BucketKey(conn.Namespace(), config.Scope{Service: "log"}, key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := table.Put(t.Context(), bucketKey, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	set(config.Region, "north")
	set(config.Host, "h1")
	set(config.ServiceRegister, "false")
	ctx, cancel := context.WithCancel(t.Context())
	var stderr lines
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"--server", srv.URL(), "--name", "log", "--instance", "one"}, &stderr)
	}()
	client, err := micro.NewClient(t.Context(), conn, micro.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }() // has no error to tell
	becomes := func(state registry.State) {
		t.Helper()
		bustest.Eventually(t, "the instance to be "+string(state), func() bool {
			i := client.Registry().Service("log").Instance("one")
			return i != nil && i.State == state && i.Region == "north" && i.Host == "h1"
		})
	}
	becomes(registry.Unregistered)
	set(config.ServiceRegister, "true")
	becomes(registry.Online)
	set(config.ServiceRegister, "false")
	becomes(registry.Unregistered)
	if strings.Contains(stderr.String(), "level=DEBUG") {
		t.Errorf("it logged all at first: %s", stderr.String())
	}
	set(config.LogLevel, "debug")
	bustest.Eventually(t, "a line for debugging", func() bool {
		_, err := micro.Call[getwidgets.Response](t.Context(), client, "log.write", getwidgets.Request{Input: "tea"}, micro.ToInstance("one"))
		return err == nil && strings.Contains(stderr.String(), "level=DEBUG")
	})
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t, bustest.TCP())
	var stderr lines
	for name, tt := range map[string]struct {
		args []string
		says string
	}{
		"no such flag":    {[]string{"--colour", "red"}, "colour"},
		"no such service": {[]string{"--server", srv.URL(), "--name", "other"}, "log, authorize, getwidgets, all"},
		"bad instance":    {[]string{"--server", srv.URL(), "--instance", "a.b"}, "instance"},
		"bad namespace":   {[]string{"--namespace", "a"}, "namespace"},
		"no server":       {[]string{"--server", "nats://127.0.0.1:1"}, "nats://127.0.0.1:1"},
		"no file":         {[]string{"--server", srv.URL(), "--record", filepath.Join(t.TempDir(), "no", "file")}, "no such file"},
	} {
		if err := run(t.Context(), tt.args, &stderr); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: error %v, want one that says %q", name, err, tt.says)
		}
	}
	if err := run(t.Context(), []string{"--help"}, &stderr); err != nil || !strings.Contains(stderr.String(), "-instance") {
		t.Errorf("help: %v", err)
	}
}
