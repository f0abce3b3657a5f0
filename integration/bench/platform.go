package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	readyTimeout = 30 * time.Second
	startTimeout = 5 * time.Minute // of a program: a server may have millions of timers to read
	readyPoll    = 200 * time.Microsecond
)

// platform is a running `skybus up`, or another command of the program that keeps running.
type platform struct {
	what   string // the command
	cmd    *exec.Cmd
	ready  time.Duration // from its start until its ports file was there
	urls   map[string]string
	output *bytes.Buffer // complete once it has ended
	ended  chan struct{} // closed then
	err    error         // of its end
	killed bool          // its end is no error
}

const freePort = "127.0.0.1:0"

// startDemo returns when `skybus up --demo --memory` says that it is ready, which is after the first request went through its
// gateway and route.
func startDemo(ctx context.Context, program, dir string) (*platform, error) {
	return startUp(ctx, program, dir, "--demo", "--memory")
}

// startUp starts `skybus up` on free ports.
func startUp(ctx context.Context, program, dir string, args ...string) (*platform, error) {
	return startProgram(ctx, program, dir, "up", upArgs(args...)...)
}

// upArgs are those of `skybus up` on free ports, and others.
func upArgs(others ...string) []string {
	return append(others, "--http", freePort, "--timers", freePort, "--admin", freePort, "--nats", freePort)
}

// startProgram starts a command of the program and returns when that says it is ready.
func startProgram(ctx context.Context, program, dir, command string, args ...string) (*platform, error) {
	words := strings.Fields(command)
	dir, err := os.MkdirTemp(dir, strings.Join(words, "-")+"-")
	if err != nil {
		return nil, err
	}
	ports := filepath.Join(dir, "ports.json")
	p := &platform{what: command, output: &bytes.Buffer{}, ended: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, program, append(append(words, "--ports-file", ports), args...)...)
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(os.Interrupt) }
	p.cmd.WaitDelay = patience
	p.cmd.Env = append(platformEnv(), "TMPDIR="+dir)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	begin := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	if err := p.wait(ctx, ports); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	p.ready = time.Since(begin)
	data, err := os.ReadFile(ports)
	if err == nil {
		err = json.Unmarshal(data, &p.urls)
	}
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// platformEnv is the environment without what would make the platform use a server that is not its own.
func platformEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "NATS_") || strings.HasPrefix(v, "SKYBUS_")
	})
}

// wait returns when the file is there.
func (p *platform) wait(ctx context.Context, file string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("skybus %s: not ready: %w", p.what, context.Cause(ctx))
		case <-p.ended:
			return fmt.Errorf("skybus %s: ended before it was ready", p.what)
		case <-tick.C:
		}
	}
}

// stop stops the platform as Ctrl-C does and waits until it has ended.
func (p *platform) stop() error {
	_ = p.cmd.Process.Signal(os.Interrupt) // or it has ended already, which is seen below
	timer := time.AfterFunc(2*patience, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	<-p.ended
	if p.err != nil && !p.killed {
		return fmt.Errorf("skybus %s: %w: %s", p.what, p.err, bytes.TrimSpace(p.output.Bytes()))
	}
	return nil
}

// kill ends the program as kill -9 does, and waits until it has ended.
func (p *platform) kill() error {
	p.killed = true
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.ended
	return nil
}
