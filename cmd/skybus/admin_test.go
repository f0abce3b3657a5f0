package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func startAdmin(t *testing.T, cfg adminConfig) (a *admin, stop func() error) {
	t.Helper()
	cfg.Addr = "127.0.0.1:0"
	a, err := newAdmin(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = func() error {
		cancel()
		err := <-done
		done <- err
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return a, stop
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	broken.Store(true)
	a, stop := startAdmin(t, adminConfig{Ready: map[string]func(context.Context) error{
		"good": func(context.Context) error { return nil },
		"nats": func(context.Context) error {
			if broken.Load() {
				return errors.New("connect nats://joe:hunter2@x: gone")
			}
			return nil
		},
	}})
	a.Handle("GET /metrics", http.NotFoundHandler())
	if code, body := get(t, a.URL()+"/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
	if code, body := get(t, a.URL()+"/readyz"); code != http.StatusServiceUnavailable || !strings.HasPrefix(body, "nats: ") || strings.Contains(body, "hunter2") {
		t.Errorf("/readyz while nats is broken: %d %q", code, body)
	}
	broken.Store(false)
	if code, body := get(t, a.URL()+"/readyz"); code != http.StatusOK || body != "ready\n" {
		t.Errorf("/readyz: %d %q", code, body)
	}
	if code, body := get(t, a.URL()+"/debug/vars"); code != http.StatusOK || !strings.Contains(body, `"memstats"`) || strings.Contains(body, "cmdline") {
		t.Errorf("/debug/vars: %d %.100q", code, body)
	}
	if code, body := get(t, a.URL()+"/debug/pprof/"); code != http.StatusOK || !strings.Contains(body, "goroutine") {
		t.Errorf("/debug/pprof/: %d %.100q", code, body)
	}
	if code, _ := get(t, a.URL()+"/debug/pprof/cmdline"); code != http.StatusNotFound {
		t.Errorf("/debug/pprof/cmdline: %d", code)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestAdminPortTaken(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if _, err := newAdmin(t.Context(), adminConfig{Addr: l.Addr().String()}); err == nil {
		t.Fatal("no error")
	}
}

func TestAdminStopsUnderARequest(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	a, stop := startAdmin(t, adminConfig{Ready: map[string]func(context.Context) error{
		"slow": func(ctx context.Context) error {
			close(entered)
			<-ctx.Done()
			return ctx.Err()
		},
	}})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL()+"/readyz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		answered <- err
	}()
	<-entered
	begin := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("stopping took %v", took)
	}
	if err := <-answered; err == nil {
		t.Error("the request was answered, want it cut off")
	}
}
