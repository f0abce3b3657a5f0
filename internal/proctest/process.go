//go:build unix

package proctest

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is a running program under test.
type Process struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	out   *output
	begun time.Time
	ended chan struct{} // closed when it has ended
}

// Start starts the program at path and does not wait for it. name is what messages call it. The program gets the environment of the
// tests without what would lead it to the user's own files and servers (HOME, XDG_*, NATS_*, SKYBUS_*), and env besides. It reads
// nothing until [Process.CloseInput] lets it read the end.
func Start(t *testing.T, name, path string, args, env []string) *Process {
	t.Helper()
	p := &Process{t: t, name: name, out: newOutput(), ended: make(chan struct{})}
	// Not ended with the test's context but in the order of the cleanups, so that clients end before their servers.
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), path, args...)
	p.cmd.Env = append(environment(t), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = processAttributes()
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin, p.begun = stdin, time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() { // ends with the process, which the cleanup waits for
		defer close(p.ended)
		_ = p.cmd.Wait() // the exit code is asked for where it matters
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			p.show()
		}
	})
	return p
}

// show prints the end of what the process wrote, and keeps all of it where `go test -artifacts` asks for that.
func (p *Process) show() {
	fmt.Fprintf(p.t.Output(), "--- %s: %s, process %d, %v:\n%s", p.name, strings.Join(p.cmd.Args, " "), p.PID(), p.cmd.ProcessState, p.out.tail())
	if f := flag.Lookup("test.artifacts"); f == nil || f.Value.String() != "true" {
		return
	}
	file := fmt.Sprintf("%s-%s-%d.log", strings.ReplaceAll(p.name, " ", "-"), p.begun.Format("150405.000"), p.PID())
	if err := os.WriteFile(filepath.Join(p.t.ArtifactDir(), file), []byte(p.Output()), 0o600); err != nil {
		p.t.Error(err)
	}
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

// Name is what messages call the process.
func (p *Process) Name() string { return p.name }

// PID is the id of the process, which another one may have once this one has ended.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Begun is when the process was started.
func (p *Process) Begun() time.Time { return p.begun }

// Output is all that the process has written until now, standard output and standard error as they came.
func (p *Process) Output() string {
	text, _ := p.out.read()
	return text
}

// CloseInput lets the process read the end of its standard input. Twice is as once.
func (p *Process) CloseInput() { _ = p.stdin.Close() }

// Signal sends a signal. That fails the test when the process has ended.
func (p *Process) Signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Errorf("%v to %s: %v", sig, p.name, err)
	}
}

// Freeze stops the process as a swapped-out or hung one would be, and returns when it has stopped.
func (p *Process) Freeze() {
	p.t.Helper()
	p.Signal(syscall.SIGSTOP)
	Eventually(p.t, Patience, p.name+" is stopped", p.stopped)
}

// Thaw lets a frozen process go on.
func (p *Process) Thaw() {
	p.t.Helper()
	p.Signal(syscall.SIGCONT)
}

// stopped tells once, after a signal has stopped the process.
func (p *Process) stopped() bool {
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(p.PID(), &status, syscall.WUNTRACED|syscall.WNOHANG, nil)
	return err == nil && pid == p.PID() && status.Stopped()
}

// Kill ends the process as kill -9 does and returns when it is gone. It may be gone already, or frozen.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Stop asks the process to end, which must succeed within [Patience], and returns how long that took.
func (p *Process) Stop(sig os.Signal) time.Duration {
	p.t.Helper()
	begin := time.Now()
	p.Signal(sig)
	if code := p.Exit(); code != 0 {
		p.t.Errorf("%s ended with %d after %v, want 0", p.name, code, sig)
	}
	return time.Since(begin)
}

// Exit waits for the end of the process and returns its exit code, -1 when a signal ended it.
func (p *Process) Exit() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(Patience):
		p.t.Fatalf("%s has not ended after %v", p.name, Patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

// HasEnded tells whether the process has ended.
func (p *Process) HasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Await waits until the process has written text that matches pattern and returns the match and its groups.
func (p *Process) Await(pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(Patience)
	for {
		text, changed := p.out.read()
		if match := re.FindStringSubmatch(text); match != nil {
			return match
		}
		select {
		case <-changed:
		case <-p.ended:
			if re.MatchString(p.Output()) {
				continue
			}
			p.t.Fatalf("%s ended without writing %q", p.name, pattern)
		case <-deadline:
			p.t.Fatalf("%s has not written %q after %v", p.name, pattern, Patience)
		}
	}
}
