package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/embed"
)

// usageError is a mistake on the command line: exit code 2.
type usageError struct {
	text  string
	plain bool // nothing in it is the name of a package, whatever it looks like
}

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...)}
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

// answerError is what a service said, or what was said in its place. People are told its code too.
type answerError struct{ err *bus.Error }

func (e *answerError) Error() string { return e.err.Error() }

func (e *answerError) Unwrap() error { return e.err }

// hint is what to do next about err: what was said where it happened, else what helps in general.
func (a *App) hint(err error) string {
	if e, ok := errors.AsType[*hintError](err); ok {
		return e.hint
	}
	if _, ok := errors.AsType[*usageError](err); ok && a.command != "" {
		return fmt.Sprintf("`skybus %s --help` tells how it is used", a.command)
	}
	switch {
	case errors.Is(err, nats.ErrNoServers):
		return "--server, NATS_URL or a NATS context (--context) name another server"
	case errors.Is(err, nats.ErrAuthorization):
		return "--creds FILE, NATS_CREDS or a NATS context (--context) log in"
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return "enable JetStream for the account, in the server's configuration or in the account's JWT; or --creds FILE logs in to another account"
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return "that server needs JetStream: `skybus server` has it, nats-server has it with -js"
	case bus.CodeOf(err) == bus.PermissionDenied && bus.AsError(err).Details["subject"] != "":
		return "--creds FILE, NATS_CREDS or a NATS context (--context) log in as somebody who may; docs/security.md lists the roles"
	case isDial(err):
		return "--server, NATS_URL or a NATS context (--context) name a server, as in nats://127.0.0.1:4222"
	case bus.CodeOf(err) == bus.DeadlineExceeded:
		return fmt.Sprintf("--timeout waits longer than %v", a.Timeout)
	}
	return ""
}

// isDial tells whether no connection could be made, to whatever the name stands for.
func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// unlessStopped is nil for the error of a start that was given up because ctx ended: being stopped is no failure.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
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
	f.Error.Code, f.Error.Message, f.Error.Hint = bus.CodeOf(err), message(err), a.hint(err)
	if e, ok := errors.AsType[*bus.Error](err); ok {
		f.Error.Details = e.Details
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
	if a.Output == formatJSON || a.Output == formatYAML {
		if encode(a.stderr, a.Output, f) == nil {
			return code
		}
	}
	text := f.Error.Message
	if _, ok := errors.AsType[*answerError](err); ok {
		text = string(f.Error.Code) + ": " + text
	}
	fmt.Fprintf(a.stderr, "skybus: %s\n", printable(text))
	if f.Error.Hint != "" {
		fmt.Fprintf(a.stderr, "hint: %s\n", printable(f.Error.Hint))
	}
	return code
}

// packages are the names that our packages and the client put in front of what they say.
var packages = regexp.MustCompile(`(^|: )(?:(?:bus|config|embed|kv|micro|registry|route|scheduler|httpapi|webhook|supervise|initiators|tcp|mirror|adminapi|nats): )+`)

// message is what err says to a person: without its code, names of packages and secrets. The answer of a service stays as
// it was given.
func message(err error) string {
	if e, ok := errors.AsType[*answerError](err); ok {
		return redact(e.err.Message)
	}
	if e, ok := errors.AsType[*usageError](err); ok && e.plain {
		return redact(e.text)
	}
	if errors.Is(err, context.Canceled) && bus.CodeOf(err) == bus.Canceled {
		return "interrupted"
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok && err.Error() == joined(many.Unwrap()) {
		var texts []string
		for _, one := range many.Unwrap() {
			texts = append(texts, message(one))
		}
		return strings.Join(texts, "\n")
	}
	text := err.Error()
	if e, ok := errors.AsType[*bus.Error](err); ok {
		text = strings.Replace(text, e.Error(), e.Message, 1)
	}
	return redact(packages.ReplaceAllString(text, "$1"))
}

// joined is how [errors.Join] writes errors.
func joined(errs []error) string {
	texts := make([]string, 0, len(errs))
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "\n")
}
