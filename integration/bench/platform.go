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
	readyPoll    = 200 * time.Microsecond
)

// platform is a running `skybus up --demo --memory`.
type platform struct {
	cmd    *exec.Cmd
	ready  time.Duration // from its start until its ports file was there
	urls   map[string]string
	output *bytes.Buffer // complete once it has ended
	ended  chan struct{} // closed then
	err    error         // of its end
}

// startPlatform returns when the platform says that it is ready, which is after the first request went through its
// gateway and route.
func startPlatform(ctx context.Context, program, dir string) (*platform, error) {
	dir, err := os.MkdirTemp(dir, "up-")
	if err != nil {
		return nil, err
	}
	ports := filepath.Join(dir, "ports.json")
	const free = "127.0.0.1:0"
	p := &platform{output: &bytes.Buffer{}, ended: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, program, "up", "--demo", "--memory", "--http", free, "--timers", free, "--admin", free, "--nats", free, "--ports-file", ports)
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
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("skybus up: not ready: %w", context.Cause(ctx))
		case <-p.ended:
			return errors.New("skybus up: ended before it was ready")
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
	if p.err != nil {
		return fmt.Errorf("skybus up: %w: %s", p.err, bytes.TrimSpace(p.output.Bytes()))
	}
	return nil
}
