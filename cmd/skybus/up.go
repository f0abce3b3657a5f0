package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

type upCmd struct {
	Demo      bool      `help:"Run the demo application too: a form at the gateway, three services, a route."`
	Data      string    `help:"Directory to keep the data in. Default: one of the user's." placeholder:"DIR" xor:"store"`
	Memory    bool      `help:"Keep nothing: the data is gone when skybus stops." xor:"store"`
	HTTP      string    `name:"http" help:"Where the gateway listens. Port 0 picks a free one." default:"127.0.0.1:8080" placeholder:"ADDR"`
	Admin     string    `help:"Where the admin pages listen. Port 0 picks a free one." default:"127.0.0.1:8081" placeholder:"ADDR"`
	NATS      string    `name:"nats" help:"Where the NATS server listens. Port 0 picks a free one." default:"127.0.0.1:4222" placeholder:"ADDR"`
	PortsFile portsFile `help:"File to write the addresses to, as JSON, once all is ready." placeholder:"FILE"`
}

// Help is shown below the usage.
func (upCmd) Help() string {
	return `With --server or --context (or NATS_URL and the like) it uses that NATS server instead of starting one.

Examples:

    skybus up --demo
    skybus up --data /var/lib/skybus --http 127.0.0.1:80
    skybus up --server nats://nats.example.org:4222 --creds platform.creds
    skybus up --demo --memory --http 127.0.0.1:0 --admin 127.0.0.1:0 --nats 127.0.0.1:0 --ports-file ports.json`
}

// Validate finds the mistakes that need no look at the machine.
func (c *upCmd) Validate() error {
	for _, f := range []struct{ flag, addr string }{{"--http", c.HTTP}, {"--admin", c.Admin}, {"--nats", c.NATS}} {
		if err := checkAddr(f.flag, f.addr); err != nil {
			return err
		}
	}
	return nil
}

func (*upCmd) daemon() {}

// Run runs the platform until ctx ends.
func (c *upCmd) Run(ctx context.Context, app *App) error {
	if c.external(app) && (c.Data != "" || c.Memory || app.given["nats"]) {
		return usagef("--data, --memory and --nats are for the server that up starts; with --server or --context it starts none")
	}
	if err := c.PortsFile.prepare(); err != nil {
		return err
	}
	p, err := startPlatform(ctx, app, c)
	if err == nil {
		err = c.ready(ctx, app, p)
	}
	if err == nil {
		err = p.wait(ctx)
		app.log.Info("stopping", "cause", cause(ctx, err))
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // stopped before it was ready
	}
	c.PortsFile.remove()
	return errors.Join(err, p.close())
}

func cause(ctx context.Context, err error) string {
	if err != nil {
		return err.Error()
	}
	return context.Cause(ctx).Error()
}

// external tells whether somebody else's server is to be used.
func (*upCmd) external(app *App) bool { return app.globals.Server != "" || app.Context != "" }

// ready makes the first request of the demo, so that what the screen promises is known to work, and tells everybody.
func (c *upCmd) ready(ctx context.Context, app *App, p *platform) error {
	first := ""
	if c.Demo {
		answer, err := p.firstRequest(ctx)
		if err != nil {
			return err
		}
		first = fmt.Sprintf("First request through the route answered %s after the start: %s", since(app.started), answer)
	}
	for what, addr := range map[string]string{"http": c.HTTP, "admin": c.Admin, "nats": c.NATS} {
		if what != "nats" || p.server != nil {
			warnOpen(app, what, addr)
		}
	}
	if err := c.PortsFile.write(p.urls()); err != nil {
		return err
	}
	if !isTerminal(app.stdout) {
		urls := p.urls()
		app.log.Info("platform is ready", "http", urls["http"], "admin", urls["admin"], "nats", urls["nats"],
			"data", p.dataDir(), "demo", c.Demo, "after", since(app.started).String())
		return nil
	}
	_, err := fmt.Fprint(app.stdout, c.screen(app, p, first))
	return err
}

// since is how long ago t was, in whole milliseconds.
func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }

func (c *upCmd) screen(app *App, p *platform, first string) string {
	var b strings.Builder
	line := func(name, value string) { fmt.Fprintf(&b, "  %-9s%s\n", name, printable(value)) }
	urls := p.urls()
	fmt.Fprintf(&b, "skybus is up, %s after its start.\n", since(app.started))
	if first != "" {
		fmt.Fprintln(&b, printable(first))
	}
	b.WriteString("\n")
	line("Gateway", urls["http"])
	line("Admin", urls["admin"]+"  (/healthz /readyz /debug/vars /debug/pprof/)")
	line("NATS", urls["nats"])
	switch {
	case p.server == nil:
		line("Data", "on that server")
	case c.Memory:
		line("Data", "kept until it stops, no longer (--memory)")
	default:
		line("Data", p.dataDir())
		line("Sync", "every 2 minutes: survives a crash, not a power cut (`skybus server` syncs always)")
	}
	b.WriteString("\nTry:\n")
	flags := ""
	program := programName()
	if urls["nats"] != "nats://"+defaultNATS {
		flags = " --server " + urls["nats"]
	}
	if c.Demo {
		line("browser", urls["http"]+"/")
		line("curl", `curl -d '{"input":"x"}' `+urls["http"]+"/getwidgets")
		line("skybus", program+flags+" instances")
	} else {
		line("skybus", program+flags+" services")
		line("demo", program+" up --demo")
	}
	b.WriteString("\nCtrl-C stops it.\n")
	return b.String()
}

// programName is how to run this program again: `go run` leaves none behind.
func programName() string {
	if exe, err := os.Executable(); err == nil && strings.Contains(exe, "go-build") {
		return "go run ./cmd/skybus"
	}
	return "skybus"
}
