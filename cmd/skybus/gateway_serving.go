package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/internal/tlsfiles"
)

// gatewayServing is how a gateway serves: where else, by what, and how much at a time.
type gatewayServing struct {
	Listener map[string]string `name:"http-listener" help:"A further listener, for the entries that name it; may be repeated. Port 0 picks a free one." placeholder:"NAME=ADDR" mapsep:"none"`
	TLSCert  string            `name:"http-tls-cert" help:"Certificate of the gateway's listeners, which then speak TLS and HTTP/2. It is read again when it changes." placeholder:"FILE"`
	TLSKey   string            `name:"http-tls-key" help:"Key of the certificate." placeholder:"FILE"`
	ClientCA string            `name:"http-client-ca" help:"Authorities of clients' certificates, which are verified where clients show one." placeholder:"FILE"`
	Host     []string          `name:"http-host" help:"Host that is let in on a loopback address, besides localhost and IP addresses, as a proxy on this machine asks for it; may be repeated." placeholder:"HOST"`

	AccessLog      bool     `help:"Log a line of each request to the gateway, at level info."`
	HTTPMaxBody    byteSize `name:"http-max-body" help:"Largest body of a request to the gateway, where its entry does not say. Default: 1,032,192 bytes." placeholder:"SIZE"`
	MaxInFlight    int      `name:"http-max-in-flight" help:"How many requests the gateway works on at a time. Default: 1024." placeholder:"N"`
	MaxConns       int      `name:"http-max-conns" help:"How many connections each listener of the gateway has at a time. Default: 32768." placeholder:"N"`
	MaxSubscribers int      `name:"http-max-subscribers" help:"How many clients are answered with events at a time. Default: 10000." placeholder:"N"`
}

// gatewayListeners are where a gateway takes requests.
type gatewayListeners struct {
	tls     *tls.Config // nil without
	further map[string]net.Listener
}

func (c *gatewayServing) checkServing() error {
	if (c.TLSCert == "") != (c.TLSKey == "") || c.ClientCA != "" && c.TLSCert == "" {
		return usagef("--http-tls-cert and --http-tls-key go together, and --http-client-ca with them")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Listener)) {
		if err := bus.CheckToken("--http-listener", name); err != nil {
			return usagef("%s", message(err))
		}
		if err := checkAddr("--http-listener "+name, c.Listener[name]); err != nil {
			return err
		}
	}
	for name, n := range map[string]int{"--http-max-in-flight": c.MaxInFlight, "--http-max-conns": c.MaxConns, "--http-max-subscribers": c.MaxSubscribers} {
		if n < 0 {
			return usagef("%s %d: want 1 or more", name, n)
		}
	}
	return nil
}

// listenFurther reads the certificates and takes the addresses of the further listeners.
func (c *gatewayServing) listenFurther(ctx context.Context, app *App, p *platform) error {
	p.gateway = &gatewayListeners{further: map[string]net.Listener{}}
	if c.TLSCert != "" {
		files := tlsfiles.Files{Cert: c.TLSCert, Key: c.TLSKey, ClientCA: c.ClientCA, ClientsOptional: true, Protocols: []string{"h2", "http/1.1"}}
		var err error
		if p.gateway.tls, err = files.Config(app.log.With("component", "gateway")); err != nil {
			return withHint(err, "--http-tls-cert, --http-tls-key and --http-client-ca name PEM files that belong together")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Listener)) {
		l, err := listen(ctx, "listener "+name, "--http-listener "+name+"=", c.Listener[name])
		if err != nil {
			return err
		}
		p.onClose(l.Close)
		p.gateway.further[name] = l
	}
	return nil
}

// adjust sets what the flags say.
func (c *gatewayServing) adjust(cfg *gateway.Config) {
	cfg.AccessLog, cfg.MaxBody, cfg.MaxSubscribers = c.AccessLog, int64(c.HTTPMaxBody), c.MaxSubscribers
	cfg.MaxInFlight, cfg.MaxConns = c.MaxInFlight, c.MaxConns
	cfg.Listeners = slices.Sorted(maps.Keys(c.Listener))
}

// serveAll serves all listeners of a gateway until the platform is closed.
func (c *gatewayServing) serveAll(ctx context.Context, app *App, p *platform, g *gateway.Gateway, drain time.Duration) {
	serve := func(name string, l net.Listener) {
		at := gateway.Listener{Name: name, TLS: p.gateway.tls, Hosts: lower(c.Host)}
		p.take(ctx, drain, func(ctx context.Context) error { return g.ServeListener(ctx, l, at) })
	}
	serve("", p.http)
	for name, l := range p.gateway.further {
		warnOpen(app, "gateway "+name, c.Listener[name])
		serve(name, l)
	}
}

// gatewayURLs are the addresses of a gateway's listeners, by what a file of ports calls them: http, http_NAME.
func (p *platform) gatewayURLs() map[string]string {
	urls := map[string]string{}
	if p.http == nil {
		return urls
	}
	g := cmp.Or(p.gateway, &gatewayListeners{})
	urls["http"] = schemeURL(p.http, g.tls != nil)
	for name, l := range g.further {
		urls["http_"+name] = schemeURL(l, g.tls != nil)
	}
	return urls
}

// gatewayText is the further listeners for people.
func (p *platform) gatewayText() string {
	var all []string
	urls := p.gatewayURLs()
	for _, name := range slices.Sorted(maps.Keys(urls)) {
		if further, ok := strings.CutPrefix(name, "http_"); ok {
			all = append(all, fmt.Sprintf("%s=%s", further, urls[name]))
		}
	}
	return strings.Join(all, " ")
}
