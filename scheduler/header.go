package scheduler

import (
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/leanhttp"
)

const fieldHeader = "header"

// checkHeader tells whether a user may have h sent along. The rules are the same for all transports, so that a timer can change
// its target: names as bus.CheckHeader wants them, none that HTTP, NATS or skybus mean something by.
func checkHeader(h map[string]string) error {
	if len(h) == 0 {
		return nil
	}
	if len(h) > MaxHeaders {
		return invalid(fieldHeader, "has %d names: want at most %d", len(h), MaxHeaders)
	}
	size := 0
	seen := make(map[string]bool, len(h))
	checked := nats.Header{} // one at a time
	for name, value := range h {
		size += len(name) + len(value)
		if why := reservedName(name); why != "" {
			return invalid(fieldHeader, "%.80q is not allowed: %s", name, why)
		}
		clear(checked)
		checked[name] = nil
		if err := bus.CheckHeader(checked); err != nil {
			return invalid(fieldHeader, "is refused: %s", bus.AsError(err).Message)
		}
		if err := checkHeaderValue("value of "+name, value); err != nil {
			return invalid(fieldHeader, "is refused: %s", bus.AsError(err).Message)
		}
		if !utf8.ValidString(value) {
			return invalid(fieldHeader, "%s has a value that is not UTF-8", name)
		}
		lower := strings.ToLower(name)
		if seen[lower] {
			return invalid(fieldHeader, "%.80q is there twice", name)
		}
		seen[lower] = true
	}
	if size > MaxHeaderBytes {
		return invalid(fieldHeader, "has %d bytes: want at most %d", size, MaxHeaderBytes)
	}
	return nil
}

// reservedName says why a user's header must not have the name, "" where it may.
func reservedName(name string) string {
	lower := strings.ToLower(name)
	switch lower {
	case "host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "keep-alive", "expect":
		return "HTTP's own"
	case "content-type":
		return "it is the timer's content type"
	case "idempotency-key":
		return "skybus sets it"
	}
	switch {
	case strings.HasPrefix(lower, "proxy-"):
		return "HTTP's own"
	case strings.HasPrefix(lower, "webhook-"):
		return "signatures are set by skybus"
	case strings.HasPrefix(lower, "skybus-"):
		return "skybus's own"
	case strings.HasPrefix(lower, "nats-"):
		return "NATS's own"
	}
	return ""
}

// header is what goes along with d over NATS.
func (d *Delivery) header() nats.Header {
	h := make(nats.Header, len(d.Header)+8)
	for name, value := range d.Header {
		h[name] = []string{value}
	}
	if t := d.contentType(); t != "" {
		h[bus.HeaderContentType] = []string{t}
	}
	h[HeaderIdempotencyKey] = []string{d.ID}
	h[HeaderTimerID] = []string{d.TimerID}
	h[HeaderDue] = []string{stamp(d.Due)}
	h[HeaderFired] = []string{stamp(d.Fired)}
	h[HeaderAttempt] = []string{strconv.Itoa(d.Attempt)}
	return h
}

// httpHeader is what goes along with d over HTTP, into h.
func (d *Delivery) httpHeader(h http.Header) {
	h["User-Agent"] = []string{userAgent}
	for name, value := range d.Header {
		h[http.CanonicalHeaderKey(name)] = []string{value}
	}
	if t := d.contentType(); t != "" {
		h["Content-Type"] = []string{t}
	}
	h[HeaderIdempotencyKey] = []string{d.ID}
	h[HeaderTimerID] = []string{d.TimerID}
	h[HeaderDue] = []string{stamp(d.Due)}
	h[HeaderFired] = []string{stamp(d.Fired)}
	h[HeaderAttempt] = []string{strconv.Itoa(d.Attempt)}
}

// plainHeader is the same for HTTP without TLS, with a signature.
func (d *Delivery) plainHeader(signature http.Header) leanhttp.Header {
	h := make(leanhttp.Header, 0, len(d.Header)+len(signature)+7)
	agent := userAgent
	for name, value := range d.Header {
		if http.CanonicalHeaderKey(name) == "User-Agent" {
			agent = value
			continue
		}
		h = append(h, leanhttp.Field{Name: name, Value: value})
	}
	h = append(h, leanhttp.Field{Name: "User-Agent", Value: agent})
	if t := d.contentType(); t != "" {
		h = append(h, leanhttp.Field{Name: "Content-Type", Value: t})
	}
	h = append(h,
		leanhttp.Field{Name: HeaderIdempotencyKey, Value: d.ID},
		leanhttp.Field{Name: HeaderTimerID, Value: d.TimerID},
		leanhttp.Field{Name: HeaderDue, Value: stamp(d.Due)},
		leanhttp.Field{Name: HeaderFired, Value: stamp(d.Fired)},
		leanhttp.Field{Name: HeaderAttempt, Value: strconv.Itoa(d.Attempt)},
	)
	for name, values := range signature {
		for _, value := range values {
			h = append(h, leanhttp.Field{Name: name, Value: value})
		}
	}
	return h
}

// contentType of what d carries.
func (d *Delivery) contentType() string {
	if d.ContentType == "" && len(d.Payload) > 0 {
		return bus.Raw{}.ContentType()
	}
	return d.ContentType
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
