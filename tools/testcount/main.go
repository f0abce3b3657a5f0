// Command testcount runs the test command that a README shows, prints what failed in a form to be read, and ends with
// one line that counts the tests: "12 passed, 0 failed" or "12 passed, 0 failed, 1 skipped". Tests and subtests count
// alike. It exits with 1 when a test failed, when the command did, or when no test ran at all.
//
// Usage: testcount README.md
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// errFailed ends the program with 1 and without a word: all has been said, and the count has to stay the last line.
var errFailed = errors.New("testcount: tests failed")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err == nil {
		return
	}
	if !errors.Is(err, errFailed) {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(1)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) != 1 {
		return errors.New("testcount: usage: testcount README.md")
	}
	readme, err := os.ReadFile(args[0])
	if err != nil {
		return fmt.Errorf("testcount: %w", err)
	}
	command, err := testCommand(string(readme))
	if err != nil {
		return fmt.Errorf("testcount: %s: %w", args[0], err)
	}
	fmt.Fprintln(stdout, "$", strings.Join(command, " "))
	command = append(command, "-json", "-timeout=15m", "-vet=off") // the checks of CI vet, and more

	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	cmd.Stderr = stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("testcount: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("testcount: %w", err)
	}
	r := newReport(stdout)
	readErr := r.read(events)
	err = errors.Join(readErr, cmd.Wait())
	if err != nil {
		fmt.Fprintf(stdout, "%s: %v\n", command[0], err)
	}
	fmt.Fprintln(stdout, r.summary())
	if err != nil || r.failed > 0 || r.passed == 0 {
		return errFailed
	}
	return nil
}

// testCommand returns the words of the second command of the first fenced block. It refuses what is not a run of
// `go test` with the race detector and a random order, so that the README cannot come to promise less than CI checks.
func testCommand(readme string) ([]string, error) {
	commands, err := firstBlock(readme)
	if err != nil {
		return nil, err
	}
	if len(commands) < 2 {
		return nil, fmt.Errorf("the first fenced block has %d command(s), its second must be the test command", len(commands))
	}
	words := strings.Fields(commands[1])
	if len(words) < 2 || words[0] != "go" || words[1] != "test" ||
		!slices.Contains(words, "-race") || !slices.Contains(words, "-shuffle=on") {
		return nil, fmt.Errorf("the second command of the first fenced block is %q, not a `go test -race -shuffle=on`", commands[1])
	}
	return words, nil
}

// firstBlock returns the commands of the first fenced block: its lines without blank ones, comments and prompts.
func firstBlock(readme string) ([]string, error) {
	var commands []string
	inside := false
	for line := range strings.Lines(readme) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "```") && inside:
			return commands, nil
		case strings.HasPrefix(line, "```"):
			inside = true
		case inside:
			line, _, _ = strings.Cut(strings.TrimPrefix(line, "$ "), " #")
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				commands = append(commands, line)
			}
		}
	}
	return nil, errors.New("no fenced block with commands")
}
