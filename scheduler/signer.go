package scheduler

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/scheduler/webhook"
)

const secretTimeout = 2 * time.Second

// signers sign with the secrets of a namespace, which they begin to follow when they are asked for the first one.
type signers struct {
	conn    *bus.Conn
	opening chan struct{} // of capacity 1: held by who opens

	mu     sync.Mutex
	table  *kv.Table[secretRecord]
	copied *kv.Copy[secretRecord] // nil before the first was asked for, and while that does not work
	made   map[string]madeSigner
	failed failure
	closed bool
}

// madeSigner is what one revision of a secret signs with.
type madeSigner struct {
	revision uint64
	until    time.Time // zero means for good
	signer   *webhook.Signer
}

// failure of the last try to read the secrets.
type failure struct {
	at  time.Time
	err error
}

func newSigners(conn *bus.Conn) *signers {
	return &signers{conn: conn, opening: make(chan struct{}, 1), made: map[string]madeSigner{}}
}

// check tells whether a target may name the secret. Who makes timers need not have the right to read secrets: then it is told
// when the timer is due.
func (x *signers) check(ctx context.Context, name string) error {
	_, err := x.signer(ctx, name)
	switch bus.CodeOf(err) {
	case "", bus.PermissionDenied:
		return nil
	case bus.NotFound:
		return invalid(fieldSecret, "%q is not there: put it first (skybus timers secrets new %s)", name, name)
	default:
		return bus.AsError(err).With("field", fieldSecret)
	}
}

// signer signs with the keys that the secret has now. A secret that is not there is not_found.
func (x *signers) signer(ctx context.Context, name string) (*webhook.Signer, error) {
	if err := bus.CheckToken("secret", name); err != nil {
		return nil, err
	}
	table, copied, err := x.open(ctx)
	if err != nil {
		return nil, x.readError(name, err)
	}
	id := secretID(x.conn.Namespace(), name)
	e, ok := copied.Get(id)
	if !ok || e.Err != nil { // the copy may be a moment behind who has just put it
		bounded, cancel := context.WithTimeout(ctx, secretTimeout)
		defer cancel()
		if e, err = table.Get(bounded, id); err != nil {
			return nil, x.readError(name, err)
		}
	}
	now := time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	if made, ok := x.made[name]; ok && made.revision == e.Revision && (made.until.IsZero() || now.Before(made.until)) {
		return made.signer, nil
	}
	signer, until, err := e.Value.signer(now)
	if err != nil {
		return nil, bus.Errorf(bus.FailedPrecondition, "secret %q has no good key: %w", name, err)
	}
	x.made[name] = madeSigner{e.Revision, until, signer}
	return signer, nil
}

func (x *signers) readError(name string, err error) error {
	if errors.Is(err, kv.ErrNotFound) || errors.Is(err, kv.ErrNoBucket) {
		x.mu.Lock()
		delete(x.made, name)
		x.mu.Unlock()
		return unknownSecret(name)
	}
	code := bus.CodeOf(err)
	if code == bus.Unknown || code == bus.DeadlineExceeded {
		code = bus.Unavailable
	}
	return bus.Wrap(code, "secrets cannot be read: "+err.Error(), err)
}

// open begins to follow the secrets. Many who ask at once wait for one try, and share its failure.
func (x *signers) open(ctx context.Context) (*kv.Table[secretRecord], *kv.Copy[secretRecord], error) {
	asked := time.Now()
	if table, copied, ok := x.opened(); ok {
		return table, copied, nil
	}
	select {
	case x.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	defer func() { <-x.opening }()
	if table, copied, ok := x.opened(); ok {
		return table, copied, nil
	}
	x.mu.Lock()
	failed, closed := x.failed, x.closed
	x.mu.Unlock()
	if closed {
		return nil, nil, bus.Errorf(bus.Unavailable, "scheduler: closed")
	}
	if failed.at.After(asked) {
		return nil, nil, failed.err
	}
	table, copied, err := x.follow(ctx)
	x.mu.Lock()
	closed = x.closed
	switch {
	case err != nil && ctx.Err() == nil:
		x.failed = failure{time.Now(), err}
	case err == nil && !closed:
		x.table, x.copied = table, copied
	}
	x.mu.Unlock()
	if err == nil && closed {
		err = errors.Join(bus.Errorf(bus.Unavailable, "scheduler: closed"), copied.Close())
	}
	return table, copied, err
}

func (x *signers) opened() (*kv.Table[secretRecord], *kv.Copy[secretRecord], bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.table, x.copied, x.copied != nil
}

func (x *signers) follow(ctx context.Context) (*kv.Table[secretRecord], *kv.Copy[secretRecord], error) {
	ctx, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()
	table, err := bindSecrets(ctx, x.conn)
	if err != nil {
		return nil, nil, err
	}
	copied, err := table.Copy(ctx, secretID(x.conn.Namespace(), "*"))
	return table, copied, err
}

func (x *signers) close() error {
	x.mu.Lock()
	x.closed = true
	copied := x.copied
	x.mu.Unlock()
	if copied == nil {
		return nil
	}
	return copied.Close()
}
