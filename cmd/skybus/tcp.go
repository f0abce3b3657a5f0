package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/tcp"
	"github.com/skybus-io/skybus/internal/tlsfiles"
	"github.com/skybus-io/skybus/micro"
)

type tcpCmd struct {
	File string `short:"f" help:"File with the listeners, in place of the flags for one." placeholder:"FILE" env:"SKYBUS_TCP_FILE"`
	Test bool   `short:"t" help:"Check the file and the flags, and stop." env:"-"`

	Listen  string            `help:"Where clients come in. Port 0 picks a free one." placeholder:"ADDR" env:"-"`
	Framing string            `help:"What a frame is: line, crlf (answers end with it too), prefix1, prefix2 or prefix4 (a length of so many bytes goes before, the highest first), prefix2-little, prefix4-little, or fixed:BYTES. Default: line." placeholder:"FRAMING" env:"-"`
	Call    string            `help:"Call this endpoint of a service with each frame." placeholder:"SERVICE.ENDPOINT" group:"frames" env:"-" xor:"frames"`
	Route   string            `help:"Run this route." placeholder:"NAME" group:"frames" env:"-" xor:"frames"`
	Publish string            `help:"Publish to this subject." placeholder:"SUBJECT" group:"frames" env:"-" xor:"frames"`
	Stream  string            `help:"Publish to this subject, and wait until a stream has stored it." placeholder:"SUBJECT" group:"frames" env:"-" xor:"frames"`
	Field   map[string]string `help:"Member of the JSON object that is sent in place of the frame, such as text={line} or version={=2}; may be repeated." placeholder:"NAME=TEMPLATE" mapsep:"none" group:"frames" env:"-"`
	OneWay  bool              `help:"Answer nothing." env:"-"`

	ContentType string        `help:"Type of what frames hold. Default: JSON where it is that, else bytes." placeholder:"TYPE" env:"-"`
	Errors      string        `help:"What an error frame holds: json, or a text with {code}, {status}, {message} and {id}. Default: json." placeholder:"FORM" env:"-"`
	MaxFrame    byteSize      `help:"Longest frame. Default: 64KiB." placeholder:"SIZE" env:"-"`
	Pipeline    int           `help:"How many frames of a connection may be without an answer; 1 sends each on after the answer to the one before. Default: 16." placeholder:"N" env:"-"`
	Timeout     time.Duration `name:"request-timeout" help:"How long a request may take. Default: 10s." placeholder:"DURATION" env:"-"`
	Idle        time.Duration `help:"How long a connection may be silent. Default: 5m." placeholder:"DURATION" env:"-"`
	Drain       time.Duration `help:"How long what is in flight may take when it is stopped. Default: 10s." placeholder:"DURATION" env:"-"`
	TLSCert     string        `name:"tls-cert" help:"Certificate, read again when it changes. With it TLS is spoken." placeholder:"FILE" env:"-"`
	TLSKey      string        `name:"tls-key" help:"Key of the certificate." placeholder:"FILE" env:"-"`
	TLSClientCA string        `name:"tls-client-ca" help:"Authorities of clients' certificates, which are asked for then." placeholder:"FILE" env:"-"`

	ProxyProtocol []string `help:"Address or network of balancers that say whose connection it is, by the PROXY protocol; may be repeated." placeholder:"NETWORK" env:"-"`

	PublishPrefix []string `help:"What subjects begin with that frames may be published to, besides what the file allows; may be repeated. Default: APP.ENV.pub." placeholder:"PREFIX"`

	partFlags
}

// Help is shown below the usage.
func (*tcpCmd) Help() string {
	return `Each frame that a client sends becomes one request, and its answer goes back as a frame, in order. What fails is answered with an error frame.
Run as many as you like behind a balancer.

Examples:

    skybus tcp --listen 127.0.0.1:9000 --call orders.create      # try: echo '{"item":"a"}' | nc -N 127.0.0.1 9000
    skybus tcp --listen :9000 --stream default.dev.pub.readings --field 'text={line}' --field 'from={remote}'
    skybus tcp --listen 0.0.0.0:9000 --framing prefix4 --route price --tls-cert cert.pem --tls-key key.pem
    skybus tcp -f tcp.yaml
    skybus tcp -f tcp.yaml --test`
}

// Validate finds the mistakes that need no look at the machine.
func (c *tcpCmd) Validate() error {
	if (c.File == "") == (c.Listen == "") {
		return errors.New("want one of -f FILE, and --listen ADDR with --call, --route, --publish or --stream")
	}
	return c.check()
}

func (*tcpCmd) daemon() {}

// flagListener is the name of the listener that flags make.
const flagListener = "tcp"

// setup is what the file, or the flags, say.
func (c *tcpCmd) setup(app *App) (*tcpSetup, error) {
	if c.File != "" {
		for _, flag := range []string{
			"framing", "call", "route", "publish", "stream", "field", "one-way", "content-type", "errors", "max-frame", "pipeline", "request-timeout", "idle", "drain",
			"tls-cert", "tls-key", "tls-client-ca", "proxy-protocol",
		} {
			if app.given[flag] {
				return nil, usagef("--%s goes with --listen; %s says it of each listener", flag, c.File)
			}
		}
		return readTCPFile(c.File)
	}
	s := &tcpSetup{Listeners: []tcpListener{{
		Listen: c.Listen, ErrorText: c.Errors, Files: tlsfiles.Files{Cert: c.TLSCert, Key: c.TLSKey, ClientCA: c.TLSClientCA},
		Target: initiators.Spec{Call: c.Call, Route: c.Route, Publish: c.Publish, Stream: c.Stream},
		Config: tcp.Config{
			Name: flagListener, OneWay: c.OneWay, ContentType: c.ContentType, MaxFrame: int(c.MaxFrame), Pipeline: c.Pipeline, Timeout: c.Timeout,
			IdleTimeout: c.Idle, Drain: c.Drain, ProxyProtocol: c.ProxyProtocol,
		},
	}}}
	if len(c.Field) > 0 {
		s.Listeners[0].Target.Request = &initiators.Mapping{Body: initiators.BodyNone, Fields: c.Field}
	}
	return s, c.complete(app, &s.Listeners[0])
}

// complete checks a listener that flags make.
func (c *tcpCmd) complete(app *App, l *tcpListener) (err error) {
	if err := checkAddr("--listen", c.Listen); err != nil {
		return usagef("%v", err)
	}
	if c.Framing != "" {
		if l.Framing, err = parseFraming(c.Framing); err != nil {
			return usagef("--framing %v", err)
		}
	}
	for name, d := range map[string]time.Duration{"request-timeout": c.Timeout, "idle": c.Idle, "drain": c.Drain} {
		if app.given[name] && d <= 0 {
			return usagef("--%s %v: want more than 0", name, d)
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") || c.TLSCert == "" && c.TLSClientCA != "" {
		return usagef("--tls-cert and --tls-key go together, and --tls-client-ca with them")
	}
	if err := l.Target.Validate(); err != nil {
		if bus.AsError(err).Details["field"] == "target" {
			return usagef("want one of --call, --route, --publish and --stream")
		}
		return usagef("--%s", message(err))
	}
	if err := l.complete(); err != nil {
		flags := map[string]string{"Framing": "framing", "Errors": "errors", "MaxFrame": "max-frame", "Pipeline": "pipeline", "ProxyProtocol": "proxy-protocol"}
		return usagef("--%s: %s", flags[bus.AsError(err).Details["field"]], tcpFieldText.ReplaceAllString(message(err), ""))
	}
	return nil
}

// Run runs the listeners until ctx ends.
func (c *tcpCmd) Run(ctx context.Context, app *App) error {
	s, err := c.setup(app)
	if err != nil {
		return err
	}
	for _, p := range c.PublishPrefix {
		s.PublishPrefixes = append(s.PublishPrefixes, subjectPrefix(p))
	}
	if c.Test {
		return s.report(app)
	}
	return c.run(ctx, app, part{
		name:   "tcp",
		listen: func(ctx context.Context, p *platform) error { return s.listen(ctx, app, p) },
		serve: func(ctx context.Context, p *platform) error {
			client, runner, err := p.startRunner(ctx, app, micro.ClientConfig{Name: "tcp"})
			if err != nil {
				return err
			}
			return s.start(ctx, app, p, p.sources(client, runner, s.PublishPrefixes))
		},
	})
}

// report says that nothing is wrong.
func (s *tcpSetup) report(app *App) error {
	type row struct {
		Name   string `json:"name"`
		Listen string `json:"listen"`
		Target string `json:"target"`
	}
	var all []row
	var lines [][]any
	for _, l := range s.Listeners {
		all = append(all, row{l.Name, l.Listen, l.Target.String()})
		lines = append(lines, []any{l.Name, fmt.Sprintf("%s  %s", l.Listen, l.Target)})
	}
	return printOne(app, all, lines)
}
