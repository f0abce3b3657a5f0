package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/http/auth"
)

func serial(t *testing.T) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) client(t *testing.T, template x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore = serial(t), time.Now().Add(-time.Hour)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serve answers with who sends a request, over TLS that asks for certificates of a.
func (a authority) serve(t *testing.T, mode tls.ClientAuthType, cfg auth.MTLSConfig) *httptest.Server {
	t.Helper()
	g := openGuard(t, nil, auth.Config{MTLS: &cfg}, auth.Options{})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := g.Authorize(w.Header(), r, auth.Policy{Anonymous: true})
		if err != nil {
			http.Error(w, bus.AsError(err).Message, bus.AsError(err).HTTPStatus())
			return
		}
		fmt.Fprintf(w, "%s %s %q", p.Kind, p.ID, p.Scopes)
	}))
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	srv.TLS = &tls.Config{ClientAuth: mode, ClientCAs: pool}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

func ask(t *testing.T, srv *httptest.Server, certs ...tls.Certificate) (string, error) {
	t.Helper()
	client := *srv.Client()
	transport, ok := client.Transport.(*http.Transport)
	if !ok {
		t.Fatalf("transport %T", client.Transport)
	}
	transport = transport.Clone()
	transport.TLSClientConfig.Certificates = certs
	defer transport.CloseIdleConnections()
	client.Transport = transport
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	// What a proxy would tell of a certificate is not believed.
	req.Header.Set("X-Forwarded-Client-Cert", "Subject=\"CN=root\"")
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return fmt.Sprint(res.StatusCode, " ", strings.TrimSpace(string(text))), err
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	a, foreign := newAuthority(t), newAuthority(t)
	spiffe := &url.URL{Scheme: "spiffe", Host: "acme", Path: "/ns/shop/sa/billing"}
	billing := x509.Certificate{Subject: pkix.Name{CommonName: "billing"}, URIs: []*url.URL{spiffe}, DNSNames: []string{"billing.acme", "b.acme"}, EmailAddresses: []string{"b@acme"}}
	granted := map[string][]string{"billing": {"orders:read"}, spiffe.String(): {"orders:write"}}
	for _, tt := range []struct {
		name string
		cfg  auth.MTLSConfig
		cert x509.Certificate
		want string
	}{
		{"common name", auth.MTLSConfig{Scopes: []string{"all"}, Grants: granted}, billing, `200 certificate billing ["all" "orders:read"]`},
		{"URI", auth.MTLSConfig{Name: "uri", Grants: granted, Only: true}, billing, `200 certificate spiffe://acme/ns/shop/sa/billing ["orders:write"]`},
		{"email", auth.MTLSConfig{Name: "email"}, billing, `200 certificate b@acme []`},
		{"two DNS names", auth.MTLSConfig{Name: "dns"}, billing, "401 the credential is not valid"},
		{"one DNS name", auth.MTLSConfig{Name: "dns"}, x509.Certificate{DNSNames: []string{"x.acme"}}, "200 certificate x.acme []"},
		{"no URI", auth.MTLSConfig{Name: "uri"}, x509.Certificate{Subject: pkix.Name{CommonName: "x"}}, "401 the credential is not valid"},
		{"no common name", auth.MTLSConfig{}, x509.Certificate{DNSNames: []string{"x.acme"}}, "401 the credential is not valid"},
		{"line break in the name", auth.MTLSConfig{}, x509.Certificate{Subject: pkix.Name{CommonName: "a\r\nX: y"}}, "401 the credential is not valid"},
		{"not granted", auth.MTLSConfig{Grants: granted, Only: true}, x509.Certificate{Subject: pkix.Name{CommonName: "other"}}, "401 the credential is not valid"},
	} {
		srv := a.serve(t, tls.VerifyClientCertIfGiven, tt.cfg)
		if got, err := ask(t, srv, a.client(t, tt.cert)); err != nil || got != tt.want {
			t.Errorf("%s: %q, %v: want %q", tt.name, got, err, tt.want)
		}
	}

	srv := a.serve(t, tls.VerifyClientCertIfGiven, auth.MTLSConfig{})
	if got, err := ask(t, srv); err != nil || got != "200 anonymous  []" {
		t.Errorf("without a certificate: %q, %v", got, err)
	}
	expired := billing
	expired.NotAfter = time.Now().Add(-time.Minute)
	for name, cert := range map[string]tls.Certificate{"of another authority": foreign.client(t, billing), "expired": a.client(t, expired)} {
		if got, err := ask(t, srv, cert); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	// What TLS has not verified counts for nothing, though it was shown.
	lax := a.serve(t, tls.RequireAnyClientCert, auth.MTLSConfig{})
	if got, err := ask(t, lax, foreign.client(t, billing)); err != nil || got != "200 anonymous  []" {
		t.Errorf("a certificate that nobody verified: %q, %v", got, err)
	}
}

// A connection that outlives its certificate is refused.
func TestCertificateExpiresWhileConnected(t *testing.T) {
	t.Parallel()
	g := openGuard(t, nil, auth.Config{MTLS: &auth.MTLSConfig{}}, auth.Options{})
	for name, cert := range map[string]*x509.Certificate{
		"expired": {NotAfter: time.Now().Add(-time.Second)}, "not yet": {NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour)},
	} {
		cert.Subject.CommonName = "billing"
		r := request(t)
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
		if p, err := g.Authenticate(r); bus.CodeOf(err) != bus.Unauthenticated {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

// A wrong token is refused also beside a good certificate, and a good one counts before it.
func TestCertificateBesideToken(t *testing.T) {
	t.Parallel()
	k := keysOnce()
	g := openGuard(t, nil, auth.Config{MTLS: &auth.MTLSConfig{}, JWT: []auth.JWTConfig{tokenConfig(t, jwks(t, jwk(t, "", k.secret, nil)), "HS256")}}, auth.Options{})
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "billing"}, NotAfter: time.Now().Add(time.Hour)}
	with := func(r *http.Request) *http.Request {
		r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{cert}}}
		return r
	}
	for name, tt := range map[string]struct {
		r    *http.Request
		want auth.Kind
	}{
		"alone":       {request(t), auth.Certificate},
		"good token":  {bearer(t, sign(t, "HS256", k.secret, nil, claims(nil))), auth.Token},
		"wrong token": {bearer(t, sign(t, "none", nil, nil, claims(nil))), ""},
		"no token":    {bearer(t, "abc"), ""},
	} {
		p, err := g.Authenticate(with(tt.r))
		if tt.want == "" && bus.CodeOf(err) != bus.Unauthenticated || tt.want != "" && (err != nil || p.Kind != tt.want) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

// basic is an authenticator of a user's own.
type basic struct{}

func (basic) Authenticate(r *http.Request) (*auth.Principal, error) {
	user, password, ok := r.BasicAuth()
	if !ok {
		return nil, nil
	}
	if password != "right" {
		return nil, bus.Wrap(bus.Unauthenticated, "no", errors.New("wrong password"))
	}
	return &auth.Principal{Kind: "basic", ID: user}, nil
}

func TestAuthenticatorOfOnesOwn(t *testing.T) {
	t.Parallel()
	g := openGuard(t, nil, auth.Config{}, auth.Options{Extra: []auth.Authenticator{basic{}}})
	r := request(t)
	r.SetBasicAuth("ada", "right")
	if p, err := g.Authenticate(r); err != nil || p.Key() != "basic:ada" {
		t.Errorf("%+v, %v", p, err)
	}
	r.SetBasicAuth("ada", "wrong")
	if _, err := g.Authenticate(r); bus.CodeOf(err) != bus.Unauthenticated {
		t.Error(err)
	}
	if _, err := g.Authenticate(bearer(t, "abc")); bus.CodeOf(err) != bus.Unauthenticated {
		t.Error(err)
	}
	// Without any way to log in, Authorization is somebody else's.
	none := openGuard(t, nil, auth.Config{}, auth.Options{})
	if p, err := none.Authenticate(bearer(t, "abc")); err != nil || p.Kind != auth.Anonymous {
		t.Errorf("%+v, %v", p, err)
	}
}
