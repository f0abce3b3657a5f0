package leanhttp

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Sentinels found in a [*Error].
var (
	ErrClosed   = errors.New("the client is closed")
	ErrRequest  = errors.New("malformed request")
	ErrResponse = errors.New("malformed response")
)

// Error is why a request has no answer, or only a part of one.
type Error struct {
	Op   string // check, wait, dial, write or read
	Addr string
	// Sent: some of the request was handed to the network, so the backend may have applied it. Otherwise it has not.
	Sent bool
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("leanhttp: %s %q: %v", e.Op, e.Addr, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Timeout tells whether a deadline was the cause.
func (e *Error) Timeout() bool {
	return errors.Is(e.Err, os.ErrDeadlineExceeded) || errors.Is(e.Err, context.DeadlineExceeded)
}

// NotSent tells that the backend cannot have applied the request that got this error. Errors of others count as sent.
func NotSent(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && !e.Sent
}

func requestf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRequest, fmt.Sprintf(format, args...))
}

func responsef(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrResponse, fmt.Sprintf(format, args...))
}
