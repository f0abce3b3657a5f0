package main

import (
	"context"
	"errors"

	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

type routerCmd struct {
	partFlags

	Instance    string `help:"Id of the router's instance. Default: a random one." placeholder:"ID"`
	Region      string `help:"Region that it tells of itself." placeholder:"REGION"`
	DeadLetters string `help:"What to do with a step that is given up when there is no room for it: keep it in its queue, or drop-oldest of those given up before." enum:"keep,drop-oldest" default:"keep"`
}

// Help is shown below the usage.
func (*routerCmd) Help() string {
	return `It serves each route as the endpoint of its name of the service "route", and does asynchronous steps. Run as many as you like.

Examples:

    skybus router --server nats://nats.example.org:4222
    skybus call route.getwidgets '{"input":"x"}'`
}

// Validate finds the mistakes that need no look at the machine.
func (c *routerCmd) Validate() error { return c.check() }

func (*routerCmd) daemon() {}

// Run runs the router until ctx ends.
func (c *routerCmd) Run(ctx context.Context, app *App) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	return c.run(ctx, app, part{name: "router", serve: func(ctx context.Context, p *platform) error {
		client, runner, err := p.startRunner(ctx, app, micro.ClientConfig{Name: "router", Region: c.Region})
		if err != nil {
			return err
		}
		policy := route.Keep
		if c.DeadLetters == "drop-oldest" {
			policy = route.DropOldest
		}
		p.run(ctx, route.NewWorker(client, route.WorkerConfig{Runner: runner, DeadLetters: policy}).Run)
		cfg := route.RouterConfig{Instance: c.Instance, Region: c.Region, LogLevel: app.level}
		return p.startRouter(ctx, runner, cfg, func() { stop(errors.New("the router was told to stop")) })
	}})
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
