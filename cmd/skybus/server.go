package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus/embed"
)

const (
	defaultNATS   = "127.0.0.1:4222"
	readyInterval = 100 * time.Millisecond
	minMaxStore   = 64 << 20 // with less not even all that `skybus up` makes has its place
)

type serverCmd struct {
	Data          string    `help:"Directory to keep the data in. Default: one of the user's." placeholder:"DIR"`
	Sync          string    `help:"When to force data to disk: always (before it is acknowledged) or every so often, as in 1s." default:"always"`
	NATS          string    `name:"nats" help:"Where to listen for clients. Port 0 picks a free one." default:"127.0.0.1:4222"`
	Name          string    `help:"Name of the server, its own in the cluster. Default: a random one that stays with the data." placeholder:"NAME"`
	Cluster       string    `help:"Name of the cluster to join or to begin." placeholder:"NAME"`
	ClusterListen string    `help:"Where to listen for the other servers of the cluster. Default: 127.0.0.1:6222." placeholder:"ADDR"`
	Routes        []string  `help:"Servers of the cluster to look for: one that runs is enough." placeholder:"URL"`
	MaxStore      byteSize  `help:"Limit of the data on disk, as in 10GiB, at least 64MiB. Default: 75 % of what is free." placeholder:"SIZE"`
	Admin         string    `help:"Where the admin pages listen. Port 0 picks a free one. Default: nowhere." placeholder:"ADDR"`
	PortsFile     portsFile `help:"File to write the addresses to, as JSON, once the server takes connections." placeholder:"FILE"`
}

// Help is shown below the usage.
func (*serverCmd) Help() string {
	return `Examples:

    skybus server
    skybus server --data /var/lib/skybus --nats 127.0.0.1:4333

Three servers as a cluster on one machine, each in a terminal of its own:

    skybus server --cluster c --data a
    skybus server --cluster c --data b --nats 127.0.0.1:4223 --cluster-listen 127.0.0.1:6223 --routes nats://127.0.0.1:6222
    skybus server --cluster c --data c --nats 127.0.0.1:4224 --cluster-listen 127.0.0.1:6224 --routes nats://127.0.0.1:6222`
}

// Validate finds the mistakes that need no look at the machine.
func (c *serverCmd) Validate() error {
	if c.Sync != "always" {
		if d, err := time.ParseDuration(c.Sync); err != nil || d < time.Millisecond {
			return fmt.Errorf("--sync %q: want always or a duration of a millisecond or more", c.Sync)
		}
	}
	if c.MaxStore != 0 && c.MaxStore < minMaxStore {
		return fmt.Errorf("--max-store %d: want 64MiB or more, as the streams and buckets of skybus reserve about that; a number without a unit is bytes", c.MaxStore)
	}
	if c.Cluster == "" && (c.ClusterListen != "" || len(c.Routes) > 0) {
		return errors.New("--cluster-listen and --routes need --cluster, the name of the cluster")
	}
	for flag, addr := range map[string]string{"--nats": c.NATS, "--cluster-listen": c.ClusterListen, "--admin": c.Admin} {
		if addr == "" && flag != "--nats" {
			continue
		}
		if err := checkAddr(flag, addr); err != nil {
			return err
		}
	}
	return nil
}

func (*serverCmd) daemon() {}

// Run runs the server until ctx ends.
func (c *serverCmd) Run(ctx context.Context, app *App) error {
	if err := c.PortsFile.prepare(); err != nil {
		return err
	}
	s, err := c.start(ctx, app)
	if err != nil {
		return unlessStopped(ctx, err)
	}
	err = c.serve(ctx, app, s)
	c.PortsFile.remove()
	if err != nil {
		return errors.Join(err, s.Close())
	}
	app.log.InfoContext(ctx, "stopping", "cause", context.Cause(ctx).Error())
	if err := s.Close(); err != nil {
		return err
	}
	app.log.InfoContext(ctx, "stopped")
	return nil
}

// serve tells that the server runs, and returns when ctx ends, or the admin pages did.
func (c *serverCmd) serve(signalled context.Context, app *App, s *embed.Server) error {
	ctx, stop := context.WithCancelCause(signalled)
	defer stop(nil)
	adminURL := ""
	if c.Admin != "" {
		a, err := newAdmin(ctx, adminConfig{Addr: c.Admin, Logger: app.log, Ready: map[string]func(context.Context) error{
			"nats": func(context.Context) error { return s.Ready() },
		}})
		if err != nil {
			return err
		}
		adminURL = a.URL()
		var running sync.WaitGroup
		defer running.Wait()
		running.Go(func() { stop(a.Run(ctx)) })
		defer stop(nil)
	}
	if err := c.ready(app, s, adminURL); err != nil {
		return err
	}
	awaitCluster(ctx, app, s)
	<-ctx.Done()
	if signalled.Err() != nil {
		return nil
	}
	return context.Cause(ctx)
}

func (c *serverCmd) start(ctx context.Context, app *App) (*embed.Server, error) {
	dir := c.Data
	if dir == "" {
		var err error
		if dir, err = stateDir(); err != nil {
			return nil, err
		}
	}
	s, err := embed.Start(ctx, embed.Config{
		Name:          c.Name,
		Listen:        c.NATS,
		Dir:           dir,
		Sync:          c.Sync,
		Cluster:       c.Cluster,
		ClusterListen: c.ClusterListen,
		Routes:        c.Routes,
		MaxStore:      int64(c.MaxStore),
		Logger:        app.log,
	})
	if err != nil {
		return nil, serverHint(err)
	}
	return s, nil
}

// serverHint tells what to do about a server that cannot start. `up` starts one too.
func serverHint(err error) error {
	switch path, ok := errors.AsType[*fs.PathError](err); {
	case errors.Is(err, embed.ErrAddrInUse):
		return withHint(err, "--nats 127.0.0.1:0 picks a free port; `skybus --server URL ...` uses the server that runs there")
	case errors.Is(err, embed.ErrDirInUse):
		return withHint(err, "--data DIR names another directory")
	case errors.Is(err, embed.ErrNameInUse):
		return withHint(err, "--name NAME names it otherwise; without --name it has a name that stays with its --data")
	case ok:
		return withHint(fmt.Errorf("data directory: %w", path), "--data DIR names another directory")
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "listen" {
		return withHint(err, "--nats and --cluster-listen take addresses that this machine has, as in 127.0.0.1:4222, or 0.0.0.0:4222 for all of them")
	}
	return err
}

// ready tells everybody: who listens in the log, what is open to the network too, and people at a terminal the rest.
func (c *serverCmd) ready(app *App, s *embed.Server, adminURL string) error {
	urls := map[string]string{"nats": s.URL()}
	if adminURL != "" {
		urls["admin"] = adminURL
		warnOpen(app, "admin", c.Admin)
	}
	warnOpen(app, "clients", c.NATS)
	if c.Cluster != "" {
		urls["cluster"] = s.ClusterURL()
		warnOpen(app, "cluster", c.ClusterListen)
	}
	if err := c.PortsFile.write(urls); err != nil {
		return err
	}
	if !isTerminal(app.stdout) {
		attrs := []any{"nats", s.URL(), "cluster", s.ClusterURL(), "server_name", s.Name(), "data", s.Dir(), "sync", c.Sync}
		if adminURL != "" {
			attrs = append(attrs, "admin", adminURL)
		}
		if ready := s.Ready() == nil; ready {
			app.log.Info("server is ready", attrs...)
		} else {
			app.log.Info("server is running and waits for its cluster", attrs...)
		}
		return nil
	}
	_, err := fmt.Fprint(app.stdout, c.screen(s, adminURL))
	return err
}

// awaitCluster says when a member of a cluster that was not ready is: when there is a majority that has a leader. It returns
// then, or when ctx ends.
func awaitCluster(ctx context.Context, app *App, s *embed.Server) {
	err := s.Ready()
	if err == nil {
		return
	}
	app.log.WarnContext(ctx, "nothing can be stored yet", "error", err)
	tick := time.NewTicker(readyInterval)
	defer tick.Stop()
	for s.Ready() != nil {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	app.log.InfoContext(ctx, "cluster is ready")
}

func (c *serverCmd) screen(s *embed.Server, adminURL string) string {
	var b strings.Builder
	line := func(name, value string) { fmt.Fprintf(&b, "  %-8s %s\n", name, printable(value)) }
	if s.Ready() == nil {
		fmt.Fprintf(&b, "skybus server %s is ready.\n", s.Name())
	} else {
		fmt.Fprintf(&b, "skybus server %s is running. JetStream waits for a majority of the cluster's servers.\n", s.Name())
	}
	line("NATS", s.URL())
	if c.Cluster != "" {
		line("Cluster", fmt.Sprintf("%s at %s", c.Cluster, s.ClusterURL()))
	}
	if adminURL != "" {
		line("Admin", adminURL)
	}
	line("Data", s.Dir())
	if c.Sync == "always" {
		line("Sync", "always: what is acknowledged survives a power cut")
	} else {
		line("Sync", fmt.Sprintf("every %s: a power cut may take what was acknowledged since", c.Sync))
	}
	line("Stop", "Ctrl-C")
	return b.String()
}

// warnOpen warns of a listener that other machines reach: these servers ask nobody who they are.
func warnOpen(app *App, what, addr string) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil || loopback(host) {
		return
	}
	app.log.Warn("open to the network without a login", "listener", what, "address", addr)
}

// loopback tells whether only this machine reaches host. The empty host means 127.0.0.1 to the server.
func loopback(host string) bool {
	if host == "" || host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
