package http

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/micro/route"
)

// Limits of an entry.
const (
	MaxTimeout    = time.Hour
	MaxTags       = 32
	MaxTemplates  = 16
	MaxTemplate   = 32 << 10 // bytes of each
	maxText       = 4 << 10
	maxTag        = 64
	maxEntryBody  = 64 << 20
	maxStatuses   = 32
	maxHeaderList = 64
)

// The codecs of an entry.
const (
	CodecJSON        = "json"
	CodecMessagePack = "msgpack"
)

// Entry is what the gateway does with requests of some methods, of a host and a path. Entries are kept by name, see [Store].
type Entry struct {
	// Description and Tags are for people and for the OpenAPI document.
	Description string   `json:"description,omitempty"`
	Tags        []string `json:"tags,omitempty"`

	// Method is GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS; Methods are several of these. Neither means all. GET is HEAD too.
	Method  string   `json:"method,omitempty"`
	Methods []string `json:"methods,omitempty"`
	// Host restricts the entry to requests for that host, whatever the port. Empty means any.
	Host string `json:"host,omitempty"`
	// Path is a pattern as [http.ServeMux] has them, without method and host: /orders/{id}, /files/{rest...}, /exact/{$}. Of two that
	// match a request the more specific one gets it; two of which neither is more specific conflict.
	Path string `json:"path"`
	// Listener is the name of the listener where the entry is. Empty means the gateway's first one, * all.
	Listener string `json:"listener,omitempty"`

	// Spec is the target, and what is made of requests and replies. Without Spec.Request the request is the body as it came. Where the
	// path has parameters, the URL has a query, or the method has no body, these are merged into a body that is an object, or
	// empty ([initiators.BodyMerge]); for calls and routes only.
	initiators.Spec

	Access

	// Codec is what the target is sent: json or msgpack. Empty means what the client sent, JSON for forms and where there is no body.
	Codec string `json:"codec,omitempty"`
	// Timeout is how long a request may take once its body is read. 0 means the gateway's. MaxTimeout is the longest that a client may ask
	// for by the header Skybus-Timeout; 0 means Timeout. At most 1 h.
	Timeout    route.Duration `json:"timeout,omitzero"`
	MaxTimeout route.Duration `json:"max_timeout,omitzero"`
	// MaxBody is how many bytes a body may have. 0 means as the gateway's Config says; at most 64 MiB.
	MaxBody Bytes `json:"max_body,omitempty"`

	// Headers are those that pass between client and target, and those set on answers.
	Headers *Headers `json:"headers,omitempty"`
	// Templates make answers for clients that accept their media type, by that: text/html, application/xml, text/csv. See [Answer] for what
	// they are executed with.
	Templates map[string]string `json:"templates,omitempty"`
	// Events makes the answer a stream of server-sent events. There is no other target then.
	Events *Events `json:"events,omitempty"`
	// Async lets clients be answered later, and Idempotency lets them repeat writes. Nil does neither.
	Async       *Async       `json:"async,omitempty"`
	Idempotency *Idempotency `json:"idempotency,omitempty"`
	// Statuses are HTTP statuses by the code of an error, such as not_found, 400 to 599, and for the code ok, 200 to 299.
	Statuses map[string]int `json:"statuses,omitempty"`
}

// Headers are what of the headers goes on.
type Headers struct {
	// Forward are those of the request that the target is given, within the limits of [bus.CheckHeader]. None by default.
	Forward []string `json:"forward,omitempty"`
	// Return are those of the target's reply that the client is given. None by default.
	Return []string `json:"return,omitempty"`
	// Set are set on every answer.
	Set map[string]string `json:"set,omitempty"`
}

// FieldError says which field of an entry is wrong.
type FieldError struct {
	Field string // as a path: headers.forward[1]
	Err   error
}

// Error is the field and what is wrong with it.
func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap is what is wrong.
func (e *FieldError) Unwrap() error { return e.Err }

// faults gathers what is wrong with an entry.
type faults []error

func (f *faults) add(field, format string, args ...any) {
	*f = append(*f, &FieldError{field, fmt.Errorf(format, args...)})
}

// take adds an error whose detail or text begins with the field.
func (f *faults) take(err error) {
	if err == nil {
		return
	}
	e := bus.AsError(err)
	field, text := e.Details["field"], e.Message
	if field == "" {
		field, text, _ = strings.Cut(text, ": ")
	}
	*f = append(*f, &FieldError{field, errors.New(strings.TrimPrefix(text, field+": "))})
}

func (f *faults) err() error { return errors.Join(*f...) }

// Validate tells whether e can be stored. The error is a [FieldError], or several joined. Whether a gateway can serve it depends on its
// own configuration too: its listeners, what it may publish, whether it has a scheduler.
func (e Entry) Validate() error {
	var f faults
	e.checkTexts(&f)
	e.checkWhere(&f)
	e.checkTarget(&f)
	if !slices.Contains([]string{"", CodecJSON, CodecMessagePack}, e.Codec) {
		f.add("codec", "%.40q: want %s, %s or none", e.Codec, CodecJSON, CodecMessagePack)
	}
	for _, d := range []struct {
		name string
		d    route.Duration
	}{{"timeout", e.Timeout}, {"max_timeout", e.MaxTimeout}} {
		if d.d < 0 || time.Duration(d.d) > MaxTimeout {
			f.add(d.name, "%v: want 0s to %v", time.Duration(d.d), MaxTimeout)
		}
	}
	if e.MaxTimeout != 0 && e.MaxTimeout < e.Timeout {
		f.add("max_timeout", "%v is less than timeout", time.Duration(e.MaxTimeout))
	}
	if e.MaxBody < 0 || e.MaxBody > maxEntryBody {
		f.add("max_body", "%d: want 1 to %d bytes, or 0 for the gateway's", e.MaxBody, maxEntryBody)
	}
	e.checkAccess(&f)
	e.checkStatuses(&f)
	e.Headers.check(&f)
	if _, err := parseTemplates(e.Templates); err != nil {
		f.take(err)
	}
	return f.err()
}

// CheckSubject tells whether gateways of a namespace may serve the subject that e publishes to, or has events of: it lies below one of prefixes, as
// [initiators.Sources] has them. Nothing is asked of NATS. The error has the code permission_denied and the detail field.
func (e Entry) CheckSubject(ns bus.Namespace, prefixes []string) error {
	if e.Events == nil {
		return e.Spec.CheckSubject(ns, prefixes)
	}
	src, err := e.Events.compile()
	if err != nil {
		return err
	}
	return src.checkPrefix(ns, prefixes)
}

// String names what e sends to, such as call orders.get, or what it answers with events of.
func (e Entry) String() string {
	if e.Events != nil {
		return e.Events.String()
	}
	return e.Spec.String()
}

// checkTarget checks what becomes of requests.
func (e Entry) checkTarget(f *faults) {
	if e.Events == nil {
		if err := e.Spec.Validate(); err != nil {
			f.take(err)
		} else {
			f.take(e.CheckPlaceholders(e.hasValue, wantValues))
		}
	} else {
		e.checkEvents(f)
	}
	if e.Async != nil {
		f.take(e.Async.Validate())
		e.checkLater(f)
	}
	if e.Idempotency != nil {
		f.take(e.Idempotency.Validate())
	}
}

// wantValues is what requests have values of, for people.
const wantValues = "a parameter of the path as {path.NAME}, {query.NAME}, {form.NAME}, {header.NAME} but for credentials, {cookie.NAME}, {body.NAME}, {auth.id}, {claim.NAME}, " +
	"{method}, {host}, {path}, {remote} or {id}"

// hasValue tells whether a placeholder of the mapping may stand for something (see exchange.value).
func (e Entry) hasValue(name string) bool {
	kind, rest, dotted := strings.Cut(name, ".")
	if !dotted {
		return slices.Contains([]string{"method", "host", "path", "remote"}, name)
	}
	switch kind {
	case "path":
		return slices.Contains(parameters(e.Path), rest)
	case "header":
		return !isCredential(rest)
	}
	return slices.Contains([]string{"query", "form", "auth", "claim", "cookie"}, kind)
}

func (e Entry) checkEvents(f *faults) {
	f.take(e.Events.Validate())
	for _, p := range initiators.Placeholders(e.Events.Subject) {
		if !p.Optional && p.Name != "id" && !e.hasValue(p.Name) {
			f.add("events.subject", "{%s} is never there: want %s", p.Name, wantValues)
		}
	}
	f.take(e.CheckPlaceholders(e.hasValue, wantValues))
	bare := e.Spec
	bare.Request = nil
	if bare != (initiators.Spec{}) {
		f.add("events", "goes with no other target, and no reply")
	}
	if e.Request != nil && e.Events.Call == "" {
		f.add("request", "is for the events of a call")
	} else if e.Events.Call != "" {
		f.take(initiators.Spec{Call: e.Events.Call, Request: e.Request}.Validate())
	}
	if e.Async != nil || e.Idempotency != nil || len(e.Templates) > 0 {
		f.add("events", "goes with none of async, idempotency and templates")
	}
}

func (e Entry) checkTexts(f *faults) {
	if len(e.Description) > maxText {
		f.add("description", "has %d bytes: want at most %d", len(e.Description), maxText)
	}
	if len(e.Tags) > MaxTags {
		f.add("tags", "there are %d: want at most %d", len(e.Tags), MaxTags)
	}
	for i, tag := range e.Tags {
		if tag == "" || len(tag) > maxTag {
			f.add(fmt.Sprintf("tags[%d]", i), "has %d bytes: want 1 to %d", len(tag), maxTag)
		}
	}
}

// checkWhere checks what says which requests the entry is for.
func (e Entry) checkWhere(f *faults) {
	if e.Method != "" && len(e.Methods) > 0 {
		f.add("methods", "want one of method and methods")
	}
	if e.Method != "" && !slices.Contains(methods(), e.Method) {
		f.add("method", "%.40q: want one of %s", e.Method, strings.Join(methods(), ", "))
	}
	for i, m := range e.Methods {
		if field := fmt.Sprintf("methods[%d]", i); !slices.Contains(methods(), m) {
			f.add(field, "%.40q: want one of %s", m, strings.Join(methods(), ", "))
		} else if slices.Contains(e.Methods[:i], m) {
			f.add(field, "%s is there already", m)
		}
	}
	if e.Host != "" && !validHost(e.Host) {
		f.add("host", "%.80q: want a name of a-z 0-9 - . without a port", e.Host)
	}
	if e.Listener != "" && e.Listener != AllListeners {
		if err := bus.CheckToken("listener", e.Listener); err != nil {
			f.add("listener", "%s", strings.TrimPrefix(bus.AsError(err).Message, "listener "))
		}
	}
	if err := checkPath(e.Path); err != nil {
		f.add("path", "%w", err)
	}
}

func (e Entry) checkStatuses(f *faults) {
	if len(e.Statuses) > maxStatuses {
		f.add("statuses", "there are %d: want at most %d", len(e.Statuses), maxStatuses)
	}
	for _, code := range sorted(e.Statuses) {
		status, least, most := e.Statuses[code], 400, 599
		if code == codeOK {
			least, most = 200, 299
		} else if !slices.Contains(errorCodes(), bus.Code(code)) {
			f.add("statuses."+code, "is no code: want ok, or that of an error, such as not_found")
			continue
		}
		if status < least || status > most {
			f.add("statuses."+code, "%d: want %d to %d", status, least, most)
		}
	}
}

const codeOK = "ok"

func errorCodes() []bus.Code {
	return []bus.Code{
		bus.Canceled, bus.Unknown, bus.InvalidArgument, bus.DeadlineExceeded, bus.NotFound, bus.AlreadyExists, bus.PermissionDenied, bus.ResourceExhausted,
		bus.FailedPrecondition, bus.Aborted, bus.OutOfRange, bus.Unimplemented, bus.Internal, bus.Unavailable, bus.DataLoss, bus.Unauthenticated,
	}
}

// methods are those that entries may have.
func methods() []string {
	return []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
	}
}

func (h *Headers) check(f *faults) {
	if h == nil {
		return
	}
	for _, list := range []struct {
		name  string
		names []string
	}{{"headers.forward", h.Forward}, {"headers.return", h.Return}} {
		if len(list.names) > maxHeaderList {
			f.add(list.name, "there are %d: want at most %d", len(list.names), maxHeaderList)
		}
		for i, name := range list.names {
			if err := checkPassed(name); err != nil {
				f.add(fmt.Sprintf("%s[%d]", list.name, i), "%w", err)
			}
		}
	}
	if len(h.Set) > maxHeaderList {
		f.add("headers.set", "there are %d: want at most %d", len(h.Set), maxHeaderList)
	}
	for _, name := range sorted(h.Set) {
		if err := checkPassed(name); err != nil {
			f.add("headers.set."+name, "%w", err)
		} else if strings.ContainsFunc(h.Set[name], func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			f.add("headers.set."+name, "has a control character")
		}
	}
}
