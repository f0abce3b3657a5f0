package scheduler

import (
	"context"
	"time"
)

// Transport delivers what is due to targets of one kind. Its methods are called by many goroutines at once.
//
// One that is also an io.Closer is closed when the scheduler is, after the last delivery.
type Transport interface {
	// Check tells, when a timer is created or changed, whether the target can ever be delivered to. The error should have the code
	// invalid_argument for what is malformed and permission_denied for what is not allowed, and name the setting that allows it.
	Check(ctx context.Context, t Target) error
	// Deliver makes one attempt and returns nil when the target has taken it. ctx ends with the target's time-out. A [*DeliveryError]
	// says more of a failure; all others are tried again.
	Deliver(ctx context.Context, d *Delivery) error
}

// Destinationer is for transports that know which targets share a fate: concurrency caps and breakers go by what
// Destination returns, such as the host and port of a URL. Without it they go by transport and URI.
type Destinationer interface {
	Destination(t Target) string
}

// Delivery is one attempt to deliver.
type Delivery struct {
	// ID is the same for all attempts to deliver one occurrence, and of no other: what a receiver tells repeats by.
	ID         string
	TimerID    string
	Occurrence int64
	Due        time.Time // when it was due
	Fired      time.Time // when it was fired
	Attempt    int       // counted from 1

	Target      Target
	Payload     []byte
	ContentType string
	Header      map[string]string
}

// Headers that go with every delivery where the transport has headers.
const (
	HeaderIdempotencyKey = "Idempotency-Key" // [Delivery.ID]
	HeaderTimerID        = "Skybus-Timer-Id"
	HeaderDue            = "Skybus-Due"     // RFC 3339 with nanoseconds, UTC
	HeaderFired          = "Skybus-Fired"   // the same
	HeaderAttempt        = "Skybus-Attempt" // counted from 1
)

// DeliveryError says what came of an attempt that failed.
type DeliveryError struct {
	// Status is that of an HTTP answer, 0 where there was none.
	Status int
	// Permanent: no attempt will ever succeed; the delivery is given up at once.
	Permanent bool
	// Unharmed: the failure says nothing against the target's health, such as an answer 400; the breaker does not count it.
	Unharmed bool
	// RetryAfter is how long the target asks to be left alone, 0 where it does not say.
	RetryAfter time.Duration
	// Err is the reason.
	Err error
}

// Error is the reason.
func (e *DeliveryError) Error() string { return e.Err.Error() }

// Unwrap is the reason.
func (e *DeliveryError) Unwrap() error { return e.Err }
