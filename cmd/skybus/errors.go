package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/embed"
)

// usageError is a mistake on the command line: exit code 2.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// hintError adds to an error what to do next.
type hintError struct {
	error
	hint string
}

func (e *hintError) Unwrap() error { return e.error }

// withHint adds what to do next to err. The outermost hint is the one shown.
func withHint(err error, format string, args ...any) error {
	return &hintError{err, fmt.Sprintf(format, args...)}
}

func connectHint(err error) error {
	switch {
	case errors.Is(err, nats.ErrNoServers):
		return withHint(err, "--server, NATS_URL or a NATS context (--context) name another server")
	case errors.Is(err, nats.ErrAuthorization):
		return withHint(err, "--creds FILE, NATS_CREDS or a NATS context (--context) log in")
	}
	return err
}

// failure is how an error is printed with -o json and -o yaml.
type failure struct {
	Error struct {
		Code    bus.Code          `json:"code"`
		Message string            `json:"message"`
		Details map[string]string `json:"details,omitempty"`
		Hint    string            `json:"hint,omitempty"`
	} `json:"error"`
}

// report writes err, if it is one, to stderr in the format of --output and returns the exit code.
func (a *App) report(err error) int {
	if err == nil {
		return exitOK
	}
	var f failure
	f.Error.Code, f.Error.Message = bus.CodeOf(err), message(err)
	if e, ok := errors.AsType[*bus.Error](err); ok {
		f.Error.Details = e.Details
	}
	if e, ok := errors.AsType[*hintError](err); ok {
		f.Error.Hint = e.hint
	}
	code := exitFailed
	if _, ok := errors.AsType[*usageError](err); ok {
		code, f.Error.Code = exitUsage, bus.InvalidArgument
	}
	switch {
	case errors.Is(err, nats.ErrNoServers):
		f.Error.Code = bus.Unavailable
	case errors.Is(err, nats.ErrAuthorization):
		f.Error.Code = bus.Unauthenticated
	case errors.Is(err, embed.ErrAddrInUse), errors.Is(err, embed.ErrDirInUse):
		f.Error.Code = bus.FailedPrecondition
	}
	a.writeFailure(f)
	return code
}

func (a *App) writeFailure(f failure) {
	if a.Output == formatJSON || a.Output == formatYAML {
		if err := encode(a.stderr, a.Output, f); err == nil {
			return
		}
	}
	fmt.Fprintf(a.stderr, "skybus: %s\n", printable(f.Error.Message))
	if f.Error.Hint != "" {
		fmt.Fprintf(a.stderr, "hint: %s\n", printable(f.Error.Hint))
	}
}

// message is what err says to a person: no package names in front and no secrets.
func message(err error) string {
	if errors.Is(err, context.Canceled) && bus.CodeOf(err) == bus.Canceled {
		return "interrupted: " + redact(err.Error())
	}
	text := err.Error()
	for _, pkg := range []string{"bus", "embed", "kv", "micro", "registry", "route", "initiators", "http"} {
		if rest, ok := strings.CutPrefix(text, pkg+": "); ok {
			text = rest
			break
		}
	}
	return redact(text)
}
