package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skybus-io/skybus/internal/httpx"
	"github.com/skybus-io/skybus/mirror"
	"github.com/skybus-io/skybus/mirror/adminapi"
)

// spawnFlags are spawnctl's.
type spawnFlags struct {
	Host        string      `help:"Host of --http." placeholder:"HOST" group:"spawn" env:"-"`
	Port        *uint16     `help:"Port of --http." placeholder:"PORT" group:"spawn" env:"-"`
	APIHost     string      `name:"api-host" help:"Host of --admin." placeholder:"HOST" group:"spawn" env:"-"`
	APIPort     *uint16     `name:"api-port" help:"Port of --admin. Spawn's default was that of --port by mistake; here it is 7118." placeholder:"PORT" group:"spawn" env:"-"`
	RoundRobin  bool        `help:"Reads go to each backend in turn." group:"spawn" env:"-"`
	ByPriority  bool        `help:"Reads go to the first backend, in the order of priorities, that is healthy; with --round-robin to each in turn." group:"spawn" env:"-"`
	CheckSec    *secondFlag `help:"How often backends are checked: seconds, or a duration such as 500ms." placeholder:"N" group:"spawn" env:"-"`
	CheckURL    string      `help:"Path that is asked for to check a backend." placeholder:"PATH" group:"spawn" env:"-"`
	CheckRegexp string      `help:"What the body of its answer must match." placeholder:"REGEXP" group:"spawn" env:"-"`

	// They are taken so that an old command line works, and have no effect but a warning.
	Auth       string `hidden:"" help:"Not used: see --token-file." placeholder:"TYPE" group:"spawn" env:"-"`
	AuthExpire string `hidden:"" help:"Not used: see --token-file." placeholder:"N" group:"spawn" env:"-"`
	AuthHost   string `hidden:"" help:"Not used: see --token-file." placeholder:"HOST" group:"spawn" env:"-"`
	AuthPort   string `hidden:"" help:"Not used: see --token-file." placeholder:"PORT" group:"spawn" env:"-"`
}

// apply lays the flags over what a file says.
func (c *spawnFlags) apply(s *mirrorSetup) {
	part := func(addr *string, def, host string, port *uint16) {
		if host == "" && port == nil {
			return
		}
		*addr = cmp.Or(*addr, def)
		if port != nil {
			*addr = withPart(*addr, "", strconv.Itoa(int(*port)))
		}
		*addr = withPart(*addr, host, "")
	}
	part(&s.HTTP, defaultMirror, c.Host, c.Port)
	part(&s.Admin, defaultMirrorAdmin, c.APIHost, c.APIPort)
	switch {
	case c.RoundRobin:
		s.Reads = mirror.RoundRobin
	case c.ByPriority:
		s.Reads = mirror.ByPriority
	}
	if c.CheckSec != nil {
		s.Health.Every = time.Duration(*c.CheckSec)
	}
	if cmp.Or(c.Auth, c.AuthExpire, c.AuthHost, c.AuthPort) != "" {
		s.Notes = append(s.Notes, "--auth, --auth-expire, --auth-host and --auth-port are not used: "+noAuth)
	}
	s.Health.Path, s.Health.Body = cmp.Or(c.CheckURL, s.Health.Path), cmp.Or(c.CheckRegexp, s.Health.Body)
}

// secondFlag is a duration on the command line; a number without a unit counts seconds.
type secondFlag time.Duration

// UnmarshalText reads it from a flag.
func (f *secondFlag) UnmarshalText(text []byte) error {
	s := string(text)
	if _, err := strconv.Atoi(s); err == nil {
		s += "s"
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > 24*time.Hour {
		return fmt.Errorf("%.40q: want a number of seconds such as 5, or a duration such as 500ms", string(text))
	}
	*f = secondFlag(d)
	return nil
}

type mirrorRunCmd struct {
	File      string    `short:"f" aliases:"config" help:"File with the mirror: mirror.yaml, or Spawn's spawn.conf as it is." placeholder:"FILE" env:"SKYBUS_MIRROR_FILE"`
	Test      bool      `short:"t" help:"Check the file and the flags, and stop." env:"-"`
	Exact     bool      `help:"Delete the backends that the file does not name. Default: they are left as they are." env:"-"`
	HTTP      string    `name:"http" help:"Where clients come in; port 0 picks a free one. Default: the file's, else 127.0.0.1:7117." placeholder:"ADDR"`
	Admin     string    `help:"Where the admin API and the admin pages listen, or off. Default: the file's, else 127.0.0.1:7118." placeholder:"ADDR"`
	AllowHost []string  `help:"Host that clients may ask for where only this machine is listened to, as behind a proxy on it; may be repeated." placeholder:"HOST"`
	TLSCert   string    `name:"tls-cert" help:"Certificate of both listeners, which then speak TLS. It is read again when it changes." placeholder:"FILE"`
	TLSKey    string    `name:"tls-key" help:"Key of the certificate." placeholder:"FILE"`
	TokenFile string    `help:"File with the bearer tokens that the admin API takes, one a line. Default: it asks nobody who they are." placeholder:"FILE"`
	PortsFile portsFile `help:"File to write the addresses to, as JSON, once all is ready." placeholder:"FILE"`

	storeFlags
	spawnFlags

	Mirror string `short:"m" help:"Which mirror. Default: the file's name of it, else default." placeholder:"NAME"`
}

// Help is shown below the usage.
func (*mirrorRunCmd) Help() string {
	return `Writes (POST, PUT, PATCH, DELETE) are stored and brought to every backend in order; reads go to one that has caught up. Run as many as
you like with the same name: one of them sends, and another takes over when it ends or dies.

The backends that the file names are made as it says at each start; others stay, unless --exact is given. What the file does not say of
a backend that is there already (priority, maintenance) is left as it is.

Examples:

    skybus mirror run -f mirror.yaml
    skybus mirror run -f /etc/spawn/spawn.conf
    skybus mirror run -f mirror.yaml --test
    skybus mirror run --http 0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem    # backends: skybus mirror nodes add`
}

// Validate finds the mistakes that need no look at the machine.
func (c *mirrorRunCmd) Validate() error {
	if err := checkAddr("--http", cmp.Or(c.HTTP, defaultMirror)); err != nil {
		return err
	}
	if c.Admin != noListener {
		if err := checkAddr("--admin", cmp.Or(c.Admin, defaultMirrorAdmin)); err != nil {
			return err
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errors.New("--tls-cert and --tls-key go together")
	}
	return nil
}

func (*mirrorRunCmd) daemon() {}

// gcRoom is little: what a mirror is to be known for is that it stays small while a million writes wait.
func (*mirrorRunCmd) gcRoom() uint64 { return 40 << 20 }

// preferSpawn lets spawnctl's flags beat what the environment says of an address.
func (c *mirrorRunCmd) preferSpawn(app *App) error {
	for _, l := range []struct {
		name  string
		addr  *string
		spawn bool
	}{{"http", &c.HTTP, c.Host != "" || c.Port != nil}, {"admin", &c.Admin, c.APIHost != "" || c.APIPort != nil}} {
		if l.spawn && app.given[l.name] {
			return usagef("--%s says all that the flags of spawnctl's say; give one of them", l.name)
		}
		if l.spawn {
			*l.addr = ""
		}
	}
	return nil
}

// setup is what the file and the flags say.
func (c *mirrorRunCmd) setup(app *App) (*mirrorSetup, error) {
	if err := c.preferSpawn(app); err != nil {
		return nil, err
	}
	s, err := readMirrorFile(c.File)
	if err != nil {
		return nil, err
	}
	return c.complete(s)
}

// complete puts the flags over what a file says, and the defaults under it.
func (c *mirrorRunCmd) complete(s *mirrorSetup) (*mirrorSetup, error) {
	c.apply(s)
	s.Name, s.Exact, s.Test = cmp.Or(c.Mirror, s.Name), c.Exact, c.Test || s.Test
	s.HTTP, s.Admin = cmp.Or(c.HTTP, s.HTTP, defaultMirror), cmp.Or(c.Admin, s.Admin, defaultMirrorAdmin)
	if c.TLSCert != "" {
		s.TLSCert, s.TLSKey = c.TLSCert, c.TLSKey
	}
	s.TokenFile, s.Hosts = cmp.Or(c.TokenFile, s.TokenFile), append(s.Hosts, c.AllowHost...)
	if c.Exact && len(s.Backends) == 0 {
		return nil, usagef("--exact would delete every backend: the file names none")
	}
	if err := s.Validate(); err != nil {
		return nil, usagef("%s", message(err))
	}
	if _, port, _ := net.SplitHostPort(s.HTTP); port != "0" && withHost(s.HTTP) == withHost(s.Admin) {
		return nil, usagef("clients and the admin API cannot both come in at %s; --admin %s moves the latter", s.HTTP, defaultMirrorAdmin)
	}
	return s, nil
}

// Run runs the mirror until ctx ends.
func (c *mirrorRunCmd) Run(ctx context.Context, app *App) error {
	s, err := c.setup(app)
	if err != nil {
		return err
	}
	if s.Test {
		return s.report(app, c.File)
	}
	var l mirrorListeners
	flags := partFlags{PortsFile: c.PortsFile, storeFlags: c.storeFlags}
	return flags.run(ctx, app, part{
		name:   "mirror",
		drain:  cmp.Or(s.Drain, mirror.DefaultDrain),
		listen: func(ctx context.Context, p *platform) error { return l.listen(ctx, app, p, s, "") },
		serve:  func(ctx context.Context, p *platform) error { return s.start(ctx, app, p, &l) },
	})
}

// report says that nothing is wrong.
func (s *mirrorSetup) report(app *App, file string) error {
	for _, note := range s.Notes {
		if file != "" {
			note = file + ": " + note
		}
		app.note("%s", note)
	}
	found := map[string]any{"mirror": cmp.Or(s.Name, mirror.DefaultName), "http": s.HTTP, "admin": s.Admin, "backends": len(s.Backends)}
	return printOne(app, found, [][]any{{"mirror", found["mirror"]}, {"http", s.HTTP}, {"admin", s.Admin}, {"backends", len(s.Backends)}, {"file", cmp.Or(file, "none") + ": no mistake in it"}})
}

// warn says on the log what an operator might not expect.
func (s *mirrorSetup) warn(app *App) {
	for _, note := range s.Notes {
		app.log.Warn("not as Spawn had it", "note", note)
	}
	warnOpen(app, "mirror", s.HTTP)
}

// mirrorListeners are where a mirror's clients and operators come in.
type mirrorListeners struct {
	http, admin net.Listener // admin may be nil
	tls         *tls.Config
	tokens      []string
}

// listen takes the addresses, and reads what is needed before anything is started. The names of the flags begin with prefix.
func (l *mirrorListeners) listen(ctx context.Context, app *App, p *platform, s *mirrorSetup, prefix string) (err error) {
	if l.tls, err = loadTLS(app.log.With("component", "mirror"), s.TLSCert, s.TLSKey); err != nil {
		return err
	}
	if l.tokens, err = readTokens(s.TokenFile); err != nil {
		return err
	}
	if l.http, err = listen(ctx, "clients of the mirror", "--"+prefix+"http", s.HTTP); err != nil {
		return err
	}
	p.onClose(l.http.Close)
	p.mirrorURL = schemeURL(l.http, l.tls != nil)
	if s.Admin == noListener {
		return nil
	}
	if l.admin, err = listen(ctx, "admin API of the mirror", "--"+prefix+"admin", s.Admin); err != nil {
		return err
	}
	p.onClose(l.admin.Close)
	p.mirrorAdminURL = schemeURL(l.admin, l.tls != nil)
	return nil
}

// start opens the mirror, with the backends of the file, and serves it until the platform is closed.
func (s *mirrorSetup) start(ctx context.Context, app *App, p *platform, l *mirrorListeners) error {
	s.warn(app)
	cfg := s.Config
	cfg.Logger = p.conn.Logger()
	open, cancel := app.toStart(ctx)
	defer cancel()
	m, err := mirror.Open(open, p.conn, cfg)
	if err != nil {
		return err
	}
	p.mirror = m
	p.onClose(m.Close)
	if err := s.seed(open, app, m); err != nil {
		return err
	}
	p.run(ctx, m.Run)
	srv := httpx.Server{
		Handler: m, Timeout: max(cfg.AnswerTimeout, mirror.DefaultAnswerTimeout) + max(cfg.ReadTimeout, mirror.DefaultReadTimeout),
		Drain: cmp.Or(cfg.Drain, mirror.DefaultDrain), Hosts: lower(s.Hosts), TLS: l.tls, Logger: app.log,
		MaxHeaderBytes: cmp.Or(cfg.MaxHeader, mirror.DefaultMaxHeader) + cmp.Or(cfg.MaxTarget, mirror.DefaultMaxTarget),
	}
	if l.admin != nil {
		if err := s.serveAdmin(ctx, app, p, l); err != nil {
			return err
		}
	}
	p.take(ctx, srv.Drain, func(ctx context.Context) error { return srv.Serve(ctx, l.http) })
	return nil
}

func lower(all []string) []string {
	names := make([]string, 0, len(all))
	for _, s := range all {
		names = append(names, strings.ToLower(s))
	}
	return names
}

// serveAdmin serves the admin API, with the admin pages beside it.
func (s *mirrorSetup) serveAdmin(ctx context.Context, app *App, p *platform, l *mirrorListeners) error {
	v := buildVersion()
	h, err := adminapi.New(p.mirror, adminapi.Config{
		Tokens: l.tokens, TLS: l.tls, Version: v.Version, Built: v.committed, Logger: p.conn.Logger(),
		Pages: adminPages(map[string]func(context.Context) error{"nats": p.natsReady}),
	})
	if err != nil {
		return err
	}
	p.publish()
	p.take(ctx, adminapi.DefaultDrain, func(ctx context.Context) error { return h.Serve(ctx, l.admin) })
	warnOpenAPI(app, "mirror admin", s.Admin, len(l.tokens) > 0, l.tls != nil)
	return nil
}

// seed makes the backends as the file says.
func (s *mirrorSetup) seed(ctx context.Context, app *App, m *mirror.Mirror) error {
	there, err := m.Backends(ctx)
	if err != nil {
		return err
	}
	old := map[string]mirror.Backend{}
	for _, b := range there {
		old[b.Name] = b
	}
	var left []string
	for name := range old {
		switch {
		case slices.ContainsFunc(s.Backends, func(seed mirrorSeed) bool { return seed.Name == name }):
		case s.Exact: // first: a new one may have its address
			if err := m.Delete(ctx, name); err != nil {
				return err
			}
			app.log.WarnContext(ctx, "backend deleted with all that waited for it, as the file does not name it", "backend", name)
		default:
			left = append(left, name)
		}
	}
	for _, seed := range s.Backends {
		before, known := old[seed.Name]
		b := seed.apply(before)
		if known && b == before {
			continue
		}
		if _, err := m.Set(ctx, b); err != nil {
			return err
		}
		if known { // somebody may have changed it since, or have another file
			app.log.InfoContext(ctx, "backend changed, as the file says", "backend", b.Name, "url", b.URL, "url_before", before.URL, "priority", b.Priority, "priority_before", before.Priority)
		}
		if !b.Active {
			app.log.WarnContext(ctx, "backend is not active: it gets nothing", "backend", b.Name)
		}
	}
	if len(left) > 0 && len(s.Backends) > 0 {
		app.log.InfoContext(ctx, "backends that the file does not name stay", "backends", strings.Join(left, " "))
	}
	return nil
}
