package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
)

// A file's certificates lie beside it; one listener speaks TLS, another asks for certificates, a third is plain. A stop answers what is in flight.
func TestTCPRun(t *testing.T) {
	t.Parallel()
	cert, key, trusting := certificate(t)
	tr, ok := trusting.Transport.(*http.Transport)
	if !ok {
		t.Fatalf("%T", trusting.Transport)
	}
	roots := tr.TLSClientConfig.RootCAs
	s := bustest.Server(t, bustest.TCP())
	dir := filepath.Dir(cert)
	file, ports := filepath.Join(dir, "tcp.yaml"), filepath.Join(dir, "ports")
	if err := os.WriteFile(file, fmt.Appendf(nil, `
listeners:
- {name: plain, listen: "127.0.0.1:0", target: {publish: default.dev.pub.a}}
- {name: safe, listen: "127.0.0.1:0", target: {publish: default.dev.pub.b}, tls: {cert: %[1]s, key: %[2]s}}
- {name: known, listen: "127.0.0.1:0", target: {publish: default.dev.pub.c}, tls: {cert: %[1]s, key: %[2]s, client_ca: %[1]s}}
`, filepath.Base(cert), filepath.Base(key)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stop := starts(t, "tcp", "-f", file, "--server", s.URL(), "--ports-file", ports)
	urls := waitPorts(t, ports)
	plain := func(network, addr string) (net.Conn, error) {
		return new(net.Dialer).DialContext(t.Context(), network, addr)
	}
	secure := func(network, addr string) (net.Conn, error) {
		d := tls.Dialer{Config: &tls.Config{RootCAs: roots}}
		return d.DialContext(t.Context(), network, addr)
	}
	if got, err := askLine(urls["tcp_plain"], plain); err != nil || got != `{"subject":"default.dev.pub.a"}`+"\n" {
		t.Errorf("plain at %s: %q, %v", urls["tcp_plain"], got, err)
	}
	if got, err := askLine(urls["tcp_safe"], secure); err != nil || got != `{"subject":"default.dev.pub.b"}`+"\n" || !strings.HasPrefix(urls["tcp_safe"], "tls://") {
		t.Errorf("TLS at %s: %q, %v", urls["tcp_safe"], got, err)
	}
	if got, err := askLine(urls["tcp_known"], secure); err == nil {
		t.Errorf("a client without a certificate was answered %q", got)
	}
	if code, stderr := stop(); code != exitOK || strings.Contains(stderr, "ERROR") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// askLine sends a line and returns the one that comes back.
func askLine(url string, dial func(network, addr string) (net.Conn, error)) (string, error) {
	_, addr, _ := strings.Cut(url, "://")
	c, err := dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(waitTimeout)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(c, `{"a":1}`); err != nil {
		return "", err
	}
	return bufio.NewReader(c).ReadString('\n')
}
