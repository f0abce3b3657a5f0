package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// partFlags are those of the commands that run one part of the platform.
type partFlags struct {
	Admin     string    `help:"Where the admin pages listen. Port 0 picks a free one. Default: nowhere." placeholder:"ADDR"`
	PortsFile portsFile `help:"File to write the addresses to, as JSON, once all is ready." placeholder:"FILE"`

	storeFlags
}

// storeFlags are those of what makes streams on somebody else's server.
type storeFlags struct {
	StoreSize byteSize `help:"How large the JetStream store of the servers is: the limits of streams and buckets that are made are shares of it. Default: the account's limit, else 1GiB." placeholder:"SIZE"`
}

func (c *partFlags) check() error {
	if c.Admin == "" {
		return nil
	}
	return checkAddr("--admin", c.Admin)
}

// part is one part of the platform, in a process of its own.
type part struct {
	name string
	// listen begins what is likely to fail, before anything else; nil for none.
	listen func(context.Context, *platform) error
	// serve returns when the part serves, over the platform's connection.
	serve func(context.Context, *platform) error
	// drain is how long it may take to stop, beside what takes something from outside.
	drain time.Duration
	// quiet: standard output belongs to the part.
	quiet bool
}

// run runs a part until ctx ends.
func (c *partFlags) run(ctx context.Context, app *App, what part) error {
	if _, err := app.namespace(); err != nil {
		return err
	}
	if err := c.PortsFile.prepare(); err != nil {
		return err
	}
	p := &platform{failed: make(chan error, 1), cutOff: what.drain + upCutOff}
	err := c.start(ctx, app, p, what)
	if err == nil {
		err = c.ready(ctx, app, p, what)
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

// start returns when all serves. On an error the platform still has to be closed.
func (c *partFlags) start(ctx context.Context, app *App, p *platform, what part) (err error) {
	if what.listen != nil {
		if err := what.listen(ctx, p); err != nil {
			return err
		}
	}
	if c.Admin != "" {
		if p.admin, err = newAdmin(ctx, adminConfig{Addr: c.Admin, Logger: app.log, Ready: map[string]func(context.Context) error{
			"nats": p.natsReady,
		}}); err != nil {
			return err
		}
		p.onClose(p.admin.Close)
	}
	if p.conn, err = app.connectStore(ctx, int64(c.StoreSize)); err != nil {
		return err
	}
	p.onClose(p.conn.Close)
	if err := what.serve(ctx, p); err != nil {
		return err
	}
	if p.admin != nil {
		p.publish()
		p.run(ctx, p.admin.Run)
	}
	return nil
}

// attrs are names and values for a log, without those that are empty.
func attrs(pairs ...string) (all []any) {
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] != "" {
			all = append(all, pair[0], pair[1])
		}
	}
	return all
}

// ready tells everybody.
func (c *partFlags) ready(ctx context.Context, app *App, p *platform, what part) error {
	urls := p.urls()
	if p.admin != nil {
		warnOpen(app, "admin", c.Admin)
	}
	if err := c.PortsFile.write(urls); err != nil {
		return err
	}
	namespace := p.conn.Namespace().String()
	if what.quiet || !isTerminal(app.stdout) {
		app.log.InfoContext(ctx, "ready", attrs(
			"part", what.name, "nats", urls["nats"], "http", urls["http"], "listeners", p.gatewayText(), "timers", urls["timers"], "mirror", urls["mirror"],
			"mirror_admin", urls["mirror_admin"], "admin", urls["admin"], "tcp", p.tcpText(), "namespace", namespace)...)
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "skybus %s is ready.\n", what.name)
	for _, line := range append([][2]string{
		{"NATS", urls["nats"]},
		{"Namespace", namespace},
		{"Gateway", urls["http"]},
		{"Listeners", p.gatewayText()},
		{"Timers", urls["timers"]},
		{"Mirror", urls["mirror"]},
		{"Mirror API", urls["mirror_admin"]},
		{"Admin", urls["admin"]},
	}, append(p.tcpLines(), [2]string{"Stop", "Ctrl-C"})...) {
		if line[1] != "" {
			fmt.Fprintf(&b, "  %-10s %s\n", line[0], printable(line[1]))
		}
	}
	_, err := fmt.Fprint(app.stdout, b.String())
	return err
}
