package http

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// Defaults of [Events].
const (
	DefaultHeartbeat        = 15 * time.Second
	DefaultEventRetry       = 2 * time.Second
	DefaultEventDuration    = time.Hour
	DefaultEventBuffer      = 256
	DefaultEventSubscribers = 10_000 // of an entry, and of a gateway
)

const (
	maxEventBuffer      = 64 << 10
	maxEventSubscribers = 1 << 20
	maxEventDuration    = 7 * 24 * time.Hour
	maxEventName        = 64
	eventBytes          = 1 << 20          // what may wait for one subscriber, beside its last event
	eventWriteTimeout   = 10 * time.Second // for a client to take what it is sent

	eventNameSubject = "subject"
	eventNameHeader  = "header."
	eventStartNew    = "new"
	eventStartAll    = "all"

	// What the gateway's own events are called.
	eventReset  = "reset"
	eventEnd    = "end"
	eventFailed = "failed"
)

// Events makes the answer of an entry a stream of server-sent events. One of Subject alone, Subject with Stream, and Call is set.
//
// # Delivery
//
// Events of a subject are those published while the client is connected, each at most once. Where some may have been missed, because the gateway's own
// connection was away, the client is told so by an event called reset. Events of a stream have an id, "<sequence>-<tag>", whose tag is that of the stream and of no other that had its
// name before: a browser that connects again, and whoever else sends Last-Event-ID, gets what was stored since then. A sequence alone is taken for one of the
// stream that is there. An event called reset, with {"last":..., "first":...}, says that what followed the last one is not kept any more, or that the stream was
// made anew; then all that it keeps follows. What is no such id counts as none: after a reset the client begins as Start says. The events of a streaming endpoint are its messages; its end is told by
// an event called end, its error by one called failed, with problem details. What EventSource in a browser does after any end is
// to connect again: close it there.
//
// # Flow
//
// What waits for a client is bounded by Buffer and 1 MiB. Who falls behind that is cut off, and may resume where there are ids. A streaming endpoint waits instead, and is
// cut off when its client takes nothing for 10 s. Whether the credential of a client is still good is looked at every 15 s.
type Events struct {
	// Subject is what is subscribed to: <app>.<env>.pub. or another prefix that the gateway allows, or <app>.<env>.ev. Tokens may be * and the
	// last one >; placeholders ({path.id}, {query.q}, {claim.sub}) stand for one token each and never for a wildcard.
	Subject string `json:"subject,omitempty"`
	// Stream is a JetStream stream to read Subject from.
	Stream string `json:"stream,omitempty"`
	// Call is a streaming endpoint, "service.endpoint", that is called with the request.
	Call string `json:"call,omitempty"`
	// Start is where a client begins that brings no Last-Event-ID: "new" events of a stream, or "all" that it keeps. Empty means new.
	Start string `json:"start,omitempty"`
	// Name is what events are called: "subject" for the last token of theirs, "header.NAME" for a header of the message. Empty means that they have no
	// name, which is "message" in browsers.
	Name string `json:"name,omitempty"`
	// Heartbeat is how often a comment is sent while there are no events, at least 1 s. 0 means 15 s.
	Heartbeat route.Duration `json:"heartbeat,omitzero"`
	// Retry is how long clients wait before they connect again. 0 means 2 s.
	Retry route.Duration `json:"retry,omitzero"`
	// MaxDuration is when a client is made to connect again, at most 168h; a tenth of it is left to chance. 0 means 1 h.
	MaxDuration route.Duration `json:"max_duration,omitzero"`
	// Buffer is how many events may wait for one client. 0 means 256, at most 65,536.
	Buffer int `json:"buffer,omitempty"`
	// MaxSubscribers is how many clients the entry has at a time in one gateway; more is 503. 0 means 10,000.
	MaxSubscribers int `json:"max_subscribers,omitempty"`
}

// Validate finds what is wrong with e. The errors have the code invalid_argument and the detail field.
func (e Events) Validate() error {
	_, err := e.compile()
	return err
}

// String names what the events are of, such as events of default.dev.pub.orders.
func (e Events) String() string {
	switch {
	case e.Call != "":
		return "events of call " + e.Call
	case e.Stream != "":
		return "events of stream " + e.Stream + " " + e.Subject
	}
	return "events of " + e.Subject
}

// eventSource is an Events that was checked, with its defaults.
type eventSource struct {
	Events

	service, endpoint string // of Call
	subject           initiators.Subject
	opening           time.Duration // for Call to take the stream
}

func (e Events) compile() (*eventSource, error) {
	src := &eventSource{Events: e, opening: DefaultTimeout}
	var err error
	switch {
	case e.Call != "":
		if e.Subject != "" || e.Stream != "" || e.Start != "" || e.Name != "" {
			return nil, invalid("events", "call goes with none of subject, stream, start and name")
		}
		if src.service, src.endpoint, err = micro.ParseTarget(e.Call); err != nil {
			return nil, invalid("events.call", "%w", err)
		}
	case e.Subject == "":
		return nil, invalid("events.subject", "is missing: want a subject such as default.dev.pub.orders.{path.id}, or call")
	default:
		if src.subject, err = initiators.ParseSubject(e.Subject, true); err != nil {
			return nil, invalid("events.subject", "%w", err)
		}
		if e.Stream != "" {
			if err := bus.CheckToken("stream", e.Stream); err != nil {
				return nil, invalid("events.stream", "%w", err)
			}
		}
	}
	if err := src.checkWords(); err != nil {
		return nil, err
	}
	return src, src.setDefaults()
}

func (e *eventSource) checkWords() error {
	if e.Start != "" && (e.Stream == "" || e.Start != eventStartNew && e.Start != eventStartAll) {
		return invalid("events.start", "%.40q: want %s or %s, for the events of a stream", e.Start, eventStartNew, eventStartAll)
	}
	name, header := strings.CutPrefix(e.Name, eventNameHeader)
	if e.Name != "" && e.Name != eventNameSubject && (!header || bus.CheckToken("header", name) != nil) {
		return invalid("events.name", "%.80q: want %s or %sNAME", e.Name, eventNameSubject, eventNameHeader)
	}
	return nil
}

func (e *eventSource) setDefaults() error {
	for _, d := range []struct {
		name              string
		value             *route.Duration
		least, most, none time.Duration
	}{
		{"heartbeat", &e.Heartbeat, time.Second, time.Hour, DefaultHeartbeat},
		{"retry", &e.Retry, 10 * time.Millisecond, time.Hour, DefaultEventRetry},
		{"max_duration", &e.MaxDuration, time.Second, maxEventDuration, DefaultEventDuration},
	} {
		if *d.value == 0 {
			*d.value = route.Duration(d.none)
		}
		if v := time.Duration(*d.value); v < d.least || v > d.most {
			return invalid("events."+d.name, "%v: want %v to %v", v, d.least, d.most)
		}
	}
	e.Buffer, e.MaxSubscribers = cmp.Or(e.Buffer, DefaultEventBuffer), cmp.Or(e.MaxSubscribers, DefaultEventSubscribers)
	if e.Buffer < 1 || e.Buffer > maxEventBuffer {
		return invalid("events.buffer", "%d: want 1 to %d events", e.Buffer, maxEventBuffer)
	}
	if e.MaxSubscribers < 1 || e.MaxSubscribers > maxEventSubscribers {
		return invalid("events.max_subscribers", "%d: want 1 to %d", e.MaxSubscribers, maxEventSubscribers)
	}
	return nil
}

// checkSubject tells whether the subjects of e are such that clients may hear them: those that targets may publish to, below prefixes, and what
// skybus tells of a namespace.
func (e *eventSource) checkSubject(conn *bus.Conn, prefixes []string) error {
	if e.Call != "" {
		return nil
	}
	if err := e.checkPrefix(conn.Namespace(), prefixes); err != nil {
		return err
	}
	example, err := e.example()
	if err != nil {
		return err
	}
	return checkHearable(conn, example)
}

// checkPrefix is as much of checkSubject as can be told without a connection.
func (e *eventSource) checkPrefix(ns bus.Namespace, prefixes []string) error {
	if e.Call != "" {
		return nil
	}
	allowed := []string{ns.String() + ".pub."}
	if len(prefixes) > 0 {
		allowed = slices.Clone(prefixes)
	}
	allowed = append(allowed, ns.String()+".ev.")
	if !slices.ContainsFunc(allowed, func(p string) bool { return strings.HasPrefix(e.subject.Fixed(), p) }) {
		return bus.Errorf(bus.PermissionDenied, "events.subject: %.80q: only those below %s are allowed", e.subject, strings.Join(allowed, " and ")).
			With("field", "events.subject")
	}
	example, err := e.example()
	if err != nil {
		return err
	}
	return checkForeign(ns, example)
}

// example is a subject that e may come to listen to.
func (e *eventSource) example() (string, error) {
	example, err := e.subject.Expand(func(string) (string, bool) { return "x", true })
	if err != nil {
		return "", invalid("events.subject", "%w", err)
	}
	return example, nil
}

// checkHearable refuses a subject, which may hold wildcards, that is NATS's or skybus's own or takes in any of those in the namespace: who subscribes to
// where services listen is taken for one of them.
func checkHearable(conn *bus.Conn, subject string) error {
	ns := conn.Namespace()
	if err := checkForeign(ns, subject); err != nil || strings.HasPrefix(subject, ns.String()+".ev.") {
		return err
	}
	if err := conn.CheckFree(subject); err != nil {
		return bus.AsError(err).With("field", "events.subject")
	}
	return nil
}

// checkForeign refuses a subject that takes in some of skybus's own in the namespace, save what it tells of itself.
func checkForeign(ns bus.Namespace, subject string) error {
	if strings.HasPrefix(subject, ns.String()+".ev.") {
		return nil
	}
	tokens := strings.Split(subject, ".")
	for _, kind := range []string{"svc", "ver", "one", "inst", "all", "ctl", "ev"} {
		if takesIn(tokens, ns.App, ns.Env, kind) {
			return bus.Errorf(bus.PermissionDenied, "events.subject: %.80q takes in %s.%s., where skybus itself speaks", subject, ns, kind).With("field", "events.subject")
		}
	}
	return nil
}

// takesIn tells whether a subject with wildcards matches any that begin with prefix.
func takesIn(tokens []string, prefix ...string) bool {
	for i, want := range prefix {
		switch {
		case i >= len(tokens):
			return false
		case tokens[i] == ">":
			return true
		case tokens[i] != "*" && tokens[i] != want:
			return false
		}
	}
	return true
}

func invalid(field, format string, args ...any) *bus.Error {
	return bus.Errorf(bus.InvalidArgument, field+": "+format, args...).With("field", field)
}
