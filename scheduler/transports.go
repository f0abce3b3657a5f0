package scheduler

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/skybus-io/skybus/bus"
)

// Names of the transports that are there always.
const (
	transportHTTP  = "http"
	transportHTTPS = "https" // another name of http
	transportNATS  = "nats"
	transportCall  = "call"
	transportRoute = "route"
	transportTCP   = "tcp"
)

// Fields of a [Spec] as errors name them.
const (
	fieldURI         = "target.uri"
	fieldMethod      = "target.method"
	fieldTransport   = "target.transport"
	fieldTimeout     = "target.timeout"
	fieldSecret      = "target.secret"
	fieldPayload     = "payload"
	fieldContentType = "content_type"
)

// payloadChecker is for transports that do not take every payload.
type payloadChecker interface {
	checkPayload(payload []byte, contentType string) error
}

// builtin makes the transports http, nats, call, route and tcp as cfg says.
func (s *Scheduler) builtin() (map[string]Transport, error) {
	g, err := newGuard(s.cfg.AllowNetworks, s.cfg.AllowPorts)
	if err != nil {
		return nil, err
	}
	publish, err := newNATSTransport(s.conn, s.cfg.Publish)
	if err != nil {
		return nil, err
	}
	return map[string]Transport{
		transportHTTP:  newHTTPTransport(g, newSigners(s.conn), s.cfg.PerDestination),
		transportNATS:  publish,
		transportCall:  &callTransport{conn: s.conn},
		transportRoute: &callTransport{conn: s.conn, route: true},
		transportTCP:   newTCPTransport(g, s.cfg.PerDestination),
	}, nil
}

// checkTarget tells whether a timer may call t with what it sends, and returns t as it is stored. Its errors name the field in the
// detail "field".
func (s *Scheduler) checkTarget(ctx context.Context, t Target, payload []byte, contentType string, header map[string]string) (Target, error) {
	t, transport, err := s.target(t)
	if err != nil {
		return t, err
	}
	if err := checkHeader(header); err != nil {
		return t, err
	}
	if p, ok := transport.(payloadChecker); ok {
		if err := p.checkPayload(payload, contentType); err != nil {
			return t, err
		}
	}
	if err := transport.Check(ctx, t); err != nil {
		return t, targetError(err)
	}
	return t, nil
}

// target is t as it is stored, with its transport: named, the URI without the transport's own scheme, the method in capitals and
// only where it means something.
func (s *Scheduler) target(t Target) (Target, Transport, error) {
	scheme, rest, ok := strings.Cut(t.URI, "://")
	scheme = strings.ToLower(scheme)
	if t.Transport == "" {
		if !ok {
			return t, nil, invalid(fieldTransport, "is empty, and %s has no scheme that names it: want one of %s", fieldURI, s.known())
		}
		t.Transport = scheme
	}
	if _, own := s.transports[t.Transport]; !own && t.Transport == transportHTTPS {
		t.Transport = transportHTTP
	}
	transport, ok := s.transports[t.Transport]
	if !ok {
		return t, nil, invalid(fieldTransport, "%.80q is not known: want one of %s", t.Transport, s.known())
	}
	switch t.Transport {
	case transportHTTP:
		t.Method = strings.ToUpper(t.Method)
	case transportNATS, transportCall, transportRoute, transportTCP:
		t.Method = ""
		if scheme == t.Transport && rest != "" {
			t.URI = rest
		}
	default:
		if t.Method != "" && bus.CheckToken(fieldMethod, t.Method) != nil {
			return t, nil, invalid(fieldMethod, "is %.80q: want letters, digits, _ and -", t.Method)
		}
	}
	return t, transport, checkCommon(t)
}

// checkCommon checks what is the same for all transports.
func checkCommon(t Target) error {
	if t.URI == "" {
		return invalid(fieldURI, "is empty")
	}
	if n := utf8.RuneCountInString(t.URI); n > MaxURI {
		return invalid(fieldURI, "has %d characters: want at most %d", n, MaxURI)
	}
	if err := checkHeaderValue(fieldURI, t.URI); err != nil {
		return bus.AsError(err).With("field", fieldURI)
	}
	if !utf8.ValidString(t.URI) {
		return invalid(fieldURI, "is not UTF-8")
	}
	if t.Timeout < 0 || t.Timeout > MaxTargetTime {
		return invalid(fieldTimeout, "is %s: want 0 to %s", t.Timeout, MaxTargetTime)
	}
	if t.Secret == "" {
		return nil
	}
	if t.Transport != transportHTTP {
		return invalid(fieldSecret, "is for http: only such requests are signed")
	}
	if err := bus.CheckToken(fieldSecret, t.Secret); err != nil {
		return bus.AsError(err).With("field", fieldSecret)
	}
	return nil
}

// known are the names of the transports.
func (s *Scheduler) known() string {
	return strings.Join(slices.Sorted(maps.Keys(s.transports)), ", ")
}

// targetError gives the error of a Transport's Check a code and a field.
func targetError(err error) error {
	e := *bus.AsError(err) // a copy: it may be one that others hold
	if e.Code == bus.Unknown {
		e = *bus.Wrap(bus.InvalidArgument, e.Message, err)
	}
	if e.Code == bus.PermissionDenied && e.Status == 0 {
		e.Status = http.StatusUnprocessableEntity // it is the target's fault, not that of who asks
	}
	e.Details = maps.Clone(e.Details)
	if e.Details["field"] == "" {
		return e.With("field", fieldURI)
	}
	return &e
}
