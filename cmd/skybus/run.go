package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/skybus-io/skybus/internal/supervise"
)

// copyVariable tells each copy which one it is.
const copyVariable = "SKYBUS_RUN_NAME"

type runCmd struct {
	Count       int           `help:"How many copies to run, 1 to 256." default:"1" env:"-"`
	Name        string        `help:"Name of the copies: NAME.1, NAME.2 and so on. Default: the program's." placeholder:"NAME" env:"-"`
	Restart     string        `help:"Which copies to start again when they end: always, on-failure or never." enum:"always,on-failure,never" default:"always"`
	BackoffMax  time.Duration `help:"Longest wait before a copy is started again that keeps ending." default:"30s"`
	StopTimeout time.Duration `help:"How long a copy may take to stop before it is killed." default:"15s"`
	Env         []string      `help:"Variable to set for the copies; may be repeated." placeholder:"KEY=VALUE" sep:"none" env:"-"`
	Command     []string      `arg:"" passthrough:"partial" help:"Program and its arguments, after --."`
}

// Help is shown below the usage.
func (*runCmd) Help() string {
	return `A copy that ends is started again: at once when it had run for a while, else after a wait that doubles up to --backoff-max. A
copy is hung when a service in it, as the registry knows it by host and process id, gives no sign of life and does not
answer a ping; then it is killed and replaced. A program that registers no service is watched by its exit only.

What the copies write is written on, line by line, the copy's name in front. They get --server, --namespace and the other
connection flags as SKYBUS_SERVER, SKYBUS_NAMESPACE and so on, and their own name as ` + copyVariable + `; their standard
input is empty.

Ctrl-C stops all in order (SIGTERM, then SIGKILL after --stop-timeout), a second one kills them at once. What a copy started ends
with it, save on Windows. If skybus itself is killed, Linux kills the copies too; other systems let them go on.

Examples:

    skybus run -n 2 -- ./service --verbose
    skybus run -n 4 --name worker --env LEVEL=3 --server nats://nats.example.org:4222 -- ./worker
    skybus run --restart on-failure --stop-timeout 1m -- ./batch`
}

// Validate finds the mistakes that need no look at the machine.
func (c *runCmd) Validate() error {
	c.Command = slices.Clone(c.Command)
	if len(c.Command) > 0 && c.Command[0] == "--" {
		c.Command = c.Command[1:]
	}
	switch {
	case len(c.Command) == 0 || c.Command[0] == "":
		return errors.New(`expected "<command> ...": the program to run`)
	case c.Count < 1 || c.Count > supervise.MaxCount:
		return fmt.Errorf("--count %d: want 1 to %d", c.Count, supervise.MaxCount)
	case c.BackoffMax < supervise.MinBackoffMax:
		return fmt.Errorf("--backoff-max %v: want at least %v", c.BackoffMax, supervise.MinBackoffMax)
	case c.StopTimeout <= 0:
		return fmt.Errorf("--stop-timeout %v: want more than 0", c.StopTimeout)
	case strings.ContainsFunc(c.Name, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return fmt.Errorf("--name %q: want no spaces and no control characters", c.Name)
	}
	for _, v := range c.Env {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
			return fmt.Errorf("--env %q: want KEY=VALUE", v)
		}
	}
	return nil
}

func (*runCmd) daemon() {}

// Run keeps the copies running until ctx ends.
func (c *runCmd) Run(ctx context.Context, app *App) error {
	if _, err := app.busConfig(); err != nil {
		return err
	}
	_, plain := os.LookupEnv("NO_COLOR")
	sup, err := supervise.New(supervise.Config{
		Command: c.Command, Name: c.Name, Count: c.Count, Restart: supervise.Restart(c.Restart),
		Env: append(os.Environ(), slices.Concat(app.connectVariables(), c.Env)...), NameVariable: copyVariable,
		BackoffMax: c.BackoffMax, StopTimeout: c.StopTimeout,
		Stdout: app.stdout, Stderr: app.stderr,
		StdoutColor: !plain && isTerminal(app.stdout), StderrColor: !plain && isTerminal(app.stderr),
		Logger: app.log,
	})
	if errors.Is(err, exec.ErrNotFound) {
		return withHint(err, "the program is the first word after --; one of this directory is ./NAME")
	}
	if err != nil {
		return err
	}
	ctx, release := heedSignals(ctx, sup)
	defer release()
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { watchCopies(watching, app, sup) })
	err = sup.Run(ctx)
	stop()
	watch.Wait()
	return err
}

// heedSignals kills the copies at the second signal, and stops them at the first hangup: a terminal that is closed sends it.
func heedSignals(ctx context.Context, sup *supervise.Supervisor) (_ context.Context, release func()) {
	ctx, stop := context.WithCancel(ctx)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(signals, syscall.SIGHUP)
	}
	done := make(chan struct{})
	var heeding sync.WaitGroup
	heeding.Go(func() {
		for count := 1; ; count++ {
			select {
			case <-signals:
			case <-done:
				return
			}
			stop() // the first ends ctx by itself, but for a hangup
			if count > 1 {
				sup.Kill()
			}
		}
	})
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		heeding.Wait()
		stop()
	}
}

// connectVariables hand on to programs how this one was told to connect.
func (a *App) connectVariables() []string {
	var env []string
	for _, v := range []struct{ flag, name, value string }{
		{"server", "SKYBUS_SERVER", a.Server},
		{"context", "SKYBUS_CONTEXT", a.Context},
		{"namespace", "SKYBUS_NAMESPACE", a.Namespace},
		{"creds", "SKYBUS_CREDS", a.Creds},
		{"nkey", "SKYBUS_NKEY", a.NKey},
		{"user", "SKYBUS_USER", a.User},
		{"password", "SKYBUS_PASSWORD", a.Password},
		{"password-file", "SKYBUS_PASSWORD_FILE", a.PasswordFile},
		{"tlscert", "SKYBUS_TLSCERT", a.TLSCert},
		{"tlskey", "SKYBUS_TLSKEY", a.TLSKey},
		{"tlsca", "SKYBUS_TLSCA", a.TLSCA},
	} {
		if a.given[v.flag] {
			env = append(env, v.name+"="+v.value)
		}
	}
	return env
}

// takeShort gives -n to run's number of copies: within run, the namespace has only its long flag. kong looks through the
// flags of parents first, so run is given a parent of its own.
func takeShort(root *kong.Node) {
	run := childOf(root, "run")
	if run == nil {
		return
	}
	parent := *root
	parent.Flags = slices.Clone(root.Flags)
	for i, f := range parent.Flags {
		if f.Short == 'n' {
			long := *f
			long.Short = 0
			parent.Flags[i] = &long
		}
	}
	run.Parent = &parent
	flagOf(run, "--count").Short = 'n'
}
