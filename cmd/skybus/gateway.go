package main

import (
	"context"
	"strings"
	"time"

	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// gatewayFlags are those of the gateway, alone or within the platform.
type gatewayFlags struct {
	HTTP          string   `name:"http" help:"Where the gateway listens. Port 0 picks a free one." default:"127.0.0.1:8080"`
	TrustedOrigin []string `help:"Web origins whose pages may post to the gateway, besides its own." placeholder:"ORIGIN"`
	NoCall        bool     `help:"No /v1/call and /v1/services: only entries and routes are reached."`
	Access        string   `help:"File that says who may use the gateway: API keys, tokens, certificates. Default: everybody may." placeholder:"FILE"`

	gatewayServing

	access         gatewayAccess  // that the file says
	platformAccess *gatewayAccess // that the platform's file says; nil for nothing
}

// listen takes the gateway's address, and checks what can be checked before anything is started.
func (c *gatewayFlags) listen(ctx context.Context, app *App, p *platform) (err error) {
	if err := c.checkGateway(); err != nil {
		return err
	}
	if c.Access == "" && c.platformAccess != nil {
		c.access = *c.platformAccess
	} else if c.access, err = readAccess(c.Access); err != nil {
		return err
	}
	if p.http, err = listen(ctx, "gateway", "--http", c.HTTP); err != nil {
		return err
	}
	p.onClose(p.http.Close)
	return c.listenFurther(ctx, app, p)
}

// checkGateway finds the mistakes that need no look at the machine.
func (c *gatewayFlags) checkGateway() error {
	if _, err := gateway.New(nil, gateway.Config{TrustedOrigins: c.TrustedOrigin}); err != nil {
		return usagef("--trusted-origin: %s", strings.TrimPrefix(message(err), "gateway: TrustedOrigins: "))
	}
	return c.checkServing()
}

// serve starts the gateway at the platform's listener. Entries publish on subjects that begin with one of prefixes.
func (c *gatewayFlags) serve(ctx context.Context, app *App, p *platform, runner *route.Runner, prefixes []string, cfg gateway.Config) error {
	cfg.TrustedOrigins, cfg.Logger = c.TrustedOrigin, p.conn.Logger()
	cfg.Call.Off = c.NoCall
	c.adjust(&cfg)
	open, cancel := app.toStart(ctx)
	defer cancel()
	if err := c.admit(open, p, &cfg); err != nil {
		return err
	}
	g, err := gateway.Open(open, p.sources(p.client, runner, prefixes), cfg)
	if err != nil {
		return err
	}
	p.onClose(g.Close)
	p.figures = append(p.figures, g.WriteMetrics)
	c.serveAll(ctx, app, p, g, cfg.Drain)
	return nil
}

type gatewayCmd struct {
	gatewayFlags
	partFlags

	Timeout       time.Duration `name:"request-timeout" help:"How long a request may take once its body is read." default:"10s"`
	PublishPrefix []string      `help:"What subjects begin with that entries may publish to; may be repeated. Default: APP.ENV.pub." placeholder:"PREFIX"`
	Drain         time.Duration `help:"How long what is in flight may take when the gateway is stopped." default:"10s"`
}

// Help is shown below the usage.
func (*gatewayCmd) Help() string {
	return `It does with a request what the entry says that matches it (` + "`skybus http`" + `), or runs the route that its path names. Asynchronous steps
are stored; ` + "`skybus router`" + ` does them. Run as many as you like behind a balancer.

Examples:

    skybus gateway --http 0.0.0.0:8080 --server nats://nats.example.org:4222
    skybus gateway --trusted-origin https://app.example.org --admin 127.0.0.1:8081
    skybus gateway --http 0.0.0.0:443 --http-tls-cert cert.pem --http-tls-key key.pem --http-listener inner=127.0.0.1:8090
    skybus gateway --access access.yaml --no-call --access-log`
}

// Validate finds the mistakes that need no look at the machine.
func (c *gatewayCmd) Validate() error {
	if c.Timeout <= 0 || c.Drain <= 0 {
		return usagef("--request-timeout %v, --drain %v: want more than 0", c.Timeout, c.Drain)
	}
	if err := checkAddr("--http", c.HTTP); err != nil {
		return err
	}
	if err := c.checkGateway(); err != nil {
		return err
	}
	return c.check()
}

func (*gatewayCmd) daemon() {}

// Run runs the gateway until ctx ends.
func (c *gatewayCmd) Run(ctx context.Context, app *App) error {
	return c.run(ctx, app, part{name: "gateway", listen: func(ctx context.Context, p *platform) error {
		return c.listen(ctx, app, p)
	}, serve: func(ctx context.Context, p *platform) error {
		_, runner, err := p.startRunner(ctx, app, micro.ClientConfig{Name: "gateway"})
		if err != nil {
			return err
		}
		warnOpenAPI(app, "gateway", c.HTTP, !c.access.none(), c.TLSCert != "")
		prefixes := (&guardFlags{PublishPrefix: c.PublishPrefix}).prefixes()
		return c.serve(ctx, app, p, runner, prefixes, gateway.Config{Timeout: c.Timeout, Drain: c.Drain})
	}})
}
