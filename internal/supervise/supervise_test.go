//go:build unix

package supervise_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/internal/supervise"
)

// text is what was written, by any number of writers.
type text struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends.
func (b *text) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *text) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// await waits until text that matches pattern was written and returns the groups of the last match.
func (b *text) await(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var all [][]string
	bustest.Eventually(t, "output that matches "+pattern, func() bool {
		all = re.FindAllStringSubmatch(b.String(), -1)
		return len(all) > 0
	})
	return all[len(all)-1]
}

// run is a supervisor under test.
type run struct {
	*supervise.Supervisor

	out, errs, log *text
	stop           context.CancelFunc
	done           chan error
}

// start runs a shell script.
func start(t *testing.T, script string, cfg supervise.Config) *run {
	t.Helper()
	r := &run{out: &text{}, errs: &text{}, log: &text{}, done: make(chan error, 1)}
	cfg.Command = []string{"sh", "-c", script}
	cfg.Stdout, cfg.Stderr, cfg.Logger = r.out, r.errs, slog.New(slog.NewTextHandler(r.log, nil))
	var err error
	if r.Supervisor, err = supervise.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	ended := make(chan struct{})
	go func() {
		r.done <- r.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		stop()
		r.Kill()
		<-ended
		if t.Failed() {
			t.Logf("stdout:\n%s\nstderr:\n%s\nlog:\n%s", r.out, r.errs, r.log)
		}
	})
	return r
}

// wait is the error that Run returned.
func (r *run) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("it still runs")
		return nil
	}
}

func pid(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// gone tells whether a process has ended: no zombie counts as one that runs.
func gone(pid int) bool {
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		return bytes.Contains(stat, []byte(") Z "))
	}
	return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	ok := []string{"sh"}
	for want, cfg := range map[string]supervise.Config{
		"command is empty":                     {},
		`"no such program"`:                    {Command: []string{"no such program"}},
		"count 257: want 1 to 256":             {Command: ok, Count: 257},
		"count -1: want 1 to 256":              {Command: ok, Count: -1},
		`restart "often": want always`:         {Command: ok, Restart: "often"},
		"backoff max 1ms: want at least 100ms": {Command: ok, BackoffMax: time.Millisecond},
		"stop timeout -1ns: want 0 or more":    {Command: ok, StopTimeout: -1},
		"backoff max -1s: want at least 100ms": {Command: ok, BackoffMax: -time.Second},
		"supervise: ":                          {Command: []string{"./"}},
	} {
		_, err := supervise.New(cfg)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", cfg, err, want)
		}
	}
}

// TestOutput has four copies write at the same time, to both streams, pieces of lines.
func TestOutput(t *testing.T) {
	t.Parallel()
	const lines = 200
	r := start(t, fmt.Sprintf(`
		i=0
		while [ $i -lt %d ]; do
			i=$((i+1)); printf "$NAME "; printf "out $i\n"; printf "$NAME err "; echo $i
		done
		printf "$NAME err of " >&2; echo $i >&2; printf "$NAME no end" >&2`, lines),
		supervise.Config{Name: "echo", Count: 4, NameVariable: "NAME", Restart: supervise.Never})
	if err := r.wait(t); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{}
	for c := 1; c <= 4; c++ {
		for i := 1; i <= lines; i++ {
			want[fmt.Sprintf("echo.%d | echo.%d out %d", c, c, i)]++
			want[fmt.Sprintf("echo.%d | echo.%d err %d", c, c, i)]++
		}
	}
	if diff := cmp.Diff(want, count(r.out.String())); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	want = map[string]int{}
	for c := 1; c <= 4; c++ {
		want[fmt.Sprintf("echo.%d | echo.%d err of %d", c, c, lines)]++
		want[fmt.Sprintf("echo.%d | echo.%d no end", c, c)]++
	}
	if diff := cmp.Diff(want, count(r.errs.String())); diff != "" {
		t.Errorf("stderr (-want +got):\n%s", diff)
	}
}

func count(s string) map[string]int {
	lines := map[string]int{}
	for line := range strings.Lines(s) {
		lines[strings.TrimSuffix(line, "\n")]++
	}
	return lines
}

// A line that never ends costs no memory without end, and names of different length stand in columns.
func TestLongLines(t *testing.T) {
	t.Parallel()
	r := start(t, `head -c 200000 /dev/zero | tr '\0' x; echo; echo done`, supervise.Config{Name: "x", Count: 10, Restart: supervise.Never, StdoutColor: true})
	if err := r.wait(t); err != nil {
		t.Fatal(err)
	}
	sum := 0
	for line := range strings.Lines(r.out.String()) {
		text, ok := strings.CutPrefix(line, "\x1b[36mx.1  | \x1b[0m")
		if ok {
			sum += strings.Count(text, "x")
		}
		if len(line) > 64<<10+40 || !strings.HasPrefix(line, "\x1b[") {
			t.Errorf("line of %d bytes: %.40q", len(line), line)
		}
	}
	if sum != 200000 {
		t.Errorf("%d bytes of x.1, want 200000", sum)
	}
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		restart supervise.Restart
		script  string // of the first run; later ones exit with 0
		runs    int
		err     string
	}{
		{supervise.Never, "exit 3", 1, "supervise: sh.1: exit status 3"},
		{supervise.Never, "exit 0", 1, ""},
		{supervise.Never, "kill -9 $$", 1, "supervise: sh.1: signal: killed"},
		{supervise.OnFailure, "exit 0", 1, ""},
		{supervise.OnFailure, "exit 3", 2, ""},
		{supervise.Always, "exit 0", 2, "-"},
	} {
		dir := t.TempDir()
		r := start(t, fmt.Sprintf("cd %s; echo run; mkdir first && { %s; }; mkdir second && exit 0; sleep 60", dir, tt.script), supervise.Config{Restart: tt.restart})
		if tt.err == "-" {
			bustest.Eventually(t, "three runs", func() bool { return strings.Count(r.out.String(), "run") == 3 })
			continue
		}
		err := r.wait(t)
		if got := strings.Count(r.out.String(), "run"); got != tt.runs || fmt.Sprint(err) != tt.err && (err != nil || tt.err != "") {
			t.Errorf("%s, %s: %d runs, error %v, want %d, %q", tt.restart, tt.script, got, err, tt.runs, tt.err)
		}
	}
}

// TestCrashLoop is reported with all that there is to say, and a stop need not wait for the next try.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	r := start(t, "exit 3", supervise.Config{Name: "bad", BackoffMax: time.Hour})
	r.log.await(t, `level=WARN msg="exits again and again" .*instance=bad\.1 exits=5 within=\S+ last="exit status 3" next_try=[\d.]+m?s`)
	begin := time.Now()
	r.stop()
	if err, took := r.wait(t), time.Since(begin); err != nil || took > time.Second {
		t.Errorf("stopped with %v after %v", err, took)
	}
}

// A program that is replaced by something that cannot run is one that keeps exiting.
func TestProgramGone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nrm $0\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	log := &text{}
	s, err := supervise.New(supervise.Config{Command: []string{path}, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	log.await(t, `exits again and again.*last="start: .*no such file`)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestStopInOrder(t *testing.T) {
	t.Parallel()
	r := start(t, `trap 'echo draining; sleep 0.2; echo drained; exit 7' TERM; echo up; while :; do sleep 0.02; done`, supervise.Config{Count: 3})
	bustest.Eventually(t, "all are up", func() bool { return strings.Count(r.out.String(), "up\n") == 3 })
	r.stop()
	if err := r.wait(t); err != nil {
		t.Error(err)
	}
	if err := r.Run(t.Context()); err == nil || err.Error() != "supervise: Run was called before" {
		t.Errorf("the second Run: %v", err)
	}
	if got := strings.Count(r.out.String(), "drained\n"); got != 3 {
		t.Errorf("%d were drained, want 3", got)
	}
}

// TestStopTimeout has copies that do not want to end: they are killed when their time is over, or at once when asked for.
func TestStopTimeout(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		timeout time.Duration
		kill    bool
	}{{200 * time.Millisecond, false}, {time.Hour, true}} {
		r := start(t, `trap '' TERM; echo up; while :; do sleep 0.02; done`, supervise.Config{Count: 2, StopTimeout: tt.timeout})
		bustest.Eventually(t, "both are up", func() bool { return strings.Count(r.out.String(), "up\n") == 2 })
		children := r.Running()
		begin := time.Now()
		r.stop()
		if tt.kill {
			r.Kill()
			r.Kill()
		}
		err := r.wait(t)
		took := time.Since(begin)
		if want := "supervise: sh.1 had to be killed\nsupervise: sh.2 had to be killed"; fmt.Sprint(err) != want || took > 5*time.Second || took < tt.timeout && !tt.kill {
			t.Errorf("%+v: error %v after %v, want %s", tt, err, took, want)
		}
		for _, c := range children {
			if !gone(c.PID) {
				t.Errorf("%+v: %s still runs", tt, c.Name)
			}
		}
	}
}

// TestFamily has copies that start a process: it ends with its parent, and is given the same time to stop.
func TestFamily(t *testing.T) {
	t.Parallel()
	r := start(t, `sh -c 'trap "echo child drained; exit" TERM; echo child $$ up; while :; do sleep 0.02; done' & echo parent $$; wait`, supervise.Config{})
	child := pid(t, r.out.await(t, `child (\d+) up`)[1])
	first := r.Running()[0]
	if !first.Owns(child) || !first.Owns(first.PID) || first.Owns(os.Getpid()) || first.Owns(0) {
		t.Errorf("%+v: owns child %v, itself %v, this process %v", first, first.Owns(child), first.Owns(first.PID), first.Owns(os.Getpid()))
	}
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "the child is gone too", func() bool { return gone(child) })
	bustest.Eventually(t, "another child", func() bool { return strings.Count(r.out.String(), " up\n") == 2 })
	r.stop()
	if err := r.wait(t); err != nil {
		t.Error(err)
	}
	if !strings.Contains(r.out.String(), "child drained") {
		t.Error("the second child was not given time to stop")
	}
}

// TestReplace kills a copy that is stopped and would not hear of a SIGTERM. The policy does not matter.
func TestReplace(t *testing.T) {
	t.Parallel()
	r := start(t, `echo up; kill -STOP $$; sleep 60`, supervise.Config{Restart: supervise.Never})
	r.out.await(t, "up")
	hung := r.Running()[0]
	if !r.Replace(hung, "it is too quiet") {
		t.Error("the copy was not known")
	}
	bustest.Eventually(t, "another", func() bool { return strings.Count(r.out.String(), "up") == 2 })
	if !gone(hung.PID) {
		t.Error("the hung one still runs")
	}
	if r.Replace(hung, "again") {
		t.Error("one that was replaced was replaced again")
	}
	r.log.await(t, `msg="hung, is replaced" .*instance=sh\.1 .*reason="it is too quiet"`)
	begin := time.Now()
	r.stop()
	r.Kill()
	if err := r.wait(t); err == nil || time.Since(begin) > 5*time.Second {
		t.Errorf("killed with error %v after %v", err, time.Since(begin))
	}
}

// TestOutputHeldOpen has a process leave the group and hold on to the output: the copy is started again nevertheless.
func TestOutputHeldOpen(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("there is no setsid to leave a group with")
	}
	r := start(t, `setsid sh -c 'echo left $$; exec sleep 60' & sleep 0.2; exit 1`, supervise.Config{})
	left := pid(t, r.out.await(t, `left (\d+)`)[1])
	t.Cleanup(func() { _ = syscall.Kill(left, syscall.SIGKILL) })
	bustest.Eventually(t, "two starts", func() bool {
		for _, m := range regexp.MustCompile(`left (\d+)`).FindAllStringSubmatch(r.out.String(), -1) {
			p := pid(t, m[1])
			t.Cleanup(func() { _ = syscall.Kill(p, syscall.SIGKILL) })
		}
		return strings.Count(r.out.String(), "left") >= 2
	})
	if gone(left) {
		t.Error("who left the group was killed")
	}
}

// TestSupervisorKilled kills the supervisor, whose copies end with it where the system can do that.
func TestSupervisorKilled(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := &text{}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), helperVariable+"=echo up $$; exec sleep 60")
	cmd.Stdout, cmd.WaitDelay = out, time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	up := regexp.MustCompile(`up (\d+)`)
	bustest.Eventually(t, "both copies run", func() bool { return len(up.FindAllString(out.String(), -1)) == 2 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	for _, m := range up.FindAllStringSubmatch(out.String(), -1) {
		copied := pid(t, m[1])
		if !deathSignal {
			_ = syscall.Kill(copied, syscall.SIGKILL)
			continue
		}
		bustest.Eventually(t, "the copy is gone", func() bool { return gone(copied) })
	}
}

func ExampleSupervisor() {
	s, err := supervise.New(supervise.Config{
		Command: []string{"sh", "-c", "echo $NAME is here"},
		Name:    "worker", NameVariable: "NAME", Restart: supervise.OnFailure, Stdout: os.Stdout,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Run(context.Background()))
	// Output:
	// worker.1 | worker.1 is here
	// <nil>
}
