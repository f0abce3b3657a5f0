// Command skybus is the whole of skybus in one program: the platform, its parts, and the commands that look into it.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
	_ "time/tzdata" // the time zones of timers, for machines without
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	os.Exit(signaled(func(ctx context.Context) int {
		return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	}))
}

// signaled ends the context of f at the first signal and then gives signals back to the system, so that a second one
// kills a program that does not stop.
func signaled(f func(context.Context) int) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return f(ctx)
}

// run is the program: it parses args, runs the command until it is done or ctx ends, and returns the exit code. Whatever
// went wrong has been written to stderr then.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return execute(ctx, &cli{}, args, stdin, stdout, stderr)
}

// execute is run with any set of commands.
func execute(ctx context.Context, root commands, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app := &App{started: time.Now(), globals: root.common(), stdin: stdin, stdout: stdout, stderr: stderr}
	parser, err := newParser(root, app)
	if err != nil {
		return app.report(err)
	}
	if len(args) > 0 && args[0] == completeWord {
		return app.report(app.complete(parser.Model, args[1:]))
	}
	if len(args) == 0 {
		parser.Stdout = stderr // nobody asked for help, and nothing was done
		_, _ = parser.Parse([]string{"--help"})
		return exitUsage
	}
	kctx, err := parser.Parse(args)
	if errors.Is(err, errHelp) {
		return exitOK
	}
	if err != nil {
		return app.report(parseError(err))
	}
	return app.report(app.invoke(ctx, kctx))
}
