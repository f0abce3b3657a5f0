package bus_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// tlsDialer makes connections that have TLS already.
type tlsDialer struct{ *tls.Dialer }

var _ nats.CustomDialer = tlsDialer{}

func (tlsDialer) SkipTLSHandshake() bool { return true }

// A user's dialer may make connections that have TLS already, whose state nats.go tells.
func TestDialerWithTLS(t *testing.T) {
	t.Parallel()
	web := httptest.NewTLSServer(http.NotFoundHandler()) // has a certificate
	web.Close()
	transport, ok := web.Client().Transport.(*http.Transport)
	if !ok {
		t.Fatal("no transport")
	}
	client := transport.TLSClientConfig.Clone()
	client.ServerName = "example.com"
	s := bustest.Server(t, bustest.TCP(), bustest.Configure(func(o *server.Options) {
		o.TLSConfig = &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}
		o.TLSTimeout, o.TLSHandshakeFirst = 10, true
	}))
	c, err := bus.Connect(t.Context(), bus.Config{
		Server: strings.Replace(s.URL(), "nats://", "tls://", 1), Options: []nats.Option{nats.SetCustomDialer(tlsDialer{&tls.Dialer{Config: client}})},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if state, err := c.NATS().TLSConnectionState(); err != nil || !state.HandshakeComplete {
		t.Errorf("%+v, %v, want the state of TLS", state.HandshakeComplete, err)
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}
