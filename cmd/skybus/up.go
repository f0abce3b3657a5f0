package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

type upCmd struct {
	File platformFileFlag `short:"f" help:"File with the whole platform: these flags, routes, entries of the gateway, a mirror, listeners for TCP, sources of files. Flags and the environment count more." placeholder:"FILE" env:"-"`

	gatewayFlags
	timersFlags

	Timers    string    `help:"Where the timers API listens, beside the gateway. Port 0 picks a free one." default:"127.0.0.1:3000"`
	Demo      bool      `help:"Run the demo application too: a form at the gateway, three services, a route."`
	Data      string    `help:"Directory to keep the data in. Default: one of the user's." placeholder:"DIR" xor:"store"`
	Memory    bool      `help:"Keep nothing: the data is gone when skybus stops." xor:"store"`
	Admin     string    `help:"Where the admin pages listen. Port 0 picks a free one." default:"127.0.0.1:8081"`
	NATS      string    `name:"nats" help:"Where the NATS server listens. Port 0 picks a free one." default:"127.0.0.1:4222"`
	PortsFile portsFile `help:"File to write the addresses to, as JSON, once all is ready." placeholder:"FILE"`

	Mirror      string `help:"File with a mirror to run too: mirror.yaml, or Spawn's configuration as it is." placeholder:"FILE" env:"SKYBUS_MIRROR_FILE"`
	MirrorHTTP  string `name:"mirror-http" help:"Where the clients of the mirror come in. Default: the file's, else 127.0.0.1:7117." placeholder:"ADDR"`
	MirrorAdmin string `help:"Where the admin API of the mirror listens, or off. Default: the file's, else 127.0.0.1:7118." placeholder:"ADDR"`

	platform *platformFile // nil without one
	mirror   *mirrorSetup  // likewise
}

// Help is shown below the usage.
func (*upCmd) Help() string {
	return `With --server or --context (or NATS_URL and the like) it uses that NATS server instead of starting one.

Timers may call this machine itself as long as only this machine reaches those who set them: the gateway, the timers API
and the NATS server, which is its own then. --allow-network says what else, or none.

Examples:

    skybus up --demo
    skybus up -f skybus.yaml                 # ` + "`skybus config check skybus.yaml`" + ` finds mistakes in it
    skybus up --mirror mirror.yaml
    skybus up --data /var/lib/skybus --http 127.0.0.1:80
    skybus up --server nats://nats.example.org:4222 --creds platform.creds
    skybus up --demo --memory --http 127.0.0.1:0 --admin 127.0.0.1:0 --nats 127.0.0.1:0 --ports-file ports.json`
}

// Validate finds the mistakes that need no look at the machine.
func (c *upCmd) Validate() error {
	for _, l := range c.allListeners() {
		if err := checkAddr(l.flag, l.addr); err != nil {
			return err
		}
	}
	if c.Mirror == "" && (c.platform == nil || c.platform.mirror == nil) && (c.MirrorHTTP != "" || c.MirrorAdmin != "") {
		return errors.New("--mirror-http and --mirror-admin go with --mirror, or a mirror in the file")
	}
	if err := c.checkGateway(); err != nil {
		return err
	}
	return c.check()
}

func (*upCmd) daemon() {}

// listener is one of the addresses that up listens at.
type listener struct{ what, flag, addr string }

func (c *upCmd) allListeners() []listener {
	var all []listener
	add := func(what, flag, addr string) {
		if addr != "" && addr != noListener {
			all = append(all, listener{what, flag, addr})
		}
	}
	add("mirror", "--mirror-http", c.MirrorHTTP)
	add("mirror admin", "--mirror-admin", c.MirrorAdmin)
	return append(all, listener{"gateway", "--http", c.HTTP}, listener{"timers", "--timers", c.Timers}, listener{"admin", "--admin", c.Admin}, listener{"NATS", "--nats", c.NATS})
}

// readMirror reads the file of the mirror, if there is one.
func (c *upCmd) readMirror(app *App) error {
	run := mirrorRunCmd{File: c.Mirror, HTTP: c.MirrorHTTP, Admin: c.MirrorAdmin}
	var s *mirrorSetup
	var err error
	switch {
	case c.Mirror != "":
		s, err = run.setup(app)
	case c.platform != nil && c.platform.mirror != nil:
		s, err = run.complete(c.platform.mirror)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	s.Drain = upDrain
	c.mirror, c.MirrorHTTP, c.MirrorAdmin = s, s.HTTP, s.Admin
	return nil
}

// listeners are those that are used: there is no address for somebody else's NATS server.
func (c *upCmd) listeners(app *App) []listener {
	all := c.allListeners()
	if c.external(app) {
		return all[:len(all)-1]
	}
	return all
}

// Run runs the platform until ctx ends.
func (c *upCmd) Run(ctx context.Context, app *App) error {
	if err := c.checkServer(app); err != nil {
		return err
	}
	if _, err := app.namespace(); err != nil {
		return err
	}
	if err := c.readMirror(app); err != nil {
		return err
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
		app.log.InfoContext(ctx, "stopping", "cause", cause(ctx, err))
	}
	c.PortsFile.remove()
	err = errors.Join(unlessStopped(ctx, err), p.close(ctx, app.log))
	if err != nil {
		return c.explainTaken(ctx, app, err)
	}
	app.log.InfoContext(ctx, "stopped")
	return nil
}

func cause(ctx context.Context, err error) string {
	if err != nil {
		return err.Error()
	}
	return context.Cause(ctx).Error()
}

// external tells whether somebody else's server is to be used.
func (*upCmd) external(app *App) bool { return app.Server != "" || app.Context != "" }

// externalBy is what named somebody else's server.
func (*upCmd) externalBy(app *App) string {
	switch {
	case app.given["server"]:
		return "--server"
	case app.given["context"]:
		return "--context"
	case app.Server != "":
		return "the variable SKYBUS_SERVER or NATS_URL"
	}
	return "the variable SKYBUS_CONTEXT or NATS_CONTEXT"
}

// checkServer tells whether the flags are for a server of our own or for somebody else's, not for both.
func (c *upCmd) checkServer(app *App) error {
	if !c.external(app) {
		return nil
	}
	for _, f := range []struct {
		name  string
		given bool
	}{{"--data", c.Data != ""}, {"--memory", c.Memory}, {"--nats", app.given["nats"]}} {
		if f.given {
			return usagef("%s is for the server that up starts; with %s it starts none", f.name, c.externalBy(app))
		}
	}
	return nil
}

// dataDir is where the data of a server of our own is to be, unless it keeps none.
func (c *upCmd) dataDir() (string, error) {
	if c.Data != "" {
		return c.Data, nil
	}
	return stateDir()
}

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
	for _, l := range c.listeners(app) {
		if (l.flag != "--timers" || c.TokenFile == "") && !strings.HasPrefix(l.flag, "--mirror") {
			warnOpen(app, l.what, l.addr)
		}
	}
	if err := c.PortsFile.write(p.urls()); err != nil {
		return err
	}
	if isTerminal(app.stdout) {
		_, err := fmt.Fprint(app.stdout, c.screen(app, p, first))
		return err
	}
	urls := p.urls()
	app.log.InfoContext(ctx, "platform is ready", append(attrs(
		"http", urls["http"], "timers", urls["timers"], "mirror", urls["mirror"], "mirror_admin", urls["mirror_admin"], "admin", urls["admin"], "nats", urls["nats"],
		"data", p.dataDir()), "demo", c.Demo, "after", since(app.started).String())...)
	return nil
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
	line("Gateway", strings.TrimSpace(urls["http"]+"  "+p.gatewayText()))
	line("Timers", urls["timers"]+"  (/timer /v1/timers, also at the gateway; they may call "+c.callable(app)+")")
	if c.mirror != nil {
		line("Mirror", urls["mirror"]+"  (admin API: "+cmp.Or(urls["mirror_admin"], "nowhere")+")")
	}
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
	program, flags := programName(), c.connectFlags(app, urls["nats"])
	if c.Demo {
		line("browser", urls["http"]+"/")
		line("curl", `curl -d '{"input":"x"}' `+urls["http"]+"/getwidgets")
		line("skybus", program+" instances"+flags)
	} else {
		line("skybus", program+" services"+flags)
		line("demo", program+" up --demo, in place of this one")
	}
	if c.calls(app, netip.MustParseAddr(loopbackHost)) {
		line("timer", `curl -d '{"after":"5s","target":{"uri":"http://127.0.0.1:8888/"},"payload":"hello"}' `+urls["timers"]+"/v1/timers")
		line("", "beside: "+program+" listen")
	}
	b.WriteString("\nCtrl-C stops it.\n")
	return b.String()
}

// local tells whether only this machine reaches those who may make timers: then those may call this machine. Who reaches the NATS server makes them
// without an API.
func (c *upCmd) local(app *App) bool {
	for _, addr := range []string{c.HTTP, c.Timers, c.NATS} {
		if host, _, err := net.SplitHostPort(addr); err != nil || !loopback(host) {
			return false
		}
	}
	return !c.external(app)
}

// calls tells whether timers may call an address.
func (c *upCmd) calls(app *App, addr netip.Addr) bool {
	return slices.ContainsFunc(c.networks(c.local(app)), func(n netip.Prefix) bool { return n.Contains(addr) })
}

// callable is what timers may call, for people.
func (c *upCmd) callable(app *App) string {
	switch {
	case len(c.AllowNetwork) == 0 && c.local(app):
		return "this machine and public addresses"
	case len(c.networks(false)) == 0:
		return "public addresses only"
	}
	var all []string
	for _, n := range c.networks(false) {
		all = append(all, n.String())
	}
	return strings.Join(all, ", ") + " and public addresses"
}

// connectFlags are what another command needs to reach this platform.
func (c *upCmd) connectFlags(app *App, url string) string {
	flags := ""
	switch {
	case app.given["context"]:
		flags += " --context " + app.Context
	case url != "nats://"+defaultNATS || contextSelected():
		flags += " --server " + url
	}
	if app.given["creds"] {
		flags += " --creds " + app.Creds
	}
	if app.given["namespace"] {
		flags += " --namespace " + app.Namespace
	}
	return flags
}

// contextSelected tells whether other commands go elsewhere unless they are told: to the selected NATS context.
func contextSelected() bool {
	s, err := loadContext("")
	return err != nil || s.Name != ""
}

// programName is how to run this program again: `go run` leaves none behind.
func programName() string {
	if exe, err := os.Executable(); err == nil && strings.Contains(exe, "go-build") {
		return "go run ./cmd/skybus"
	}
	return "skybus"
}
