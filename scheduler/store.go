package scheduler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/internal/jscode"
)

const (
	storeAttempt = 2 * time.Second // then the answer is taken for lost
	storePause   = 100 * time.Millisecond
	storeTimeout = 10 * time.Second // for a ctx without a deadline
)

// errConflict says that the message expected at a subject is not the last one there.
var errConflict = errors.New("has changed meanwhile")

// store publishes what is to be the pending message of a timer, or to be delivered by somebody's will, and returns its sequence. All creates, updates and cancels pass through
// it, but for those of CreateMany. The message expects what it takes the place of, so it can be sent again when no answer comes; then
// mine tells whether what is there now is what was sent.
func (s *Scheduler) store(ctx context.Context, sh *shard, msg *nats.Msg) (uint64, error) {
	return s.storeUnsure(ctx, sh, msg, false)
}

// storeUnsure is store; unsure tells that an earlier attempt may have been stored.
func (s *Scheduler) storeUnsure(ctx context.Context, sh *shard, msg *nats.Msg, unsure bool) (uint64, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	try := s.publish
	if isNew(msg) {
		try = s.attempt
	}
	for {
		// Nothing waits in a buffer, to be stored when nobody knows of it any more.
		if err := s.conn.WaitConnected(ctx); err != nil {
			return 0, storeEnded(err, unsure)
		}
		if unsure && isNew(msg) {
			if seq, ok, err := s.storedBefore(ctx, sh, msg); ok || err != nil {
				return seq, err
			}
		}
		ack, err := try(ctx, msg)
		switch {
		case err == nil:
			s.noteStored(sh, msg, ack.Sequence)
			return ack.Sequence, nil
		case errors.Is(err, errConflict) && unsure:
			seq, err := s.findStored(ctx, sh, msg)
			if err == nil {
				s.noteStored(sh, msg, seq)
			}
			return seq, err
		case !again(err):
			return 0, err
		}
		unsure = unsure || unanswered(err)
		if !backoff.Sleep(ctx, storePause) {
			return 0, storeEnded(fmt.Errorf("%w: %w", context.Cause(ctx), err), unsure)
		}
	}
}

// unanswered tells whether an attempt that ended so may have been stored: it was sent, and not refused.
func unanswered(err error) bool {
	if _, refused := errors.AsType[*jetstream.APIError](err); refused {
		return false
	}
	for _, e := range []error{nats.ErrNoResponders, jetstream.ErrNoStreamResponse, nats.ErrConnectionReconnecting} {
		if errors.Is(err, e) {
			return false
		}
	}
	return true
}

// isNew tells whether a message is to be a timer where there is none.
func isNew(msg *nats.Msg) bool { return first(msg.Header, headerExpectSeq) == "0" }

// attempt makes one to store a new timer. It ends when the connection comes back after it was lost: the answer that was on its way will not come, and the sooner it is
// looked what became of the message, the more of that can be seen. Changes are not hurried so: a server that was killed may have forgotten that a timer was
// gone as it fired, and would take a change of it; after a while it is too late for that by the server's clock.
func (s *Scheduler) attempt(ctx context.Context, msg *nats.Msg) (*jetstream.PubAck, error) {
	epoch := *s.epoch.Load()
	try, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(epoch, cancel)()
	ack, err := s.publish(try, msg)
	if err != nil && epoch.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %s", nats.ErrDisconnected, err.Error()) // without the cause: the caller has canceled nothing
	}
	return ack, err
}

// keepEpochs begins a new epoch whenever answers may have been lost, until stop is called or the connection is closed.
func (s *Scheduler) keepEpochs() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	s.epoch.Store(&ctx)
	loss, done := make(chan struct{}, 1), make(chan struct{})
	unwatch := s.conn.NotifyLoss(loss)
	var keeping sync.WaitGroup
	keeping.Go(func() {
		defer unwatch()
		for {
			select {
			case <-loss:
				for _, sh := range s.shards {
					sh.clock.drop()
				}
				s.creating.lookAround() // for what was under way no answer comes
				next, end := context.WithCancel(context.Background())
				s.epoch.Store(&next)
				cancel()
				cancel = end
			case <-s.conn.Closed():
				return
			case <-done:
				return
			}
		}
	})
	return sync.OnceFunc(func() {
		close(done)
		keeping.Wait()
	})
}

// storedBefore tells whether an earlier attempt has stored a new timer. It may have fired since: then it is being delivered.
func (s *Scheduler) storedBefore(ctx context.Context, sh *shard, msg *nats.Msg) (uint64, bool, error) {
	id := idOf(msg.Subject)
	for _, pattern := range []string{msg.Subject, sh.subject(kindDue, id), sh.retry(id, "*")} {
		m, seq, err := s.following(ctx, sh, pattern, 0)
		switch {
		case errors.Is(err, errNone):
		case err != nil:
			return 0, false, err
		case bytes.Equal(m.Data, msg.Data):
			if pattern == msg.Subject {
				s.noteStored(sh, msg, seq)
			}
			return seq, true, nil
		}
	}
	return 0, false, nil
}

// findStored tells what became of a message whose answer was lost.
func (s *Scheduler) findStored(ctx context.Context, sh *shard, msg *nats.Msg) (uint64, error) {
	last, seq, err := s.last(ctx, sh, msg.Subject)
	switch {
	case errors.Is(err, errNone), err == nil && isGone(last) && isNew(msg): // to make it again would undo the cancel
		return 0, bus.Errorf(bus.DeadlineExceeded, "scheduler: the answer was lost, and the timer is gone: nobody knows which came first").With("reason", "uncertain")
	case err != nil:
		return 0, err
	case bytes.Equal(last.Data, msg.Data):
		return seq, nil
	}
	return 0, errConflict
}

// publish makes one attempt to store a message.
func (s *Scheduler) publish(ctx context.Context, msg *nats.Msg) (ack *jetstream.PubAck, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeAttempt)
	defer cancel()
	err = s.conn.Permitted(ctx, bus.Access{Publish: []string{msg.Subject}}, func(ctx context.Context) error {
		ack, err = s.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0))
		return err
	})
	return ack, storeError(err)
}

// storeError gives the server's refusals their codes.
func storeError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, nats.ErrMaxPayload) {
		e := bus.Errorf(bus.ResourceExhausted, "scheduler: the timer is larger than the server takes: %w", err)
		e.Status = 413
		return e
	}
	switch code := jscode.Of(err); {
	case code == jscode.WrongLast, code == jscode.WrongLastInFlight:
		return fmt.Errorf("%w: %w", errConflict, err)
	case jscode.Full(err):
		e := bus.Errorf(bus.ResourceExhausted, "scheduler: nothing was stored, as %s: %w", whatIsFull(code), err)
		e.Status = 507
		return e
	}
	return err
}

// whatIsFull says also what to do.
func whatIsFull(code jetstream.ErrorCode) string {
	switch code {
	case jscode.StreamFull:
		return "the stream of the timers is full: remove timers, or enlarge it (nats stream edit " + streamPrefix + "... --max-bytes ...)"
	case jscode.AccountFull:
		return "the store of the account is full: remove timers, dead letters or other streams, or raise the account's limit"
	default:
		return "the store of the servers is full: remove timers, dead letters or other streams, or make it larger"
	}
}

// again tells whether an attempt may be repeated: no answer came, or the servers are about to choose a leader.
func again(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.ErrorCode == jscode.Busy || api.ErrorCode == jscode.InFlight || api.Code == 503 && !jscode.Full(err)
	}
	if e, ok := errors.AsType[*bus.Error](err); ok {
		return e.Code == bus.Unavailable || e.Code == bus.DeadlineExceeded
	}
	for _, e := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, jetstream.ErrNoStreamResponse,
		nats.ErrDisconnected, nats.ErrConnectionReconnecting, nats.ErrReconnectBufExceeded, jetstream.ErrAsyncPublishTimeout,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// storeEnded is the error of a write that was not acknowledged in time.
func storeEnded(cause error, unsure bool) error {
	if unsure {
		code := bus.DeadlineExceeded
		if errors.Is(cause, context.Canceled) {
			code = bus.Canceled
		}
		return bus.Errorf(code, "scheduler: the server did not answer, and nobody knows whether it stored the timer: %w", cause)
	}
	return bus.Wrap(bus.Unavailable, "scheduler: nothing was stored: the server does not answer, or has no leader", cause)
}

// unread is the error of a change of a timer that could not even be read: it may be tried again.
func unread(err error) error {
	if !again(err) {
		return err
	}
	return bus.Wrap(bus.Unavailable, "scheduler: nothing was changed: the server does not answer, or has no leader", err)
}

func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, storeTimeout)
}
