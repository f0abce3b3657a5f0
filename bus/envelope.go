package bus

import (
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Headers of the envelope. Only what is set is sent.
const (
	HeaderContentType = "Content-Type"
	HeaderRequestID   = "Skybus-Request-Id"
	HeaderAttempt     = "Skybus-Attempt"
	HeaderCall        = "Skybus-Call"
	HeaderTimeout     = "Skybus-Timeout" // milliseconds left
	HeaderFrom        = "Skybus-From"
	HeaderOneWay      = "Skybus-One-Way"
	HeaderErrorCode   = "Skybus-Error-Code"
	HeaderPrior       = "Skybus-Prior" // bytes at the end of the body that are the response so far
	HeaderTraceparent = "traceparent"
	HeaderTrace       = "Skybus-Trace"  // set: the caller wants to know what each hop took
	HeaderHops        = "Skybus-Hops"   // in a reply: what they took, see package micro
	HeaderStream      = "Skybus-Stream" // marks the frames of package micro/stream
	HeaderBody        = "Skybus-Body"   // of a body that fits into no message: its size and where to fetch it

	// HeaderServiceError and HeaderServiceErrorCode are ADR-32's.
	HeaderServiceError     = "Nats-Service-Error"
	HeaderServiceErrorCode = "Nats-Service-Error-Code"
)

const (
	maxHeaderValue = 600 // two addresses of the longest names
	maxAttempt     = 1000
	maxTimeout     = 24 * time.Hour
)

// Envelope is what travels beside the body of a request.
type Envelope struct {
	// ContentType names the codec of the body. Empty means JSON.
	ContentType string
	// RequestID is the same for all attempts of one request and for the requests it leads to.
	RequestID string
	// Attempt counts from 1 to 1000; more is sent as 1000. 0 is sent as nothing and read as 1.
	Attempt int
	// Call tells attempts apart that RequestID and Attempt do not, for who gives one of them up: a handler's calls all have its request id. Empty
	// where the request id is new.
	Call string
	// Timeout is how long the caller still waits. 0 means it did not say.
	Timeout time.Duration
	// Origin is the address of who began the chain of calls that led to this one, From that of the caller. One header
	// holds both; where they are the same it is told once.
	Origin string
	From   string
	// Prior is how many bytes at the end of the body are not the request but the response that the steps of a route
	// before this one have made, in the same codec. Only endpoints that amend responses are sent it.
	Prior int
	// OneWay marks a message nobody waits for.
	OneWay bool
	// Traceparent is the W3C trace context.
	Traceparent string
	// Trace asks for what each hop took.
	Trace bool
}

// Header is the envelope as NATS headers. A timeout of more than 24 h is sent as 24 h, the most [ReadEnvelope] takes.
func (e Envelope) Header() nats.Header {
	h := nats.Header{}
	values := make([]string, 0, 10) // of all fields, in one piece: every call has some
	set := func(key, value string) {
		if value != "" {
			values = append(values, value)
			h[key] = values[len(values)-1 : len(values) : len(values)]
		}
	}
	set(HeaderContentType, e.ContentType)
	set(HeaderRequestID, e.RequestID)
	set(HeaderCall, e.Call)
	set(HeaderFrom, joinFrom(e.Origin, e.From))
	set(HeaderTraceparent, e.Traceparent)
	if e.Attempt > 1 {
		set(HeaderAttempt, strconv.Itoa(min(e.Attempt, maxAttempt)))
	}
	if e.Timeout > 0 {
		set(HeaderTimeout, strconv.FormatInt(max(1, min(e.Timeout, maxTimeout).Milliseconds()), 10))
	}
	if e.Prior > 0 {
		set(HeaderPrior, strconv.Itoa(e.Prior))
	}
	if e.OneWay {
		set(HeaderOneWay, "1")
	}
	if e.Trace {
		set(HeaderTrace, "1")
	}
	return h
}

// ReadEnvelope reads the envelope of a received message. A value out of range is an error with the code
// [InvalidArgument] that names the header.
func ReadEnvelope(h nats.Header) (Envelope, error) {
	e := Envelope{
		ContentType: first(h, HeaderContentType),
		RequestID:   first(h, HeaderRequestID),
		Call:        first(h, HeaderCall),
		OneWay:      first(h, HeaderOneWay) != "",
		Traceparent: first(h, HeaderTraceparent),
		Trace:       first(h, HeaderTrace) != "",
		Attempt:     1,
	}
	for _, f := range [...]struct{ name, value string }{
		{HeaderContentType, e.ContentType},
		{HeaderRequestID, e.RequestID},
		{HeaderCall, e.Call},
		{HeaderFrom, first(h, HeaderFrom)},
		{HeaderTraceparent, e.Traceparent},
	} {
		if len(f.value) > maxHeaderValue {
			return e, Errorf(InvalidArgument, "header %s has %d bytes: want at most %d", f.name, len(f.value), maxHeaderValue)
		}
	}
	e.Origin, e.From = splitFrom(first(h, HeaderFrom))
	if v := first(h, HeaderPrior); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return e, Errorf(InvalidArgument, "header %s %.40q: want a number of bytes", HeaderPrior, v)
		}
		e.Prior = n
	}
	if v := first(h, HeaderAttempt); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxAttempt {
			return e, Errorf(InvalidArgument, "header %s %.40q: want a number from 1 to %d", HeaderAttempt, v, maxAttempt)
		}
		e.Attempt = n
	}
	if v := first(h, HeaderTimeout); v != "" {
		ms, err := strconv.ParseInt(v, 10, 64)
		if err != nil || ms < 1 || ms > maxTimeout.Milliseconds() {
			return e, Errorf(InvalidArgument, "header %s %.40q: want milliseconds from 1 to %d", HeaderTimeout, v, maxTimeout.Milliseconds())
		}
		e.Timeout = time.Duration(ms) * time.Millisecond
	}
	return e, nil
}

func joinFrom(origin, from string) string {
	if origin == "" || origin == from {
		return from
	}
	return origin + " " + from
}

func splitFrom(v string) (origin, from string) {
	origin, from, ok := strings.Cut(v, " ")
	if !ok {
		return origin, origin
	}
	return origin, from
}

// first is the first value of a header, "" when there is none. NATS header names are case-sensitive.
func first(h nats.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// headerText makes s fit for a header: no line breaks, no control characters.
func headerText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
