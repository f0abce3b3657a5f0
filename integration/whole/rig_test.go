//go:build unix

package whole_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/proctest"
	"github.com/skybus-io/skybus/micro"
)

// The kinds of processes of skybus.
const (
	serverKind    = "server"
	gatewayKind   = "gateway"
	routerKind    = "router"
	schedulerKind = "scheduler"
	mirrorKind    = "mirror"
	filesKind     = "files"
	serviceKind   = "service" // a child; so are backendRole and receiverRole
)

// anywhere is a free port, which stays the same when a process is started again.
const anywhere = "127.0.0.1:0"

// elections is how long a cluster may be without a leader: an election takes 4 to 9 s, and as much again each time that the votes are
// split, as they are when the machine is busy.
const elections = time.Minute

// rig is the system with all its processes.
type rig struct {
	t        *testing.T
	sys      *system
	programs proctest.Programs
	units    []*unit // in the order in which they were started
	client   *micro.Client
	probes   *probes
}

// startRig starts all processes and returns when they are ready.
func startRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, programs: proctest.Programs(os.Getenv(programsVariable)), sys: &system{dir: t.TempDir(), drop: t.TempDir()}, probes: &probes{}}
	r.sys.program = r.programs.Path("skybus")
	r.startServers()
	prepareLoad(t, r.sys)
	var backends, mirrors, gateways, schedulers []*unit
	for i := range 3 {
		backends = append(backends, r.add(backendRole, i+1).as(child{Role: backendRole}))
	}
	r.run(backends...)
	r.sys.backends = urls(backends, "")
	file := r.mirrorFile()
	for i := range 2 {
		mirrors = append(mirrors, r.add(mirrorKind, i+1).by("mirror", "run", "-f", file, "--http", anywhere, "--admin", anywhere))
	}
	r.run(mirrors...)
	r.sys.mirrors, r.sys.admins = urls(mirrors, "mirror"), urls(mirrors, "mirror_admin")
	for i := range 2 {
		schedulers = append(schedulers, r.add(schedulerKind, i+1).by("scheduler", "--http", anywhere, "--allow-network", "127.0.0.0/8", "--admin", anywhere))
	}
	r.run(schedulers...)
	r.sys.schedulers = urls(schedulers, "timers")
	receiver := r.add(receiverRole, 1).as(child{Role: receiverRole, Mirrors: r.sys.mirrors})
	rest := []*unit{receiver}
	for _, name := range services() {
		for i := range 3 {
			u := r.add(serviceKind, i+1).as(child{Role: name, Schedulers: r.sys.schedulers})
			u.name = fmt.Sprintf("%s-%d", name, i+1)
			rest = append(rest, u)
		}
	}
	for i := range 2 {
		rest = append(rest, r.add(routerKind, i+1).by("router", "--instance", fmt.Sprintf("router-%d", i+1), "--admin", anywhere))
		gateways = append(gateways, r.add(gatewayKind, i+1).by("gateway", "--http", anywhere, "--admin", anywhere))
	}
	rest = append(rest, r.add(filesKind, 1).by("files", "-f", r.filesFile(), "--admin", anywhere))
	r.run(append(rest, gateways...)...)
	r.sys.receiver, r.sys.gateways = urls(rest[:1], "")[0], urls(gateways, "http")
	r.open()
	return r
}

// startServers starts the cluster and returns when all of it stores.
func (r *rig) startServers() {
	r.t.Helper()
	args := func(more ...string) []string {
		return append([]string{"server", "--nats", anywhere, "--cluster", "whole", "--cluster-listen", anywhere, "--data", r.t.TempDir(), "--sync", "2m"}, more...) // no power fails here
	}
	first := r.add(serverKind, 1).by(args("--name", "server-1")...)
	r.run(first)
	servers := []*unit{first}
	for i := 2; i <= 3; i++ {
		servers = append(servers, r.add(serverKind, i).by(args("--name", fmt.Sprintf("server-%d", i), "--routes", first.platform.Ports["cluster"])...))
	}
	r.run(servers[1:]...)
	r.sys.servers = urls(servers, "nats")
}

func (r *rig) mirrorFile() string {
	lines := []string{"name: whole", "lanes: 16", "hosts: [" + mirrorHost + "]", "retry: {timeout: " + mirrorTimeout.String() + ", tries: 1000}", "backends:"}
	for i, url := range r.sys.backends {
		lines = append(lines, fmt.Sprintf("  - {name: backend-%d, url: %q}", i+1, url))
	}
	return r.file("mirror.yaml", lines...)
}

func (r *rig) filesFile() string {
	return r.file("files.yaml", "sources:", "  - name: whole", "    dir: "+r.sys.drop, "    lease: 2s", "    quiet: 50ms", "    rescan: 200ms", "    window: 100",
		"    format: ndjson", "    target: {call: "+fileTarget+"}")
}

func (r *rig) file(name string, lines ...string) string {
	r.t.Helper()
	path := filepath.Join(r.sys.dir, name)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// open makes the rig a client of the system.
func (r *rig) open() {
	r.t.Helper()
	conn, err := bus.Connect(r.t.Context(), bus.Config{Server: r.sys.server(), Name: "rig"})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	if r.client, err = micro.NewClient(r.t.Context(), conn, micro.ClientConfig{Name: "rig"}); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = r.client.Close() })
}

// add makes a unit that nothing is known of yet.
func (r *rig) add(kind string, number int) *unit {
	u := &unit{rig: r, kind: kind, name: fmt.Sprintf("%s-%d", kind, number)}
	r.units = append(r.units, u)
	return u
}

// run starts units side by side and returns when all are ready.
func (r *rig) run(units ...*unit) {
	r.t.Helper()
	for _, u := range units {
		u.start()
	}
	for _, u := range units {
		u.ready()
	}
}

// of are the units of a kind.
func (r *rig) of(kind string) []*unit {
	var some []*unit
	for _, u := range r.units {
		if u.kind == kind {
			some = append(some, u)
		}
	}
	return some
}

func urls(units []*unit, name string) []string {
	var all []string
	for _, u := range units {
		url := u.url
		if u.platform != nil {
			url = u.platform.Ports[name]
		}
		all = append(all, url)
	}
	return all
}

// unit is one place in the system, and the process that has it now: a command of skybus, or a child.
type unit struct {
	rig        *rig
	kind, name string
	process    *proctest.Process

	args     []string
	platform *proctest.Platform

	child child
	url   string
}

// by makes it a command of skybus.
func (u *unit) by(args ...string) *unit {
	if u.kind != serverKind {
		args = append(args, "--server", u.rig.sys.server())
	}
	u.args = args
	return u
}

// as makes it a child.
func (u *unit) as(c child) *unit {
	u.child = c
	return u
}

// start starts it, for the first time or again where it was, and does not wait for it.
func (u *unit) start() {
	t := u.rig.t
	t.Helper()
	switch {
	case u.args == nil:
		u.startChild()
	case u.platform == nil:
		u.platform = u.rig.programs.BeginPlatform(t, u.name, u.args...)
		u.process = u.platform.Process
	default:
		u.platform = u.platform.Again()
		u.process = u.platform.Process
	}
}

func (u *unit) startChild() {
	t := u.rig.t
	t.Helper()
	c := &u.child
	c.Name, c.Server, c.Dir = u.name, u.rig.sys.server(), u.rig.sys.dir
	if c.Listen == "" {
		c.Listen = anywhere
	}
	self, err := childProgram()
	if err != nil {
		t.Fatal(err)
	}
	u.process = proctest.Start(t, u.name, self, nil, []string{childVariable + "=" + toJSON(t, c)})
}

// ready returns when it serves.
func (u *unit) ready() {
	u.rig.t.Helper()
	if u.platform != nil {
		u.platform.AwaitReady()
		return
	}
	u.url = u.process.Await(`(?m)^ready (\S*)$`)[1]
	if u.url != "" {
		_, u.child.Listen, _ = strings.Cut(u.url, "://")
	}
}

// admin is the URL of its admin pages, if it has any.
func (u *unit) admin() string {
	switch {
	case u.platform == nil:
		return ""
	case u.kind == mirrorKind:
		return u.platform.Ports["mirror_admin"]
	default:
		return u.platform.Ports["admin"]
	}
}
