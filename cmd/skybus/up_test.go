package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/route"
)

const stopLimit = 2 * time.Second

// upArgs starts a platform on free ports.
func upArgs(more ...string) []string {
	return append([]string{"up", "--http", "127.0.0.1:0", "--timers", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--nats", "127.0.0.1:0"}, more...)
}

// waitPorts waits for a ports file.
func waitPorts(t *testing.T, file string) map[string]string {
	t.Helper()
	for deadline := time.Now().Add(waitTimeout); ; time.Sleep(5 * time.Millisecond) {
		data, err := os.ReadFile(file)
		if err == nil {
			var urls map[string]string
			if err := json.Unmarshal(data, &urls); err != nil {
				t.Fatalf("ports file %q: %v", data, err)
			}
			return urls
		}
		if time.Now().After(deadline) {
			t.Fatal("no ports file")
		}
	}
}

func TestUpStopsInTime(t *testing.T) {
	t.Parallel()
	ports := filepath.Join(t.TempDir(), "ports")
	_, stop := starts(t, upArgs("--demo", "--memory", "--ports-file", ports)...)
	urls := waitPorts(t, ports)
	// A browser's connection that was never used, and one that is kept alive.
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(urls["http"], "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	get(t, urls["http"]+"/")
	begin := time.Now()
	code, stderr := stop()
	if took := time.Since(begin); took > stopLimit || code != exitOK {
		t.Errorf("exit %d after %v, want 0 within %v: %s", code, took, stopLimit, stderr)
	}
	if _, err := os.Stat(ports); !os.IsNotExist(err) {
		t.Errorf("the ports file is still there: %v", err)
	}
	if dir := memoryDirOf(t, stderr); dir == "" {
		t.Errorf("no directory in %s", stderr)
	} else if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the memory directory is still there: %v", err)
	}
}

// memoryDirOf is where the log says that the data is.
func memoryDirOf(t *testing.T, log string) string {
	t.Helper()
	for line := range strings.Lines(log) {
		var record struct{ Data string }
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Errorf("log line %q: %v", line, err)
		}
		if record.Data != "" {
			return record.Data
		}
	}
	return ""
}

// TestUpStopsWithAHungRequest and without its server: what is cut off is a warning and no failure.
func TestUpStopsWithAHungRequest(t *testing.T) {
	t.Parallel()
	for _, gone := range []bool{false, true} {
		s := bustest.Server(t, bustest.TCP())
		nc := s.Connect(t)
		asked, err := nc.SubscribeSync("default.dev.svc.mute.answer")
		if err != nil {
			t.Fatal(err)
		}
		store, err := route.OpenStore(t.Context(), connectTo(t, s), route.StoreConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Put(t.Context(), "hang", route.Route{Steps: []route.Step{{Service: "mute", Endpoint: "answer"}}}, 0); err != nil {
			t.Fatal(err)
		}
		ports := filepath.Join(t.TempDir(), "ports")
		_, stop := starts(t, "up", "--demo", "--http", "127.0.0.1:0", "--timers", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--server", s.URL(), "--ports-file", ports)
		url := waitPorts(t, ports)["http"] + "/hang"
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		answered := make(chan struct{})
		go func() { // ends with the platform
			defer close(answered)
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_ = resp.Body.Close()
			}
		}()
		if _, err := asked.NextMsg(waitTimeout); err != nil {
			t.Fatal(err)
		}
		if gone {
			s.Stop()
		}
		begin := time.Now()
		code, stderr := stop()
		<-answered
		if took := time.Since(begin); took > stopLimit || code != exitOK || !strings.Contains(stderr, "stopped before all was finished") || strings.Contains(stderr, "hint: ") {
			t.Errorf("server gone %v: exit %d after %v, want 0 within %v: %s", gone, code, took, stopLimit, stderr)
		}
	}
}

// TestUpStopsWhileItStarts interrupts at moments that lie anywhere in a start. That is no failure, whatever was under way.
func TestUpStopsWhileItStarts(t *testing.T) {
	t.Parallel()
	for after := time.Duration(0); after < 120*time.Millisecond; after += 8 * time.Millisecond {
		ctx, cancel := context.WithCancel(t.Context())
		begin := make(chan time.Time, 1)
		time.AfterFunc(after, func() {
			begin <- time.Now()
			cancel()
		})
		code, _, stderr := runs(ctx, &cli{}, upArgs("--demo", "--memory", "--log-level", "error")...)
		if took := time.Since(<-begin); code != exitOK || stderr != "" || took > stopLimit {
			t.Errorf("interrupted after %v: exit %d after another %v, stderr %q", after, code, took, stderr)
		}
	}
}

func TestPlatformTellsOfAFailureOnce(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, tt := range []struct {
		name string
		part func(context.Context) error
		want string
	}{
		{"fails", func(context.Context) error { return broken }, "broken"},
		{"ends", func(context.Context) error { return nil }, "a part of the platform ended by itself"},
	} {
		conn := connectTo(t, bustest.Server(t))
		p := &platform{conn: conn, failed: make(chan error, 1)}
		var closed []string
		p.onClose(func() error { closed = append(closed, "first made"); return nil })
		p.run(t.Context(), tt.part)
		p.onClose(func() error { closed = append(closed, "last made"); return nil })
		err := errors.Join(p.wait(t.Context()), p.close(t.Context(), slog.New(slog.DiscardHandler)))
		if err == nil || err.Error() != tt.want {
			t.Errorf("a part that %s: %v, want %s", tt.name, err, tt.want)
		}
		if diff := cmp.Diff([]string{"last made", "first made"}, closed); diff != "" {
			t.Errorf("closed (-want +got):\n%s", diff)
		}
	}

	// A part that is stopped before it was done has not failed, one that cannot stop in order has.
	p := &platform{conn: connectTo(t, bustest.Server(t)), failed: make(chan error, 1)}
	p.run(t.Context(), func(ctx context.Context) error {
		<-ctx.Done()
		return fmt.Errorf("half way: %w", ctx.Err())
	})
	if err := p.close(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("stopped: %v", err)
	}
	p.run(t.Context(), func(ctx context.Context) error {
		<-ctx.Done()
		return broken
	})
	if err := p.close(t.Context(), slog.New(slog.DiscardHandler)); !errors.Is(err, broken) {
		t.Errorf("stopped with an error: %v", err)
	}

	// A connection that is closed for good ends the platform.
	if err := p.conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(t.Context()); err == nil || !strings.Contains(err.Error(), "closed for good") {
		t.Errorf("without a connection: %v", err)
	}
}

// connectTo makes a connection that is closed when the test ends.
func connectTo(t *testing.T, s *bustest.Node) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}
