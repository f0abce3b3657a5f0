package main

import (
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

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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

// startMirror runs a mirror with a file until stop is called.
func startMirror(t *testing.T, text string, args ...string) (urls map[string]string, stop func() (code int, stderr string)) {
	t.Helper()
	s := bustest.Server(t, bustest.TCP())
	dir := t.TempDir()
	file, ports := filepath.Join(dir, "mirror.yaml"), filepath.Join(dir, "ports")
	if err := os.WriteFile(file, []byte("http: 127.0.0.1:0\nadmin: 127.0.0.1:0\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stop = starts(t, append([]string{"mirror", "run", "-f", file, "--server", s.URL(), "--ports-file", ports}, args...)...)
	return waitPorts(t, ports), stop
}

// fetchOver asks for url, as host says where that is not empty. The answer is nil after an error.
func fetchOver(t *testing.T, client *http.Client, method, url, host string) (resp *http.Response, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Error(err)
		return nil, ""
	}
	req.Host = host
	resp, err = client.Do(req)
	if err != nil {
		t.Error(err)
		return nil, ""
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp, string(data)
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
	cert, key, client := certificate(t)
	urls, stop := startMirror(t, "hosts: [App.example]\ntls: {cert: "+cert+", key: "+key+"}\nbackends: [{url: \""+app.URL+"\"}]\n")
	if !strings.HasPrefix(urls["mirror"], "https://") || !strings.HasPrefix(urls["mirror_admin"], "https://") {
		t.Fatalf("%v", urls)
	}
	if resp, body := fetchOver(t, client, http.MethodGet, urls["mirror"]+"/", "app.example"); resp == nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 || body != "app.example" {
		t.Errorf("%v %q", resp, body)
	}
	if resp, _ := fetchOver(t, client, http.MethodGet, urls["mirror"]+"/", "other.example"); resp == nil || resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("%v", resp)
	}
	if resp, body := fetchOver(t, client, http.MethodGet, urls["mirror_admin"]+"/nodes", ""); resp == nil || !strings.Contains(body, app.URL) {
		t.Errorf("%v %q", resp, body)
	}
	written := make(chan int, 1)
	go func() {
		code := 0
		if resp, _ := fetchOver(t, client, http.MethodPut, urls["mirror"]+"/a", ""); resp != nil {
			code = resp.StatusCode
		}
		written <- code
	}()
	<-asked
	time.AfterFunc(100*time.Millisecond, func() { close(answer) })
	if code, stderr := stop(); code != exitOK {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if code := <-written; code != http.StatusOK {
		t.Errorf("a write while the mirror was stopped: %d", code)
	}
}

// TestStoreSize: on a server that does not tell how large its store is, the streams of a part go by --store-size.
func TestStoreSize(t *testing.T) {
	t.Parallel()
	urls, _ := startMirror(t, "", "--store-size", "10GB")
	nc, err := nats.Connect(urls["nats"])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "SKYBUS_MIR")
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().Config.MaxBytes; got != 1.6e9 {
		t.Errorf("the stream of writes may have %d bytes, want 16 %% of 10 GB", got)
	}
}

// What the limits of the file allow the listener lets in.
func TestMirrorLongTarget(t *testing.T) {
	t.Parallel()
	app := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	app.Config.MaxHeaderBytes = 128 << 10
	app.Start()
	t.Cleanup(app.Close)
	urls, _ := startMirror(t, "limits: {max_target: 60KiB}\nbackends: [{url: \""+app.URL+"\"}]\n")
	for size, want := range map[int]int{59 << 10: http.StatusOK, 61 << 10: http.StatusRequestURITooLong} {
		if resp, body := fetchOver(t, http.DefaultClient, http.MethodGet, urls["mirror"]+"/"+strings.Repeat("x", size), ""); resp == nil || resp.StatusCode != want {
			t.Errorf("%d bytes: %v %q, want %d", size, resp, body, want)
		}
	}
}
