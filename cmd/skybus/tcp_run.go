package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/tcp"
)

// tcpPart is a listener that a platform has.
type tcpPart struct {
	listener net.Listener
	server   *tcp.Server
	url      string
}

// listen takes the addresses, and reads the certificates, before anything is started.
func (s *tcpSetup) listen(ctx context.Context, app *App, p *platform) error {
	for i := range s.Listeners {
		l := &s.Listeners[i]
		scheme := "tcp"
		if l.Files.Cert != "" {
			var err error
			if l.TLS, err = l.Files.Config(app.log.With("component", "tcp", "listener", l.Name)); err != nil {
				return withHint(fmt.Errorf("listener %s: %w", l.Name, err), "tls names PEM files that belong together: cert, key and client_ca")
			}
			scheme = "tls"
		}
		bound, err := listenAt(ctx, l.Listen)
		if err != nil {
			return withHint(fmt.Errorf("listener %s: %w", l.Name, err), "listen: %s:0 picks a free port", loopbackHost)
		}
		p.onClose(bound.Close)
		if p.tcp == nil {
			p.tcp = map[string]*tcpPart{}
		}
		p.tcp[l.Name] = &tcpPart{listener: bound, url: scheme + strings.TrimPrefix(httpURL(bound), "http")}
	}
	return nil
}

// start serves the listeners that listen has taken, until the platform is closed. PublishPrefixes are to be among those of from.
func (s *tcpSetup) start(ctx context.Context, app *App, p *platform, from initiators.Sources) error {
	for i := range s.Listeners {
		l := &s.Listeners[i]
		target, err := from.Target(l.Target)
		if err != nil {
			return withHint(usagef("listener %s: %s", l.Name, message(err)), "--publish-prefix, or publish_prefixes of the file, allows others")
		}
		l.Logger = p.conn.Logger()
		part := p.tcp[l.Name]
		if part.server, err = tcp.New(target, l.Config); err != nil {
			return err
		}
		if l.Files.ClientCA == "" {
			warnOpen(app, "tcp "+l.Name, l.Listen)
		}
		p.take(ctx, cmp.Or(l.Drain, tcp.DefaultDrain), func(ctx context.Context) error { return part.server.Serve(ctx, part.listener) })
	}
	return nil
}

// tcpServers are those of the listeners, by name.
func (p *platform) tcpServers() map[string]*tcp.Server {
	all := map[string]*tcp.Server{}
	for name, part := range p.tcp {
		if part.server != nil {
			all[name] = part.server
		}
	}
	return all
}

// tcpStats are the figures of the listeners, by name.
func (p *platform) tcpStats() map[string]tcp.Stats {
	all := map[string]tcp.Stats{}
	for name, server := range p.tcpServers() {
		all[name] = server.Stats()
	}
	return all
}

// tcpURLs are the addresses of the listeners, by what a file of ports calls them: tcp_NAME.
func (p *platform) tcpURLs() map[string]string {
	all := map[string]string{}
	for name, part := range p.tcp {
		all["tcp_"+name] = part.url
	}
	return all
}

// tcpLines are the listeners for people.
func (p *platform) tcpLines() [][2]string {
	var lines [][2]string
	for _, name := range slices.Sorted(maps.Keys(p.tcp)) {
		lines = append(lines, [2]string{"TCP " + name, p.tcp[name].url})
	}
	return lines
}

// tcpText is the listeners for the log.
func (p *platform) tcpText() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(p.tcp)) {
		all = append(all, name+"="+p.tcp[name].url)
	}
	return strings.Join(all, " ")
}
