package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
)

// certificate writes one for 127.0.0.1 and its key to files, and makes a client that trusts it.
func certificate(t *testing.T) (cert, key string, client *http.Client) {
	t.Helper()
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	pair := srv.TLS.Certificates[0]
	secret, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tr, _ := srv.Client().Transport.(*http.Transport)
	tr = tr.Clone()
	tr.ForceAttemptHTTP2 = true
	t.Cleanup(tr.CloseIdleConnections)
	return cert, key, &http.Client{Transport: tr}
}

// TestMirrorOverTLS speaks HTTP/2 to clients; when it is stopped it finishes what it was asked.
func TestMirrorOverTLS(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			asked <- struct{}{}
			<-answer
		}
		_, _ = io.WriteString(w, r.Host)
	}))
	t.Cleanup(app.Close)
	s := bustest.Server(t, bustest.TCP())
	cert, key, client := certificate(t)
	dir := t.TempDir()
	file, ports := filepath.Join(dir, "mirror.yaml"), filepath.Join(dir, "ports")
	text := "http: 127.0.0.1:0\nadmin: 127.0.0.1:0\nhosts: [App.example]\ntls: {cert: " + cert + ", key: " + key + "}\nbackends: [{url: \"" + app.URL + "\"}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type result struct {
		code   int
		stderr string
	}
	done := make(chan result, 1)
	go func() {
		code, _, stderr := runs(ctx, &cli{}, "mirror", "run", "-f", file, "--server", s.URL(), "--ports-file", ports)
		done <- result{code, stderr}
	}()
	urls := waitPorts(t, ports)
	if !strings.HasPrefix(urls["mirror"], "https://") || !strings.HasPrefix(urls["mirror_admin"], "https://") {
		t.Fatalf("%v", urls)
	}
	do := func(method, url, host string) (*http.Response, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		if err != nil {
			t.Error(err)
			return nil, ""
		}
		req.Host = host
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return nil, ""
		}
		defer func() { _ = resp.Body.Close() }() // it was read
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		return resp, string(body)
	}
	if resp, body := do(http.MethodGet, urls["mirror"]+"/", "app.example"); resp == nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 || body != "app.example" {
		t.Errorf("%v %q", resp, body)
	}
	if resp, _ := do(http.MethodGet, urls["mirror"]+"/", "other.example"); resp == nil || resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("%v", resp)
	}
	if resp, body := do(http.MethodGet, urls["mirror_admin"]+"/nodes", ""); resp == nil || !strings.Contains(body, app.URL) {
		t.Errorf("%v %q", resp, body)
	}
	written := make(chan int, 1)
	go func() {
		code := 0
		if resp, _ := do(http.MethodPut, urls["mirror"]+"/a", ""); resp != nil {
			code = resp.StatusCode
		}
		written <- code
	}()
	<-asked
	cancel()
	time.AfterFunc(100*time.Millisecond, func() { close(answer) })
	if code := <-written; code != http.StatusOK {
		t.Errorf("a write while the mirror was stopped: %d", code)
	}
	if r := <-done; r.code != exitOK {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}
