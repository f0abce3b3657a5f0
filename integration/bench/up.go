package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	modulePath = "github.com/skybus-io/skybus"
	upStarts   = 5
	idleTime   = 5 * time.Second
)

// upFigures is what `skybus up --demo --memory` takes.
type upFigures struct {
	Ready   float64      `json:"ready_ms"` // median
	Stop    float64      `json:"stop_ms"`  // median
	Readies []float64    `json:"ready_ms_each"`
	Stops   []float64    `json:"stop_ms_each"`
	Memory  int64        `json:"idle_rss_bytes"`
	Size    programSizes `json:"size"`
}

// programSizes are in bytes.
type programSizes struct {
	Plain    int64 `json:"plain_bytes"`
	Stripped int64 `json:"stripped_bytes"`
}

// skybus is the skybus program, which is built the first time.
func (b *bench) skybus(ctx context.Context) (program string, err error) {
	if b.program != "" {
		return b.program, nil
	}
	program = filepath.Join(b.dir, "skybus")
	if _, err := b.build(ctx, program, ""); err != nil {
		return "", err
	}
	b.program = program
	return program, nil
}

// sizes are those of the program as it is and without symbols and debug information.
func (b *bench) sizes(ctx context.Context, program string) (size programSizes, err error) {
	info, err := os.Stat(program)
	if err != nil {
		return size, err
	}
	size.Plain = info.Size()
	size.Stripped, err = b.build(ctx, program+"-stripped", "-s -w")
	return size, err
}

// build builds the skybus program and returns its size.
func (b *bench) build(ctx context.Context, program, ldflags string) (size int64, err error) {
	root, err := b.goOutput(ctx, "list", "-m", "-f", "{{.Dir}}", modulePath)
	if err != nil {
		return 0, fmt.Errorf("find skybus's source (is this run in integration/bench?): %w", err)
	}
	b.progress.step(nameUp, strings.TrimSpace("building skybus "+ldflags))
	if _, err := b.goOutput(ctx, "build", "-C", root, "-ldflags", ldflags, "-o", program, "./cmd/skybus"); err != nil {
		return 0, fmt.Errorf("build skybus: %w", err)
	}
	info, err := os.Stat(program)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// goOutput runs the go command, which tidies up when it is interrupted.
func (b *bench) goOutput(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = patience
	cmd.Env = append(os.Environ(), "GOTMPDIR="+b.dir)
	out, err := cmd.Output()
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(ee.Stderr)))
	}
	return strings.TrimSpace(string(out)), err
}

// up starts the platform several times, and once more to let it idle.
func (b *bench) up(ctx context.Context) (*upFigures, error) {
	program, err := b.skybus(ctx)
	if err != nil {
		return nil, err
	}
	size, err := b.sizes(ctx, program)
	if err != nil {
		return nil, err
	}
	u := &upFigures{Size: size}
	for i := range upStarts {
		b.progress.step(nameUp, fmt.Sprintf("start %d of %d", i+1, upStarts))
		p, err := startDemo(ctx, program, b.dir)
		if err != nil {
			return nil, err
		}
		u.Readies = append(u.Readies, millis(p.ready))
		begin := time.Now()
		if err := p.stop(); err != nil {
			return nil, err
		}
		u.Stops = append(u.Stops, millis(time.Since(begin)))
	}
	u.Ready, u.Stop = median(u.Readies), median(u.Stops)
	b.progress.step(nameUp, fmt.Sprintf("idle for %v", idleTime))
	p, err := startDemo(ctx, program, b.dir)
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-time.After(idleTime):
		u.Memory, err = memoryOf(p.cmd.Process.Pid)
	}
	return u, errors.Join(err, p.stop())
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
