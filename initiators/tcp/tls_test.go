package tcp_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/tcp"
	"github.com/skybus-io/skybus/internal/tlsfiles"
)

// issue writes a certificate that signed itself, and its key.
func issue(t testing.TB, name, certFile, keyFile string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	for file, data := range map[string][]byte{certFile: certPEM, keyFile: keyPEM} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// dialTLS returns the connection and the name in the server's certificate.
func (s *served) dialTLS(t testing.TB, certs ...tls.Certificate) (*client, string) {
	t.Helper()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, Certificates: certs}}
	c, err := d.DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, c), c.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
}

// A server with TLS answers as one without, follows its files, and asks for certificates where it is told to.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := tlsfiles.Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), ClientCA: filepath.Join(dir, "ca.pem")}
	issue(t, "first", files.Cert, files.Key)
	pair := issue(t, "client", files.ClientCA, filepath.Join(dir, "client-key.pem"))
	stranger := issue(t, "stranger", filepath.Join(dir, "stranger.pem"), filepath.Join(dir, "stranger-key.pem"))
	cfg, err := files.Config(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	g := newGate()
	s := serve(t, g, tcp.Config{TLS: cfg})
	c, name := s.dialTLS(t, pair)
	c.write("a\nb\n")
	bustest.Receive(t, "a request", g.waiting)
	bustest.Receive(t, "a request", g.waiting)
	if err := c.Conn.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	close(g.open)
	if got := c.rest(); got != "a\nb\n" || name != "first" {
		t.Errorf("%q from %s", got, name)
	}
	issue(t, "second", files.Cert, files.Key)
	bustest.Eventually(t, "the second certificate", func() bool {
		c, name := s.dialTLS(t, pair)
		_ = c.Close()
		return name == "second"
	})

	before := s.refused(tcp.ReasonHandshake)
	for _, certs := range [][]tls.Certificate{nil, {stranger}} {
		c, _ := s.dialTLS(t, certs...) // which learns of it after its own handshake
		if _, err := c.r.ReadByte(); err == nil {
			t.Error("a client without a certificate of the authority was let in")
		}
	}
	plain := s.dial(t)
	plain.write("a\n" + strings.Repeat("x", 100))
	_, _ = io.Copy(io.Discard, plain.Conn)
	bustest.Eventually(t, "the handshakes that failed", func() bool { return s.refused(tcp.ReasonHandshake) >= before+3 && s.Stats().Connections == 0 })
}

// With TLS, too, who is refused is told why, and a stop loses no answer.
func TestTLSLimits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := tlsfiles.Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	issue(t, "server", files.Cert, files.Key)
	cfg, err := files.Config(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, target(echo), tcp.Config{TLS: cfg, MaxConns: 2, MaxFrame: 100})
	first, _ := s.dialTLS(t)
	second, _ := s.dialTLS(t)
	for _, c := range []*client{first, second} {
		c.write("c\n")
		if got := c.line(); got != "c" {
			t.Fatalf("%q", got)
		}
	}
	out, _ := s.dialTLS(t)
	if f := parseFailure(t, out.rest()); f.Code != bus.Unavailable {
		t.Errorf("%+v", f)
	}
	second.write(strings.Repeat("x", 1000))
	if f := parseFailure(t, second.rest()); f.Code != bus.ResourceExhausted {
		t.Errorf("%+v", f)
	}
	s.stop()
	if err := bustest.Receive(t, "the end of Serve", s.done); err != nil {
		t.Error(err)
	}
	if got := first.rest(); got != "" {
		t.Errorf("%q", got)
	}
}

// The name in a client's certificate is a value of its requests.
func TestClientName(t *testing.T) {
	t.Parallel()
	cfg, own, pair := mutual(t)
	s := serve(t, naming{}, tcp.Config{TLS: cfg})
	c, _ := s.dialTLS(t, pair)
	c.write("a\n")
	if got := c.line(); got != "sensor-7" {
		t.Errorf("%q", got)
	}
	// Of a certificate that nobody verifies the client has written the name itself.
	s = serve(t, naming{}, tcp.Config{TLS: &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert}})
	c, _ = s.dialTLS(t, pair)
	c.write("a\n")
	if got := c.line(); got != "" {
		t.Errorf("of a certificate that was not verified the name is %q", got)
	}
}

// naming answers with the name of the client.
type naming struct{}

func (naming) Send(_ context.Context, req initiators.Request) (initiators.Reply, error) {
	name, _ := req.Values("tls.cn")
	return initiators.Reply{Body: []byte(name)}, nil
}

// mutual is what a server has that verifies certificates, its own, and the one of the client sensor-7.
func mutual(t *testing.T) (cfg *tls.Config, own, sensor tls.Certificate) {
	t.Helper()
	dir := t.TempDir()
	files := tlsfiles.Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), ClientCA: filepath.Join(dir, "ca.pem")}
	own = issue(t, "server", files.Cert, files.Key)
	sensor = issue(t, "sensor-7", files.ClientCA, filepath.Join(dir, "client-key.pem"))
	cfg, err := files.Config(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return cfg, own, sensor
}
