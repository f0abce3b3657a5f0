package kv

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/jscode"
)

// What can be wrong with a key, to ask for with errors.Is. The server's own error, if there is one, is in the chain too.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("exists already")
	ErrConflict = errors.New("has another revision")
	ErrFull     = errors.New("no room") // in the bucket, or in the whole store of the account or of the servers; the text says which
	ErrTooLarge = errors.New("value is too large")
	ErrBadKey   = errors.New("bad key")
	ErrHeld     = errors.New("lease is held")

	// ErrNoBucket is for tables that were opened with Bind: all others create their bucket.
	ErrNoBucket = errors.New("bucket does not exist")

	// ErrUncertain comes with ErrConflict or ErrExists when an earlier attempt of the same call may have been stored: its
	// answer was lost, and the key was written again before it was asked for.
	ErrUncertain = errors.New("outcome is uncertain")
)

// KeyError is the error of everything that is done with a key or a pattern. In [bus.CodeOf] and [bus.AsError] it is the
// [bus.Error] that fits: not_found, already_exists, aborted for a conflict, resource_exhausted, invalid_argument,
// permission_denied.
type KeyError struct {
	Op     string // "get", "put", ...
	Bucket string
	Key    string // the key or pattern
	Err    error
}

// Error is the operation, the key, the bucket and the cause.
func (e *KeyError) Error() string {
	if e == nil {
		return "kv: no error"
	}
	return fmt.Sprintf("kv: %s %.80q in %q: %v", e.Op, e.Key, e.Bucket, e.Err)
}

// Unwrap is the cause.
func (e *KeyError) Unwrap() error {
	if e == nil {
		return nil
	}
	return e.Err
}

// As lets errors.As find a [bus.Error].
func (e *KeyError) As(target any) bool {
	p, ok := target.(**bus.Error)
	if !ok || e == nil {
		return false
	}
	var code bus.Code
	status := 0
	switch err := e.Err; {
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrNoBucket):
		code = bus.NotFound
	case errors.Is(err, ErrExists), errors.Is(err, ErrHeld):
		code = bus.AlreadyExists
	case errors.Is(err, ErrConflict):
		code = bus.Aborted
	case errors.Is(err, ErrFull):
		code, status = bus.ResourceExhausted, http.StatusInsufficientStorage
	case errors.Is(err, ErrTooLarge):
		code, status = bus.ResourceExhausted, http.StatusRequestEntityTooLarge
	case errors.Is(err, ErrBadKey):
		code = bus.InvalidArgument
	case errors.Is(err, context.Canceled):
		code = bus.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		code = bus.DeadlineExceeded
	case errors.Is(err, nats.ErrConnectionClosed):
		code = bus.Unavailable
	default:
		return false
	}
	*p = bus.Wrap(code, e.Error(), e)
	(*p).Status = status
	return true
}

func (b *bucket) keyError(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &KeyError{Op: op, Bucket: b.name, Key: key, Err: err}
}

// Reasons to ask again.
var (
	errLost         = errors.New("connection was lost")
	errBehind       = errors.New("the answering replica is behind")
	errNoLeader     = errors.New("bucket has no leader")
	errNoAnswer     = errors.New("no answer")
	errNone         = errors.New("no message")
	errTooMany      = errors.New("too many keys for one answer")
	errBucketIsGone = errors.New("bucket is gone")
)

// transient tells whether err can be over in a moment.
func transient(err error) bool {
	switch jscode.Of(err) {
	case jscode.NoLeader, jscode.InFlight, jscode.NoStream, jscode.Busy:
		return true
	}
	for _, again := range [...]error{
		errLost, errBehind, errNoLeader, errNoAnswer,
		nats.ErrNoResponders, nats.ErrTimeout, nats.ErrReconnectBufExceeded, nats.ErrDisconnected,
	} {
		if errors.Is(err, again) {
			return true
		}
	}
	return false
}

// passing tells whether err is JetStream's, and may be over once somebody has done something about it.
func passing(err error) bool {
	return jscode.Of(err) != 0 || errors.Is(err, errBucketIsGone) || errors.Is(err, ErrUncertain)
}

func wrongLast(err error) bool {
	code := jscode.Of(err)
	return code == jscode.WrongLast || code == jscode.WrongLastInFlight
}

// writeError adds ours to the server's error.
func (b *bucket) writeError(err error) error {
	var ours error
	switch {
	case wrongLast(err):
		ours = ErrConflict
	case jscode.Full(err):
		ours = fmt.Errorf("%w: %s", ErrFull, b.noRoom(err))
	case jscode.Of(err) == jscode.MessageTooLarge, errors.Is(err, nats.ErrMaxPayload):
		ours = ErrTooLarge
	}
	if ours == nil {
		return err
	}
	return fmt.Errorf("%w: %w", ours, err)
}

// noRoom says what is full, and what to do.
func (b *bucket) noRoom(err error) string {
	switch jscode.Of(err) {
	case jscode.StreamFull:
		return fmt.Sprintf("the bucket is full: delete keys, or enlarge it (nats stream edit %s --max-bytes ...)", b.stream)
	case jscode.AccountFull:
		return "the store of the account is full: remove something from any of its streams, or raise the account's limit"
	default:
		return "the store of the servers is full: remove something from any stream, or give them a larger one (--max-store)"
	}
}
