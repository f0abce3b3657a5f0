package tlsfiles_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/internal/tlsfiles"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue makes a certificate, signed by a or, where that is nil, by itself.
func issue(t testing.TB, a *authority, name string) (*authority, []byte, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: a == nil,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

func write(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// handshake returns the name in the server's certificate.
func handshake(t testing.TB, server *tls.Config, certs ...tls.Certificate) (string, error) {
	t.Helper()
	here, there := net.Pipe()
	defer func() { _ = here.Close() }()
	var serving sync.WaitGroup
	defer serving.Wait()
	defer func() { _ = there.Close() }()
	s := tls.Server(there, server)
	serving.Go(func() {
		if s.HandshakeContext(t.Context()) == nil {
			_, _ = s.Write([]byte{1})
		}
		_ = there.Close()
	})
	c := tls.Client(here, &tls.Config{InsecureSkipVerify: true, Certificates: certs})
	if err := c.HandshakeContext(t.Context()); err != nil {
		return "", err
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		return "", err
	}
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

// logged is a log that can be read meanwhile.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestConfigFollowsFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := tlsfiles.Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	_, cert, key := issue(t, nil, "first")
	write(t, f.Cert, cert)
	write(t, f.Key, key)
	var log logged
	cfg, err := f.Config(slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	name := func() string {
		name, err := handshake(t, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	if got := name(); got != "first" {
		t.Errorf("%q, want first", got)
	}
	// The certificate comes before its key: the old pair serves meanwhile.
	_, cert, key = issue(t, nil, "second")
	write(t, f.Cert, cert)
	bustest.Eventually(t, "a look at the files", func() bool {
		if got := name(); got != "first" {
			t.Errorf("%q with half a pair, want first", got)
		}
		return strings.Contains(log.String(), "cannot be used")
	})
	write(t, f.Key, key)
	bustest.Eventually(t, "the second certificate", func() bool { return name() == "second" })
	if err := os.Remove(f.Key); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "a look at the missing key", func() bool { return name() == "second" && strings.Count(log.String(), "cannot be used") == 2 })
}

func TestConfigAsksForCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := tlsfiles.Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), ClientCA: filepath.Join(dir, "ca.pem")}
	_, cert, key := issue(t, nil, "server")
	write(t, f.Cert, cert)
	write(t, f.Key, key)
	pair := func(a *authority) tls.Certificate {
		_, cert, key := issue(t, a, "client")
		p, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	good, root, _ := issue(t, nil, "good")
	bad, other, _ := issue(t, nil, "bad")
	write(t, f.ClientCA, root)
	cfg, err := f.Config(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	client, stranger := pair(good), pair(bad)
	if _, err := handshake(t, cfg, client); err != nil {
		t.Errorf("a client of the authority: %v", err)
	}
	for what, certs := range map[string][]tls.Certificate{"no certificate": nil, "another authority's": {stranger}} {
		if _, err := handshake(t, cfg, certs...); err == nil {
			t.Errorf("%s is let in", what)
		}
	}
	// Authorities are followed too.
	write(t, f.ClientCA, other)
	bustest.Eventually(t, "the other authority", func() bool {
		_, err := handshake(t, cfg, stranger)
		return err == nil
	})
	if _, err := handshake(t, cfg, client); err == nil {
		t.Error("a client of the authority before is let in")
	}
}

func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := tlsfiles.Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	_, cert, key := issue(t, nil, "server")
	write(t, good.Cert, cert)
	write(t, good.Key, key)
	empty := filepath.Join(dir, "empty.pem")
	write(t, empty, nil)
	for what, f := range map[string]tlsfiles.Files{
		"no such file":         {Cert: filepath.Join(dir, "none.pem"), Key: good.Key},
		"not a key":            {Cert: good.Cert, Key: good.Cert},
		"no certificate in it": {Cert: good.Cert, Key: good.Key, ClientCA: empty},
		"no such authority":    {Cert: good.Cert, Key: good.Key, ClientCA: filepath.Join(dir, "none.pem")},
	} {
		if _, err := f.Config(slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: error %v", what, err)
		}
	}
}

// A file that takes the place of another of the same size and time is another one.
func TestConfigSeesReplacedFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := tlsfiles.Files{Cert: filepath.Join(dir, "both.pem"), Key: filepath.Join(dir, "both.pem")}
	at := time.Now().Truncate(time.Second)
	replace := func(name string) {
		t.Helper()
		_, cert, key := issue(t, nil, name)
		both := append(cert, key...)
		next := f.Cert + ".next"
		write(t, next, append(both, bytes.Repeat([]byte{'\n'}, 4096-len(both))...))
		if err := os.Chtimes(next, at, at); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, f.Cert); err != nil {
			t.Fatal(err)
		}
	}
	replace("first")
	cfg, err := f.Config(nil)
	if err != nil {
		t.Fatal(err)
	}
	replace("second")
	bustest.Eventually(t, "the second certificate", func() bool {
		name, err := handshake(t, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return name == "second"
	})
}
