package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

type routerCmd struct {
	Instance    string    `help:"Id of the router's instance. Default: a random one." placeholder:"ID"`
	Region      string    `help:"Region that it tells of itself." placeholder:"REGION"`
	DeadLetters string    `help:"What to do with a step that is given up when there is no room for it: keep it in its queue, or drop-oldest of those given up before." enum:"keep,drop-oldest" default:"keep"`
	Admin       string    `help:"Where the admin pages listen. Port 0 picks a free one. Default: nowhere." placeholder:"ADDR"`
	PortsFile   portsFile `help:"File to write the addresses to, as JSON, once the router serves." placeholder:"FILE"`
}

// Help is shown below the usage.
func (*routerCmd) Help() string {
	return `It serves each route as the endpoint of its name of the service "route", and does asynchronous steps. Run as many as you like.

Examples:

    skybus router --server nats://nats.example.org:4222
    skybus call route.getwidgets '{"input":"x"}'`
}

// Validate finds the mistakes that need no look at the machine.
func (c *routerCmd) Validate() error {
	if c.Admin == "" {
		return nil
	}
	return checkAddr("--admin", c.Admin)
}

func (*routerCmd) daemon() {}

// Run runs the router until ctx ends.
func (c *routerCmd) Run(ctx context.Context, app *App) error {
	if _, err := app.namespace(); err != nil {
		return err
	}
	if err := c.PortsFile.prepare(); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	p, err := c.start(ctx, app, func() { stop(errors.New("the router was told to stop")) })
	if err == nil {
		err = c.ready(ctx, app, p)
	}
	if err == nil {
		err = p.wait(ctx)
		app.log.InfoContext(ctx, "stopping", "cause", cause(ctx, err))
	}
	c.PortsFile.remove()
	if err = errors.Join(unlessStopped(ctx, err), p.close(ctx, app.log)); err != nil {
		return err
	}
	app.log.InfoContext(ctx, "stopped")
	return nil
}

// start starts everything and returns when it serves. On an error close still has to be called.
func (c *routerCmd) start(ctx context.Context, app *App, told func()) (*platform, error) {
	p := &platform{failed: make(chan error, 1)}
	var err error
	if c.Admin != "" {
		if p.admin, err = newAdmin(ctx, adminConfig{Addr: c.Admin, Logger: app.log, Ready: map[string]func(context.Context) error{
			"nats": p.natsReady,
		}}); err != nil {
			return p, err
		}
		p.onClose(p.admin.Close)
	}
	if p.conn, err = app.Connect(ctx); err != nil {
		return p, err
	}
	p.onClose(p.conn.Close)
	client, err := micro.NewClient(ctx, p.conn, micro.ClientConfig{Name: "router"})
	if err != nil {
		return p, err
	}
	p.onClose(client.Close)
	runner, err := route.NewRunner(ctx, client, route.Config{})
	if err != nil {
		return p, err
	}
	p.onClose(runner.Close)
	policy := route.Keep
	if c.DeadLetters == "drop-oldest" {
		policy = route.DropOldest
	}
	p.run(ctx, route.NewWorker(client, route.WorkerConfig{Runner: runner, DeadLetters: policy}).Run)
	if err := p.startRouter(ctx, runner, route.RouterConfig{Instance: c.Instance, Region: c.Region, LogLevel: app.level}, told); err != nil {
		return p, err
	}
	if p.admin != nil {
		p.publish()
		p.run(ctx, p.admin.Run)
	}
	return p, nil
}

// startRouter returns when the router serves. told is called when somebody else told it to stop.
func (p *platform) startRouter(ctx context.Context, runner *route.Runner, cfg route.RouterConfig, told func()) error {
	started := make(chan struct{})
	cfg.Version, cfg.Logger = semanticVersion(), p.conn.Logger()
	cfg.Hooks.Started = func() { close(started) }
	router, err := route.NewRouter(runner, cfg)
	if err != nil {
		return err
	}
	p.run(ctx, func(ctx context.Context) error {
		if err := router.Run(ctx); err != nil {
			return err
		}
		if ctx.Err() == nil {
			told()
		}
		<-ctx.Done()
		return nil
	})
	return p.started(ctx, started)
}

func (c *routerCmd) ready(ctx context.Context, app *App, p *platform) error {
	urls := map[string]string{"nats": p.conn.NATS().ConnectedUrlRedacted()}
	if p.admin != nil {
		urls["admin"] = p.admin.URL()
		warnOpen(app, "admin", c.Admin)
	}
	if err := c.PortsFile.write(urls); err != nil {
		return err
	}
	if !isTerminal(app.stdout) {
		app.log.InfoContext(ctx, "router is ready", "nats", urls["nats"], "admin", urls["admin"], "namespace", p.conn.Namespace().String())
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "skybus router is ready.\n  %-8s %s\n  %-8s %s\n", "NATS", printable(urls["nats"]), "Routes", p.conn.Namespace().String())
	if p.admin != nil {
		fmt.Fprintf(&b, "  %-8s %s\n", "Admin", urls["admin"])
	}
	fmt.Fprintf(&b, "  %-8s Ctrl-C\n", "Stop")
	_, err := fmt.Fprint(app.stdout, b.String())
	return err
}
