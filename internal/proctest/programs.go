//go:build unix

package proctest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Programs is a directory of programs under test, by the last element of their import path.
type Programs string

// Build builds programs into a new directory, as users get them. What begins with a dash is a flag of `go build`, the rest are packages. It is for TestMain,
// which removes the directory when the tests are over.
func Build(args ...string) (Programs, error) {
	dir, err := os.MkdirTemp("", "skybus-programs-")
	if err != nil {
		return "", err
	}
	args = append([]string{"build", "-buildvcs=false", "-o", dir + string(filepath.Separator)}, args...)
	cmd := exec.Command("go", args...) //nolint:noctx // there is no test yet that could end it
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s%w", err, out, os.RemoveAll(dir))
	}
	return Programs(dir), nil
}

// Remove removes the programs.
func (d Programs) Remove() error { return os.RemoveAll(string(d)) }

// Path is where a program is.
func (d Programs) Path(program string) string { return filepath.Join(string(d), program) }

// Start starts a program and does not wait for it.
func (d Programs) Start(t *testing.T, program string, args ...string) *Process {
	t.Helper()
	return Start(t, program, d.Path(program), args, nil)
}

// Run runs a program to its end, within [Patience], and returns its exit code and what it wrote.
func (d Programs) Run(t *testing.T, program string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	var out, errs strings.Builder
	cmd := exec.CommandContext(ctx, d.Path(program), args...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = environment(t), &out, &errs, processAttributes()
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok || ctx.Err() != nil {
		t.Fatalf("%s %q: %v\n%s%s", program, args, err, out.String(), errs.String())
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}
