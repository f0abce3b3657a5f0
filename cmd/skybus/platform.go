package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/embed"
	"github.com/skybus-io/skybus/examples/getwidgets"
	"github.com/skybus-io/skybus/initiators/file"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/config"
	"github.com/skybus-io/skybus/micro/route"
	"github.com/skybus-io/skybus/mirror"
	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

const (
	demoInstances = 2
	firstTimeout  = 2 * time.Second
	upDrain       = time.Second             // for what is in flight when up is stopped: a person waits
	upCutOff      = 1500 * time.Millisecond // then the connection is closed, whoever still needs it
)

// platform is all that `skybus up` runs, or a part of it that runs alone. It is put together in one order and taken apart in the opposite one.
type platform struct {
	server  *embed.Server // nil where somebody else's is used
	conn    *bus.Conn
	client  *micro.Client // nil in a part that calls nobody
	http    net.Listener
	gateway *gatewayListeners // nil in a part without
	admin   *admin

	timers    *scheduler.Scheduler // nil in a part that has nothing to do with them
	timersURL string               // of their API, empty where nobody listens for it
	timersAPI *httpapi.Handler

	mirror         *mirror.Mirror // nil in a part without
	mirrorURL      string
	mirrorAdminURL string // empty where nobody listens for it

	tcp   map[string]*tcpPart // listeners by name
	files []*file.Source

	figures []func(io.Writer) error // of the parts, for Prometheus

	takers  []taker        // told to stop together, before all else
	cutOff  time.Duration  // in place of upCutOff, where it is not 0
	cleanup []func() error // in the order things were made
	failed  chan error     // the first part that ended by itself
}

// startPlatform starts everything and returns when it serves. On an error close still has to be called.
func startPlatform(ctx context.Context, app *App, c *upCmd) (*platform, error) {
	p := &platform{failed: make(chan error, 1)}
	l, err := c.listenAll(ctx, app, p)
	if err != nil {
		return p, err
	}
	if err := p.connect(ctx, app, c); err != nil {
		return p, err
	}
	p.onClose(p.conn.Close)
	settings, err := p.startSettings(ctx, app, c.platform)
	if err != nil {
		return p, err
	}
	client, runner, err := p.startRunner(ctx, app, micro.ClientConfig{Name: "gateway", Settings: settings})
	if err != nil {
		return p, err
	}
	if err := p.startReaper(ctx, client.Registry()); err != nil {
		return p, err
	}
	if c.Demo {
		if err := p.startDemo(ctx, app, settings); err != nil {
			return p, err
		}
	}
	// After the demo, so that it stops before: steps begun are finished while there is somebody to call.
	p.run(ctx, route.NewWorker(client, route.WorkerConfig{Runner: runner}).Run)
	if err := p.startRouter(ctx, runner, route.RouterConfig{Drain: upDrain, LogLevel: app.level}, func() {
		app.log.WarnContext(ctx, "the router was told to stop, the platform goes on")
	}); err != nil {
		return p, err
	}
	if err := c.startCapabilities(ctx, app, p, l); err != nil {
		return p, err
	}
	if c.platform != nil {
		if err := c.platform.store(ctx, app, p); err != nil {
			return p, err
		}
	}
	mux := http.NewServeMux()
	p.timersAPI.Mount(mux)
	cfg := gateway.Config{Drain: upDrain, Mux: mux, OpenAPI: gateway.OpenAPIConfig{Mounted: map[string]json.RawMessage{"timers": httpapi.Document()}}}
	if c.Demo {
		cfg.Pages, cfg.Answer = getwidgets.Page(), getwidgets.AnswerPage()
	}
	if err := c.serve(ctx, app, p, runner, c.prefixes(), cfg); err != nil {
		return p, err
	}
	if c.platform != nil {
		if err := c.platform.start(ctx, app, p, runner); err != nil {
			return p, err
		}
	}
	p.publish()
	p.run(ctx, p.admin.Run)
	return p, nil
}

// upListeners are where up listens, beside the gateway and the admin pages.
type upListeners struct {
	timers net.Listener
	api    httpapi.Config
	mirror mirrorListeners
}

// listenAll takes all addresses but that of the NATS server: a taken port is the most likely reason to stop, and the cheapest to find.
func (c *upCmd) listenAll(ctx context.Context, app *App, p *platform) (*upListeners, error) {
	var l upListeners
	err := c.listen(ctx, app, p)
	if err != nil {
		return nil, err
	}
	if l.timers, l.api, err = c.listenTimers(ctx, app, p); err != nil {
		return nil, err
	}
	if c.mirror != nil {
		if err := l.mirror.listen(ctx, app, p, c.mirror, "mirror-"); err != nil {
			return nil, err
		}
	}
	if err := c.platform.listen(ctx, app, p); err != nil {
		return nil, err
	}
	if p.admin, err = newAdmin(ctx, adminConfig{Addr: c.Admin, Logger: app.log, Ready: map[string]func(context.Context) error{
		"nats":      p.natsReady,
		"jetstream": p.jetStreamReady,
	}}); err != nil {
		return nil, err
	}
	p.onClose(p.admin.Close)
	return &l, nil
}

// startCapabilities starts the mirror and the timers.
func (c *upCmd) startCapabilities(ctx context.Context, app *App, p *platform, l *upListeners) error {
	if c.mirror != nil {
		if err := c.mirror.start(ctx, app, p, &l.mirror); err != nil {
			return err
		}
	}
	// After whom timers call, so that it stops before.
	if err := c.startTimers(ctx, app, p, scheduler.Config{Drain: upDrain, AllowNetworks: c.networks(c.local(app))}); err != nil {
		return err
	}
	return p.serveTimers(ctx, l.timers, l.api)
}

// listenTimers takes the address of the timers API, and reads what it needs before anything is started.
func (c *upCmd) listenTimers(ctx context.Context, app *App, p *platform) (net.Listener, httpapi.Config, error) {
	cfg, err := c.api(app)
	if err != nil {
		return nil, cfg, err
	}
	cfg.Drain, cfg.TrustedOrigins = upDrain, c.TrustedOrigin
	l, err := listen(ctx, "timers", "--timers", c.Timers)
	if err != nil {
		return nil, cfg, err
	}
	p.onClose(l.Close)
	p.timersURL = schemeURL(l, false)
	return l, cfg, nil
}

func (p *platform) connect(ctx context.Context, app *App, c *upCmd) error {
	if c.external(app) {
		var err error
		if p.conn, err = app.Connect(ctx); errors.Is(err, nats.ErrNoServers) {
			return withHint(err, "without %s `skybus up` starts a server of its own", c.externalBy(app))
		}
		return err
	}
	if err := p.startServer(ctx, app, c); err != nil {
		return err
	}
	conn, err := bus.Connect(ctx, bus.Config{
		InProcess: p.server, Namespace: app.Namespace, Name: "skybus up", Store: p.server.MaxStore(), Logger: app.log,
	})
	p.conn = conn
	return err
}

func (p *platform) startServer(ctx context.Context, app *App, c *upCmd) error {
	dir, err := "", error(nil)
	if c.Memory {
		if dir, err = memoryDir(); err == nil {
			p.onClose(func() error { return os.RemoveAll(dir) })
		}
	} else {
		dir, err = c.dataDir()
	}
	if err != nil {
		return err
	}
	if p.server, err = embed.Start(ctx, embed.Config{Listen: c.NATS, Dir: dir, Logger: app.log}); err != nil {
		return serverHint(err)
	}
	p.onClose(p.server.Close)
	return nil
}

// startDemo returns when the demo's services take requests.
func (p *platform) startDemo(ctx context.Context, app *App, values *config.Values) error {
	started := make(chan struct{})
	p.run(ctx, func(ctx context.Context) error {
		cfg := getwidgets.Config{Drain: upDrain, Logger: app.log, LogLevel: app.level, Values: values}
		if err := getwidgets.Run(ctx, p.conn, demoInstances, cfg, func() { close(started) }); err != nil {
			return err
		}
		if ctx.Err() == nil {
			app.log.WarnContext(ctx, "all services of the demo were told to stop, the platform goes on")
		}
		<-ctx.Done()
		return nil
	})
	return p.started(ctx, started)
}

// started waits for a part that was begun.
func (p *platform) started(ctx context.Context, started <-chan struct{}) error {
	select {
	case <-started:
		return nil
	case err := <-p.failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// startSettings opens the live configuration, and has the level of the log follow it unless that was given.
func (p *platform) startSettings(ctx context.Context, app *App, from *platformFile) (*config.Values, error) {
	open, cancel := app.toStart(ctx)
	defer cancel()
	cfg := config.Config{Logger: app.log}
	if from != nil && from.config != nil {
		cfg.Layers = []config.Layer{config.Environment(os.Environ()), from.config}
	}
	values, err := config.Open(open, p.conn, cfg)
	if err != nil {
		return nil, err
	}
	p.onClose(values.Close)
	if app.LogLevel == "" {
		p.run(ctx, func(ctx context.Context) error {
			config.FollowLogLevel(ctx, values, config.Scope{}, app.level)
			<-ctx.Done()
			return nil
		})
	}
	return values, nil
}

// startRunner makes a client and a runner of routes that calls by it.
func (p *platform) startRunner(ctx context.Context, app *App, cfg micro.ClientConfig) (*micro.Client, *route.Runner, error) {
	ctx, cancel := app.toStart(ctx)
	defer cancel()
	client, err := micro.NewClient(ctx, p.conn, cfg)
	if err != nil {
		return nil, nil, err
	}
	p.client = client
	p.onClose(client.Close)
	runner, err := route.NewRunner(ctx, client, route.Config{})
	if err != nil {
		return nil, nil, err
	}
	p.onClose(runner.Close)
	return client, runner, nil
}

// urls are the addresses of what there is, by name.
func (p *platform) urls() map[string]string {
	urls := map[string]string{"nats": p.conn.NATS().ConnectedUrlRedacted()}
	if p.server != nil {
		urls["nats"] = p.server.URL()
	}
	if p.timersURL != "" {
		urls["timers"] = p.timersURL
	}
	for name, url := range map[string]string{"mirror": p.mirrorURL, "mirror_admin": p.mirrorAdminURL} {
		if url != "" {
			urls[name] = url
		}
	}
	if p.admin != nil {
		urls["admin"] = p.admin.URL()
	}
	maps.Copy(urls, p.tcpURLs())
	maps.Copy(urls, p.gatewayURLs())
	return urls
}

func (p *platform) dataDir() string {
	if p.server == nil {
		return ""
	}
	return p.server.Dir()
}

func (p *platform) natsReady(context.Context) error {
	if !p.conn.NATS().IsConnected() {
		return fmt.Errorf("connection is %s", p.conn.NATS().Status())
	}
	return nil
}

func (p *platform) jetStreamReady(ctx context.Context) error {
	if p.server != nil {
		if err := p.server.Ready(); err != nil {
			return err
		}
	}
	_, err := p.conn.JetStream().AccountInfo(ctx)
	return err
}

// firstRequest goes in by HTTP as a user's would.
func (p *platform) firstRequest(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, firstTimeout)
	defer cancel()
	url := p.urls()["http"] + "/" + getwidgets.RouteName
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(`{"input":"first light"}`)))
	if err != nil {
		return "", err
	}
	client := http.DefaultClient
	if p.gateway.tls != nil { // whose certificate may be for other names than this machine's own
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}
		defer transport.CloseIdleConnections()
		client = &http.Client{Transport: transport}
	}
	resp, err := client.Do(req)
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return editedHint(fmt.Sprintf("nothing within %v", firstTimeout)), nil
	}
	if err != nil {
		return "", fmt.Errorf("first request: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("first request: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return editedHint(fmt.Sprintf("status %d", resp.StatusCode)), nil
	}
	var answer getwidgets.Response
	if err := json.Unmarshal(body, &answer); err != nil {
		return string(body), nil
	}
	return answer.Output, nil
}

// editedHint is for an answer that is none: the route may have been edited to something that does not work, the platform
// still does.
func editedHint(answer string) string {
	return fmt.Sprintf("%s (the route may have been edited: `skybus routes get %s`)", answer, getwidgets.RouteName)
}

// publish adds the platform's figures to /debug/vars and /metrics.
func (p *platform) publish() {
	p.serveFigures()
	if expvar.Get("skybus") != nil {
		return // a test runs several in one process
	}
	expvar.Publish("skybus", expvar.Func(func() any {
		stats := p.conn.NATS().Stats()
		figures := map[string]any{
			"in_msgs": stats.InMsgs, "out_msgs": stats.OutMsgs, "in_bytes": stats.InBytes, "out_bytes": stats.OutBytes,
			"reconnects": stats.Reconnects, "async_errors": p.conn.AsyncErrors(),
		}
		if p.client != nil {
			figures["calls"] = p.client.Stats()
		}
		if p.timers != nil {
			figures["timers"] = p.timers.Stats()
		}
		if p.mirror != nil {
			figures["mirror"] = p.mirror.Stats()
		}
		if len(p.tcp) > 0 {
			figures["tcp"] = p.tcpStats()
		}
		if len(p.files) > 0 {
			files := map[string]file.Stats{}
			for _, s := range p.files {
				files[s.Name()] = s.Stats()
			}
			figures["files"] = files
		}
		return figures
	}))
}
