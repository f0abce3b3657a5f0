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

// build builds the skybus program twice, plain and without symbols and debug information, and returns the plain one.
func (b *bench) build(ctx context.Context) (program string, size programSizes, err error) {
	root, err := b.goOutput(ctx, "list", "-m", "-f", "{{.Dir}}", modulePath)
	if err != nil {
		return "", size, fmt.Errorf("find skybus's source (is this run in integration/bench?): %w", err)
	}
	program = filepath.Join(b.dir, "skybus")
	for _, v := range []struct {
		name, ldflags string
		size          *int64
	}{{program, "", &size.Plain}, {program + "-stripped", "-s -w", &size.Stripped}} {
		b.progress.step(nameUp, strings.TrimSpace("building skybus "+v.ldflags))
		if _, err := b.goOutput(ctx, "build", "-C", root, "-ldflags", v.ldflags, "-o", v.name, "./cmd/skybus"); err != nil {
			return "", size, fmt.Errorf("build skybus: %w", err)
		}
		info, err := os.Stat(v.name)
		if err != nil {
			return "", size, err
		}
		*v.size = info.Size()
	}
	return program, size, nil
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
func (b *bench) up(ctx context.Context, program string, size programSizes) (*upFigures, error) {
	u := &upFigures{Size: size}
	for i := range upStarts {
		b.progress.step(nameUp, fmt.Sprintf("start %d of %d", i+1, upStarts))
		p, err := startPlatform(ctx, program, b.dir)
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
	p, err := startPlatform(ctx, program, b.dir)
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
