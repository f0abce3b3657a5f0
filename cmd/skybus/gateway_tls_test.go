package main

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestGatewayOverTLS speaks HTTP/2 to clients, as the first request of the demo does already.
func TestGatewayOverTLS(t *testing.T) {
	t.Parallel()
	cert, key, client := certificate(t)
	dir := t.TempDir()
	ports := filepath.Join(dir, "ports.json")
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	defer cancel()
	type end struct {
		code   int
		stderr string
	}
	done := make(chan end, 1)
	go func() {
		code, _, stderr := runs(ctx, &cli{}, upArgs("--demo", "--memory", "--http-tls-cert", cert, "--http-tls-key", key,
			"--ports-file", ports, "--log-file", filepath.Join(dir, "log"))...)
		done <- end{code, stderr}
	}()
	urls := waitPorts(t, ports)
	if !strings.HasPrefix(urls["http"], "https://") {
		t.Errorf("the gateway is at %q", urls["http"])
	}
	resp, body := fetchOver(t, client, http.MethodGet, urls["http"]+"/", "")
	if resp == nil || resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK || !strings.Contains(body, "<form") {
		t.Errorf("%+v %s", resp, body)
	}
	cancel()
	if e := <-done; e.code != exitOK || e.stderr != "" {
		t.Errorf("it ended with %d: %s", e.code, e.stderr)
	}
}
