package mirror

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/internal/jscode"
)

const (
	storeAttempt    = 2 * time.Second // after which the server is asked again
	firstStorePause = 10 * time.Millisecond
	lastStorePause  = 250 * time.Millisecond
)

// storeResult is what became of an attempt to store something.
type storeResult int

const (
	storeUnknown storeResult = iota // it may have been stored
	storeNobody                     // nobody took it
	storeFull
	storeTooLarge
)

// storeResultOf tells what an error of publishing to a stream means.
func storeResultOf(err error) storeResult {
	switch code := jscode.Of(err); {
	case jscode.Full(err):
		return storeFull
	case code == jscode.MessageTooLarge, errors.Is(err, nats.ErrMaxPayload):
		return storeTooLarge
	case code != 0:
		return storeUnknown
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse),
		errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionDraining):
		return storeNobody
	}
	return storeUnknown
}

// publish stores a message that has a Nats-Msg-Id. While nobody says whether it is stored it is sent again, until ctx ends: the server
// stores it once. The last attempt may end after ctx, so that what it was told is not missed. again says that it was sent more than once, so that the server may say it was there already although nobody else sent it.
func (m *Mirror) publish(ctx context.Context, msg *nats.Msg) (ack *jetstream.PubAck, again bool, err error) {
	unknown := false
	for attempt := 1; ; attempt++ {
		try, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(storeAttempt, m.cfg.StoreTimeout))
		ack, err = m.js.PublishMsg(try, msg, jetstream.WithRetryAttempts(0))
		cancel()
		if err == nil {
			return ack, unknown, nil
		}
		result := storeResultOf(err)
		unknown = unknown || result == storeUnknown
		final := result == storeFull || result == storeTooLarge || errors.Is(err, nats.ErrConnectionClosed)
		if final || !backoff.Sleep(ctx, backoff.Full(attempt, firstStorePause, lastStorePause)) {
			return nil, unknown, storeError(result, unknown, err)
		}
	}
}

// storeError tells a client what has, or may have, become of its write.
func storeError(result storeResult, unknown bool, err error) error {
	switch {
	case unknown:
		return bus.Wrap(bus.Unavailable, "it is not known whether the write was stored: if it was, it will reach every backend; "+
			"to repeat it with the same Idempotency-Key is safe", err).With("stored", "unknown")
	case result == storeFull:
		e := bus.Wrap(bus.ResourceExhausted, "the store of writes is full; nothing was stored", err).With("stored", "no")
		e.Status = http.StatusInsufficientStorage
		return e
	case result == storeTooLarge:
		e := bus.Wrap(bus.ResourceExhausted, "the write is larger than the servers take; nothing was stored", err).With("stored", "no")
		e.Status = http.StatusRequestEntityTooLarge
		return e
	}
	return bus.Wrap(bus.Unavailable, "the store of writes does not answer; nothing was stored", err).With("stored", "no")
}

// stored is where a write is.
type stored struct {
	seq       uint64
	duplicate bool // somebody stored it before
}
