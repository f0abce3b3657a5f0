package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/tlsfiles"
	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

const (
	noListener        = "off"
	skyringMaxTimeout = 1<<31 - 1 // milliseconds
)

// timersFlags are those of the scheduler and its HTTP API, alone or within the platform.
type timersFlags struct {
	guardFlags

	Transport []string `help:"Transport of your own: targets with this name are handed, as requests, to who listens to the subject." placeholder:"NAME=subject:SUBJECT" group:"guard"`

	TokenFile         string   `help:"File with the bearer tokens that the timers API takes, one a line. Default: it asks nobody who they are." placeholder:"FILE"`
	MaxBody           byteSize `help:"Largest body of a request to the timers API, or line of a stream of timers." default:"1MiB"`
	SkyringMaxTimeout int64    `help:"Longest timeout that /timer takes, in milliseconds; 0 lifts the limit, which was Skyring's." default:"2147483647"`
}

// check finds the mistakes that need no look at the machine.
func (c *timersFlags) check() error {
	if c.SkyringMaxTimeout < 0 || c.SkyringMaxTimeout > int64(maxDuration/time.Millisecond) {
		return fmt.Errorf("--skyring-max-timeout %d: want 0 or more milliseconds", c.SkyringMaxTimeout)
	}
	_, err := c.transports()
	return err
}

const maxDuration = time.Duration(1<<63 - 1)

// transports are the subjects of the transports, by name.
func (c *timersFlags) transports() (map[string]string, error) {
	subjects := map[string]string{}
	for _, t := range c.Transport {
		name, rest, _ := strings.Cut(t, "=")
		subject, ok := strings.CutPrefix(rest, "subject:")
		if !ok || subject == "" {
			return nil, fmt.Errorf("--transport %.80q: want NAME=subject:SUBJECT", t)
		}
		if err := bus.CheckToken("--transport", name); err != nil {
			return nil, errors.New(message(err))
		}
		if _, taken := subjects[name]; taken {
			return nil, fmt.Errorf("--transport %s is there twice", name)
		}
		subjects[name] = subject
	}
	return subjects, nil
}

// api is the configuration of the HTTP API.
func (c *timersFlags) api(app *App) (httpapi.Config, error) {
	cfg := httpapi.Config{MaxBody: int64(c.MaxBody), SkyringMaxTimeout: time.Duration(c.SkyringMaxTimeout) * time.Millisecond, Logger: app.log}
	if c.SkyringMaxTimeout == 0 {
		cfg.SkyringMaxTimeout = -1
	}
	var err error
	cfg.Tokens, err = readTokens(c.TokenFile)
	return cfg, err
}

// startTimers opens the timers, fires and delivers them until the platform is closed. cfg needs only what the flags do not say.
func (c *timersFlags) startTimers(ctx context.Context, app *App, p *platform, cfg scheduler.Config) error {
	subjects, err := c.transports()
	if err != nil {
		return usagef("%s", err.Error())
	}
	cfg.AllowPorts, cfg.Publish, cfg.Logger = c.AllowPort, c.prefixes(), p.conn.Logger()
	cfg.Transports = map[string]scheduler.Transport{}
	for name, subject := range subjects {
		if cfg.Transports[name], err = scheduler.SubjectTransport(p.conn, subject); err != nil {
			return usagef("--transport %s: %s", name, message(err))
		}
	}
	open, cancel := app.toStart(ctx)
	defer cancel()
	if p.timers, err = scheduler.Open(open, p.conn, cfg); err != nil {
		return timersFlagError(err)
	}
	p.onClose(p.timers.Close)
	p.run(ctx, p.timers.Run)
	return nil
}

// timersFlagError is an error of scheduler.Open with the flag in place of the field that it is about.
func timersFlagError(err error) error {
	e, ok := errors.AsType[*bus.Error](err)
	if !ok {
		return err
	}
	flags := map[string]string{"Config.Publish": "--publish-prefix", "Config.Transports": "--transport"}
	field := e.Details["field"]
	if flag, ok := flags[field]; ok {
		return usagef("%s: %s", flag, strings.TrimPrefix(message(e), field+": "))
	}
	return err
}

type schedulerCmd struct {
	HTTP    string `name:"http" help:"Where the timers API listens; port 0 picks a free one, off is nowhere." default:"127.0.0.1:3000"`
	TLSCert string `name:"tls-cert" help:"Certificate of the timers API, which then speaks TLS. It is read again when it changes." placeholder:"FILE"`
	TLSKey  string `name:"tls-key" help:"Key of the certificate." placeholder:"FILE"`

	timersFlags
	partFlags

	Shards         int           `help:"How many streams the timers are spread over, 1 to 64, where there are none yet: the first scheduler decides for good; 4 unless given, 2 on a cluster." placeholder:"N"`
	Compress       bool          `help:"Compress the streams of timers, where there are none yet: 220 bytes of disk each instead of 550, while those of a burst fire later (at 10,000 a second 99 % within 14 ms instead of 3)."`
	Grace          time.Duration `help:"How late the NATS server itself fires what no scheduler has; the same for all." default:"1s"`
	Workers        int           `help:"How many deliveries are made at a time." default:"256"`
	PerDestination int           `help:"How many of them go to one destination, at most half: host and port, subject or service." default:"32"`
	Drain          time.Duration `help:"How long deliveries and requests may take to finish when it is stopped." default:"10s"`
}

// Help is shown below the usage.
func (*schedulerCmd) Help() string {
	return `It fires and delivers the timers of its namespace, together with all others that do: run as many as you like, start and kill them as
you like. On its listener are Skyring's API at /timer, and more at /v1/timers: /v1/openapi.json describes both.

Timers call public addresses only, by http and tcp, unless --allow-network says otherwise.

Examples:

    skybus scheduler --server nats://nats.example.org:4222
    skybus scheduler --http 0.0.0.0:3000 --token-file tokens --tls-cert cert.pem --tls-key key.pem
    skybus scheduler --http off --allow-network 10.1.0.0/16 --publish-prefix shop.prod.pub.,orders.
    skybus scheduler --transport sms=subject:sms.send    # then: skybus timers create --transport sms --to +15550100 ...`
}

// Validate finds the mistakes that need no look at the machine.
func (c *schedulerCmd) Validate() error {
	if c.listens() {
		if err := checkAddr("--http", c.HTTP); err != nil {
			return err
		}
	}
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return errors.New("--tls-cert and --tls-key go together")
	case c.Shards < 0 || c.Shards > scheduler.MaxShards:
		return fmt.Errorf("--shards %d: want 1 to %d", c.Shards, scheduler.MaxShards)
	case c.Grace < 100*time.Millisecond || c.Grace > time.Minute:
		return fmt.Errorf("--grace %v: want 100ms to 1m", c.Grace)
	case c.Workers < 1 || c.PerDestination < 1:
		return fmt.Errorf("--workers %d, --per-destination %d: want 1 or more", c.Workers, c.PerDestination)
	case c.Drain <= 0:
		return fmt.Errorf("--drain %v: want more than 0", c.Drain)
	}
	return errors.Join(c.timersFlags.check(), c.partFlags.check())
}

func (c *schedulerCmd) listens() bool { return c.HTTP != "" && c.HTTP != noListener }

func (*schedulerCmd) daemon() {}

// Run runs the scheduler until ctx ends.
func (c *schedulerCmd) Run(ctx context.Context, app *App) error {
	api, err := c.api(app)
	if err != nil {
		return err
	}
	api.Drain = c.Drain
	if api.TLS, err = loadTLS(app.log.With("component", "timers"), c.TLSCert, c.TLSKey); err != nil {
		return err
	}
	var l net.Listener
	return c.run(ctx, app, part{
		name:  "scheduler",
		drain: c.Drain,
		listen: func(ctx context.Context, p *platform) (err error) {
			if !c.listens() {
				return nil
			}
			if l, err = listen(ctx, "timers", "--http", c.HTTP); err != nil {
				return err
			}
			p.onClose(l.Close)
			p.timersURL = schemeURL(l, api.TLS != nil)
			return nil
		},
		serve: func(ctx context.Context, p *platform) error {
			cfg := scheduler.Config{
				Shards: c.Shards, Compress: c.Compress, Grace: c.Grace, Workers: c.Workers, PerDestination: c.PerDestination, Drain: c.Drain, AllowNetworks: c.networks(false),
			}
			if err := c.startTimers(ctx, app, p, cfg); err != nil || l == nil {
				return err
			}
			warnOpenAPI(app, "timers", c.HTTP, len(api.Tokens) > 0, api.TLS != nil)
			return p.serveTimers(ctx, l, api)
		},
	})
}

// loadTLS is what a listener for HTTP speaks, by files that it follows; nil where there is no certificate.
func loadTLS(log *slog.Logger, cert, key string) (*tls.Config, error) {
	if cert == "" {
		return nil, nil
	}
	cfg, err := tlsfiles.Files{Cert: cert, Key: key, Protocols: []string{"h2", "http/1.1"}}.Config(log)
	if err != nil {
		return nil, withHint(fmt.Errorf("certificate: %w", err), "--tls-cert and --tls-key name PEM files that belong together")
	}
	return cfg, nil
}

// serveTimers serves the HTTP API until the platform is closed.
func (p *platform) serveTimers(ctx context.Context, l net.Listener, cfg httpapi.Config) error {
	h, err := httpapi.New(p.timers, cfg)
	if err != nil {
		return err
	}
	p.timersAPI = h
	p.take(ctx, cfg.Drain, func(ctx context.Context) error { return h.Serve(ctx, l) })
	return nil
}

// schemeURL is where this machine reaches l, with TLS or without.
func schemeURL(l net.Listener, encrypted bool) string {
	url := httpURL(l)
	if encrypted {
		url = "https" + strings.TrimPrefix(url, "http")
	}
	return url
}

// warnOpenAPI warns of a listener that other machines reach without a login, or with one that others can read on its way.
func warnOpenAPI(app *App, what, addr string, login, encrypted bool) {
	host, _, err := net.SplitHostPort(addr)
	switch {
	case err != nil || loopback(host):
	case !login:
		warnOpen(app, what, addr)
	case !encrypted:
		app.log.Warn("tokens come over the network unencrypted", "listener", what, "address", addr)
	}
}
