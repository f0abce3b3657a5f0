package http

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/httpx"
)

// Listener is a place where a gateway takes requests.
type Listener struct {
	// Name is one of Config.Listeners. Empty means the first one, which has also what is no entry.
	Name string
	// TLS is what the listener speaks, HTTP/2 too. Nil means plain HTTP/1.1. Its GetCertificate may return another certificate each time.
	TLS *tls.Config
	// Hosts are let in on a loopback address besides localhost and IP addresses, in lower case and without ports: those that a proxy on this
	// machine asks for.
	Hosts []string
}

// Serve is ServeListener for the first listener, without TLS.
func (g *Gateway) Serve(ctx context.Context, l net.Listener) error {
	return g.ServeListener(ctx, l, Listener{})
}

// ServeListener answers requests from l until ctx ends. On a loopback address it refuses requests (421) for other hosts than localhost,
// an IP address or at.Hosts: web pages of other sites would make them. When ctx has ended it closes l, answers for a moment what still
// comes on open connections, and finishes what is in flight. After Config.Drain it cuts that off, and returns an error.
func (g *Gateway) ServeListener(ctx context.Context, l net.Listener, at Listener) error {
	if at.Name != "" && !slices.Contains(g.cfg.Listeners, at.Name) {
		return bus.Errorf(bus.InvalidArgument, "gateway: listener %q: Config.Listeners has none of that name", at.Name)
	}
	srv := httpx.Server{
		Handler: g.Handler(at.Name), Timeout: g.cfg.Timeout, Drain: g.cfg.Drain, MaxConns: g.cfg.MaxConns, TLS: at.TLS, Hosts: at.Hosts, Logger: g.log,
	}
	if err := srv.Serve(ctx, l); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	return nil
}

// slack is what a deadline of writing leaves a slow client beyond the time that the request itself may take.
const slack = 30 * time.Second
