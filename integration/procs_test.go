//go:build unix

package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	patience = time.Minute          // for what has no deadline of its own
	shortest = 2 * time.Millisecond // between two looks
	longest  = 50 * time.Millisecond
)

// process is a running program under test. It is killed when its test ends, and shows what it wrote if that failed.
type process struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	out   *output
	since time.Time     // when it was started
	ended chan struct{} // closed when it has ended
}

// start starts one of the programs that TestMain built.
func start(t *testing.T, program string, args ...string) *process {
	t.Helper()
	return startCommand(t, program, filepath.Join(os.Getenv(programsVariable), program), args, nil)
}

func startCommand(t *testing.T, name, path string, args, env []string) *process {
	t.Helper()
	p := &process{t: t, name: name, out: newOutput(), ended: make(chan struct{})}
	// Not ended with the test's context but in the order of the cleanups, so that clients end before their servers.
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), path, args...)
	p.cmd.Env = append(environment(t), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = processAttributes()
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin, p.since = stdin, time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() { // ends with the process, which the cleanup waits for
		defer close(p.ended)
		_ = p.cmd.Wait() // the exit code is asked for where it matters
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			fmt.Fprintf(t.Output(), "--- %s, process %d, %v:\n%s", strings.Join(p.cmd.Args, " "), p.cmd.Process.Pid, p.cmd.ProcessState, p.out.tail())
		}
	})
	return p
}

// environment is that of this process without what would lead a program to the user's own files and servers.
func environment(t *testing.T) []string {
	t.Helper()
	env := []string{"HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir(), "GORACE=atexit_sleep_ms=0"}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch {
		case name == "HOME", name == "TMPDIR", name == "GORACE", strings.HasPrefix(name, "XDG_"),
			strings.HasPrefix(name, "NATS_"), strings.HasPrefix(name, "SKYBUS_"):
		default:
			env = append(env, v)
		}
	}
	return env
}

// run runs one of the programs to its end and returns its exit code and what it wrote.
func run(t *testing.T, program string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errs strings.Builder
	cmd := exec.CommandContext(ctx, filepath.Join(os.Getenv(programsVariable), program), args...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = environment(t), &out, &errs, processAttributes()
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok || ctx.Err() != nil {
		t.Fatalf("%s %q: %v\n%s%s", program, args, err, out.String(), errs.String())
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// skybus runs a command against a server, which must succeed, and returns what it printed.
func skybus(t *testing.T, server string, args ...string) string {
	t.Helper()
	code, stdout, stderr := run(t, "skybus", append(args, "--server", server)...)
	if code != 0 {
		t.Fatalf("skybus %q ended with %d:\n%s%s", args, code, stdout, stderr)
	}
	return stdout
}

// platform is a process that tells by a ports file when it is ready and where.
type platform struct {
	*process

	args  []string
	file  string
	ports map[string]string // URLs by name
}

// startPlatform starts a command of skybus that keeps running and returns when it is ready.
func startPlatform(t *testing.T, args ...string) *platform {
	t.Helper()
	p := &platform{args: args, file: filepath.Join(t.TempDir(), "ports.json")}
	p.process = start(t, "skybus", append(args, "--ports-file", p.file)...)
	p.ready()
	return p
}

// startUp starts `skybus up` on free ports.
func startUp(t *testing.T, args ...string) *platform {
	t.Helper()
	free := []string{"up", "--http", "127.0.0.1:0", "--timers", "127.0.0.1:0", "--admin", "127.0.0.1:0"}
	if !slices.Contains(args, "--server") {
		free = append(free, "--nats", "127.0.0.1:0")
	}
	return startPlatform(t, append(free, args...)...)
}

// startServer starts `skybus server` on a free port.
func startServer(t *testing.T, args ...string) *platform {
	t.Helper()
	return startPlatform(t, append([]string{"server", "--nats", "127.0.0.1:0", "--data", t.TempDir()}, args...)...)
}

// restart starts the command of a process that has ended again, where it was before.
func (p *platform) restart() *platform {
	p.t.Helper()
	return startPlatform(p.t, p.pinned()...)
}

// pinned are the arguments with free ports replaced by those that were picked.
func (p *platform) pinned() []string {
	names := map[string]string{"--http": "http", "--timers": "timers", "--admin": "admin", "--nats": "nats", "--cluster-listen": "cluster"}
	if p.args[0] == "mirror" {
		names["--http"], names["--admin"] = "mirror", "mirror_admin"
	}
	args := slices.Clone(p.args)
	for i, flag := range p.args[:len(p.args)-1] {
		if url, ok := p.ports[names[flag]]; ok {
			_, args[i+1], _ = strings.Cut(url, "://")
		}
	}
	return args
}

func (p *platform) ready() {
	p.t.Helper()
	eventually(p.t, patience, p.name+" has written its ports file", func() bool {
		if p.hasEnded() {
			p.t.Fatalf("%s ended before it was ready", p.name)
		}
		data, err := os.ReadFile(p.file)
		if err != nil {
			return false
		}
		if err := json.Unmarshal(data, &p.ports); err != nil {
			p.t.Fatalf("ports file: %v: %s", err, data)
		}
		return true
	})
}

func (p *process) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Errorf("%v to %s: %v", sig, p.name, err)
	}
}

// freeze stops the process as a swapped-out or hung one would be, and returns when it has stopped.
func (p *process) freeze() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	eventually(p.t, patience, p.name+" is stopped", p.stopped)
}

func (p *process) thaw() {
	p.t.Helper()
	p.signal(syscall.SIGCONT)
}

// stopped tells once, after a signal has stopped the process.
func (p *process) stopped() bool {
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED|syscall.WNOHANG, nil)
	return err == nil && pid == p.cmd.Process.Pid && status.Stopped()
}

// kill ends the process as kill -9 does and returns when it is gone. It may be gone already.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// stop asks the process to end, which must succeed, and returns how long that took.
func (p *process) stop(sig os.Signal) time.Duration {
	p.t.Helper()
	begin := time.Now()
	p.signal(sig)
	if code := p.exit(); code != 0 {
		p.t.Errorf("%s ended with %d after %v, want 0", p.name, code, sig)
	}
	return time.Since(begin)
}

// exit waits for the end of the process and returns its exit code, -1 when a signal ended it.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("%s has not ended after %v", p.name, patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// await waits until the process has written text that matches pattern and returns the match and its groups.
func (p *process) await(pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(patience)
	for {
		text, changed := p.out.read()
		if match := re.FindStringSubmatch(text); match != nil {
			return match
		}
		select {
		case <-changed:
		case <-p.ended:
			if text, _ := p.out.read(); re.MatchString(text) {
				continue
			}
			p.t.Fatalf("%s ended without writing %q", p.name, pattern)
		case <-deadline:
			p.t.Fatalf("%s has not written %q after %v", p.name, pattern, patience)
		}
	}
}

// eventually returns when a condition holds. The longer it waits the more seldom it looks.
func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	for begin := time.Now(); !holds(); time.Sleep(shortest + min(time.Since(begin)/10, longest)) {
		if time.Since(begin) > within {
			t.Fatalf("not so after %v: %s", within, what)
		}
	}
}

// output is what a process has written.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed at the next write
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

// Write appends.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(b)
}

func (o *output) read() (text string, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.changed
}

const tailBytes = 8 << 10

// tail is the end of the text, where the reasons are.
func (o *output) tail() string {
	text, _ := o.read()
	if len(text) > tailBytes {
		text = "...\n" + text[len(text)-tailBytes:]
	}
	return text
}
