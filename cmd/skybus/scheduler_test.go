package main

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus/bustest"
)

// TestSchedulerOverTLS speaks TLS, and nothing else.
func TestSchedulerOverTLS(t *testing.T) {
	t.Parallel()
	cert, key, client := certificate(t)
	dir := t.TempDir()
	ports := filepath.Join(dir, "ports.json")
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	defer cancel()
	server := bustest.Server(t, bustest.TCP())
	done := make(chan string, 1)
	go func() {
		_, _, stderr := runs(ctx, &cli{}, "scheduler", "--server", server.URL(), "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0",
			"--tls-cert", cert, "--tls-key", key, "--ports-file", ports, "--log-file", filepath.Join(dir, "log"))
		done <- stderr
	}()
	url := waitPorts(t, ports)["timers"]
	if !strings.HasPrefix(url, "https://") {
		t.Errorf("the timers are at %q", url)
	}
	resp, body := fetchOver(t, client, http.MethodGet, url+"/v1/timers", "")
	if resp == nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 || !strings.HasPrefix(body, `{"timers":[]`) {
		t.Errorf("%+v %s", resp, body)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+strings.TrimPrefix(url, "https://")+"/v1/timers", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode < http.StatusBadRequest {
			t.Errorf("without TLS: %s", resp.Status)
		}
	}
	cancel()
	if stderr := <-done; stderr != "" {
		t.Errorf("it ended with %s", stderr)
	}
}
