package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
)

// certificateOf writes a certificate of that name, which signed itself, with its key, and returns a client that trusts no other.
func certificateOf(t *testing.T, name string) (cert, key string, client *http.Client) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return cert, key, &http.Client{Transport: transport}
}

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
	// A certificate that was renewed serves without a restart, and connections that there are go on.
	renewed, newKey, trusting := certificateOf(t, "renewed")
	for from, to := range map[string]string{renewed: cert, newKey: key} {
		data, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	bustest.Eventually(t, "the renewed certificate", func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, urls["http"]+"/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := trusting.Do(req)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.TLS.PeerCertificates[0].Subject.CommonName == "renewed"
	})
	if resp, _ := fetchOver(t, client, http.MethodGet, urls["http"]+"/", ""); resp == nil || resp.StatusCode != http.StatusOK {
		t.Errorf("by the connection from before: %+v", resp)
	}
	cancel()
	if e := <-done; e.code != exitOK || e.stderr != "" {
		t.Errorf("it ended with %d: %s", e.code, e.stderr)
	}
}
