package mirror

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/httpx"
)

// ServeHTTP stores writes and answers them as the policy says, sends reads to a backend, and tells what became of a write. What is wrong
// with a request is answered with problem details (RFC 9457), and then nothing of it has reached a backend, unless the detail says otherwise.
func (m *Mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m.cfg.Authorize != nil {
		if err := m.cfg.Authorize(r); err != nil {
			fail(w, unauthorized(err))
			return
		}
	}
	if err := m.checkHead(r); err != nil {
		if bus.AsError(err).Status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", m.allowed())
		}
		fail(w, err)
		return
	}
	switch {
	case r.RequestURI == "*" && r.Method == http.MethodOptions:
		w.Header().Set("Allow", m.allowed())
		w.WriteHeader(http.StatusNoContent)
	case strings.HasPrefix(r.URL.Path, m.cfg.StatusPath):
		m.serveStatus(w, r)
	case m.isRemoved():
		fail(w, bus.Errorf(bus.Unavailable, "the mirror was removed; nothing was stored").With("stored", "no"))
	case slices.Contains(m.cfg.WriteMethods, r.Method):
		m.serveWrite(w, r)
	default:
		m.serveRead(w, r)
	}
}

// allowed are the methods that are taken.
func (m *Mirror) allowed() string { return strings.Join(m.rules.Methods, ", ") }

func refuseMethod(w http.ResponseWriter, r *http.Request, allow string) {
	w.Header().Set("Allow", allow)
	fail(w, withStatus(http.StatusMethodNotAllowed, bus.Unimplemented, "method %.20q: want one of %s", r.Method, allow))
}

// unauthorized is the answer of Config.Authorize.
func unauthorized(err error) *bus.Error {
	e := bus.AsError(err)
	if e.HTTPStatus() == http.StatusInternalServerError {
		return bus.Wrap(bus.PermissionDenied, err.Error(), err)
	}
	return e
}

// checkHead refuses what no backend should have to understand, and no two of them may understand differently.
func (m *Mirror) checkHead(r *http.Request) error {
	if len(r.RequestURI) > m.cfg.MaxTarget || len(r.URL.Path)+len(r.URL.RawQuery) > m.cfg.MaxTarget {
		return withStatus(http.StatusRequestURITooLong, bus.InvalidArgument, "the path and the query have more than %d bytes", m.cfg.MaxTarget)
	}
	if p := m.rules.Check(r); p != nil {
		return withStatus(p.Status, bus.Code(p.Code), "%s", p.Detail)
	}
	size := 0
	for name, values := range r.Header {
		for _, v := range values {
			size += len(name) + len(v) + 4
		}
	}
	switch {
	case size > m.cfg.MaxHeader:
		return withStatus(http.StatusRequestHeaderFieldsTooLarge, bus.ResourceExhausted, "the header has more than %d bytes", m.cfg.MaxHeader)
	case isUpgrade(r.Header, "websocket"):
		return bus.Errorf(bus.Unimplemented, "this mirror passes no WebSocket on")
	}
	return nil
}

// withStatus is an error with an HTTP status that says more than that of its code.
func withStatus(status int, code bus.Code, format string, args ...any) *bus.Error {
	e := bus.Errorf(code, format, args...)
	e.Status = status
	return e
}

// fail answers with an error.
func fail(w http.ResponseWriter, err error) {
	e := bus.AsError(err)
	status := e.HTTPStatus()
	switch h := w.Header(); {
	case h.Get("Retry-After") != "":
	case status == http.StatusServiceUnavailable:
		h.Set("Retry-After", strconv.Itoa(retrySoon))
	case status == http.StatusInsufficientStorage:
		h.Set("Retry-After", strconv.Itoa(retryLater))
	}
	httpx.Problem{Status: status, Detail: e.Message, Code: string(e.Code), Details: e.Details}.Write(w)
}

// Seconds after which clients are told to try again.
const (
	retrySoon  = 1
	retryLater = 10
)
