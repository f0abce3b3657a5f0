package scheduler

import (
	"time"

	"github.com/skybus-io/skybus/bus"
)

// Limits of a timer. Where a user's input is out of them the error is invalid_argument and names the field.
const (
	MaxPayload      = 512 << 10 // bytes
	MaxHeaders      = 32        // of the target's request
	MaxHeaderBytes  = 8 << 10   // names and values together
	MaxLabels       = 16
	MaxLabelValue   = 128  // characters
	MaxURI          = 2048 // characters
	MaxKey          = 256  // characters of a unique key
	MinEvery        = 100 * time.Millisecond
	MaxUnderWay     = 1000             // about so many occurrences of a timer wait or are delivered at a time; further ones are skipped
	MaxTargetTime   = 10 * time.Minute // of one attempt
	MaxAttempts     = 50
	MaxRetryAge     = 30 * 24 * time.Hour
	MaxRetryWait    = 24 * time.Hour   // between two attempts
	DefaultTimeout  = 15 * time.Second // of one attempt
	DefaultAttempts = 10
	DefaultFirst    = time.Second // upper bound of the wait after the first attempt
	DefaultLast     = time.Hour   // and of all waits
	DefaultAge      = 24 * time.Hour
)

const minFirst = 10 * time.Millisecond

// maxTime is the latest time a timer may be due: what NATS can still count in nanoseconds, less a day.
func maxTime() time.Time { return time.Date(2262, time.April, 10, 0, 0, 0, 0, time.UTC) }

// Spec says what a timer does and when. Exactly one of After, At and Repeat is needed; After or At beside Repeat is when its
// first occurrence is due.
type Spec struct {
	// ID is a token of A-Z a-z 0-9 _ -, 1 to 64 characters. Empty means a new one.
	ID string
	// Key makes the timer unique: while one with the same key is pending, Create returns already_exists with the id of that one in
	// the detail "id". The id is made from the key, so ID must be empty. At most 256 characters.
	Key string

	// After is how long from now, in the server's time, the timer is due.
	After time.Duration
	// At is when it is due. A time that is past is due at once, unless it is more than a year ago, which is an error.
	At time.Time
	// Repeat makes it due again and again. Nil means once.
	Repeat *Repeat

	// Target is what it calls.
	Target Target
	// Payload is sent to the target, at most 512 KiB.
	Payload []byte
	// ContentType of the payload. Empty means application/octet-stream where there is a payload.
	ContentType string
	// Header is sent along: at most 32 names and 8 KiB. Names of skybus, of NATS and of HTTP's own framing are refused.
	Header map[string]string
	// Retry says how often and how long a failed delivery is tried again. The zero value means the defaults.
	Retry Retry
	// Labels are for finding timers, at most 16; names are tokens.
	Labels map[string]string
	// Paused creates the timer paused: it does not fire before Resume.
	Paused bool
}

// Target is what a timer calls.
type Target struct {
	// Transport is "http" (which also does https), "nats", "call", "route", "tcp", or a name from Config.Transports. Empty means the
	// scheme of URI: http and https are "http", any other its own name.
	Transport string `json:"transport,omitempty"`
	// URI is where it goes: a URL for http, a subject for nats, service.endpoint for call, a name for route, host:port for tcp; the last four
	// also with their scheme, as in call://service.endpoint.
	URI string `json:"uri"`
	// Method is for http, and those of Config.Transports; the other ones have none. For http it is POST (the default), PUT, PATCH, DELETE, GET, HEAD or OPTIONS.
	Method string `json:"method,omitempty"`
	// Secret is the name of the key that signs an http request as Standard Webhooks 1.0 does, see [Secrets]. Empty means unsigned. It has
	// to be there when the timer is made, as far as who makes it may read secrets.
	Secret string `json:"secret,omitempty"`
	// Timeout is for one attempt. 0 means 15 s; at most 10 min.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// Retry says what happens after a failed attempt: wait a random time (full jitter) below First, doubled with each
// attempt up to Last, and try again; a Retry-After of the target that is longer counts, up to the end of MaxAge. It is given up after MaxAttempts, or when the next attempt would
// be more than MaxAge after the time due, or after it fired where that was later.
type Retry struct {
	MaxAttempts int           `json:"max_attempts,omitempty"` // 0 means 10, 1 never again, at most 50
	First       time.Duration `json:"first,omitempty"`        // 0 means 1 s; 10 ms to 24 h
	Last        time.Duration `json:"last,omitempty"`         // 0 means 1 h; First to 24 h
	MaxAge      time.Duration `json:"max_age,omitempty"`      // 0 means 24 h; at most 30 days
}

// State is where a timer is.
type State string

// The states.
const (
	Scheduled State = "scheduled"
	Paused    State = "paused"
	Firing    State = "firing"   // due, and being delivered
	Retrying  State = "retrying" // an attempt failed, the next one waits
)

// States are all states. What was given up is no timer any more, see [DeadLetters].
func States() []State { return []State{Scheduled, Paused, Firing, Retrying} }

// Timer is a timer as it is stored.
type Timer struct {
	Spec  // with its ID, and At in place of After: for the states firing and retrying, when the occurrence was due
	State State
	// Revision changes with everything that changes the timer, a recurrence included. Update and Cancel compare it.
	Revision uint64
	Created  time.Time
	// Due is when it fires next, jitter included.
	Due time.Time
	// Occurrence is the number of a recurring timer's next or current occurrence, see [Repeat]. It is 1 for others.
	Occurrence int64
	// Attempts are those of the delivery under way, in the states retrying and firing.
	Attempts []Attempt
	// NextAttempt is when the next one is made, in the state retrying.
	NextAttempt time.Time

	cursor string
}

// Attempt is one try to deliver.
type Attempt struct {
	At     time.Time     `json:"at"`
	Took   time.Duration `json:"took"`
	Status int           `json:"status,omitempty"` // of an HTTP answer
	Code   bus.Code      `json:"code,omitempty"`   // empty means success
	Error  string        `json:"error,omitempty"`  // at most 200 bytes
}
