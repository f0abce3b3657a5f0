//go:build unix

package proctest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Platform is a process of skybus that tells by a ports file when it is ready and where.
type Platform struct {
	*Process

	// Ports are the URLs by the names that the ports file gives them, once the platform is ready.
	Ports map[string]string

	programs Programs
	args     []string
	file     string
}

// StartPlatform starts a command of skybus that keeps running and returns when it is ready.
func (d Programs) StartPlatform(t *testing.T, args ...string) *Platform {
	t.Helper()
	p := d.BeginPlatform(t, "skybus "+args[0], args...)
	p.AwaitReady()
	return p
}

// BeginPlatform starts a command of skybus that keeps running and does not wait for it. name is what messages call it.
func (d Programs) BeginPlatform(t *testing.T, name string, args ...string) *Platform {
	t.Helper()
	p := &Platform{programs: d, args: args, file: filepath.Join(t.TempDir(), "ports.json")}
	p.Process = Start(t, name, d.Path("skybus"), append(args, "--ports-file", p.file), nil)
	return p
}

// FollowPlatform is for a process that was started in another way with `--ports-file file`. It cannot be started again.
func FollowPlatform(p *Process, file string) *Platform { return &Platform{Process: p, file: file} }

// AwaitReady returns when the ports file is there, and sets Ports.
func (p *Platform) AwaitReady() {
	p.t.Helper()
	Eventually(p.t, Patience, p.name+" has written its ports file", func() bool {
		if p.HasEnded() {
			p.t.Fatalf("%s ended before it was ready", p.name)
		}
		data, err := os.ReadFile(p.file)
		if err != nil {
			return false
		}
		if err := json.Unmarshal(data, &p.Ports); err != nil {
			p.t.Fatalf("ports file: %v: %s", err, data)
		}
		return true
	})
}

// PortsFile is the path of the ports file, which is there while the platform is ready.
func (p *Platform) PortsFile() string { return p.file }

// Restart starts the command of a process that has ended again, where it was before, and returns when it is ready.
func (p *Platform) Restart() *Platform {
	p.t.Helper()
	next := p.Again()
	next.AwaitReady()
	return next
}

// Again starts the command of a process that has ended again, where it was before, and does not wait for it.
func (p *Platform) Again() *Platform {
	p.t.Helper()
	return p.programs.BeginPlatform(p.t, p.name, p.pinned()...)
}

// pinned are the arguments with free ports replaced by those that were picked.
func (p *Platform) pinned() []string {
	names := map[string]string{"--http": "http", "--timers": "timers", "--admin": "admin", "--nats": "nats", "--cluster-listen": "cluster"}
	switch p.args[0] {
	case "mirror":
		names["--http"], names["--admin"] = "mirror", "mirror_admin"
	case "scheduler":
		names["--http"] = "timers"
	}
	args := slices.Clone(p.args)
	for i, flag := range p.args[:len(p.args)-1] {
		if url, ok := p.Ports[names[flag]]; ok {
			_, args[i+1], _ = strings.Cut(url, "://")
		}
	}
	return args
}
