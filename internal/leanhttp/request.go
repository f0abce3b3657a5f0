package leanhttp

import (
	"net/http"
	"strconv"
	"time"
)

// Request is what is sent. It is only read, and may be sent again, also by several at once.
type Request struct {
	Method string
	// Target is path and query, sent byte by byte as it is: it begins with a slash and has no space, control character or '#'. For
	// OPTIONS it may be "*".
	Target string
	Host   string // empty means the client's address
	// Header has the other fields. Those that belong to the connection are the client's: a Host, Content-Length, Transfer-Encoding,
	// Connection, Keep-Alive, Proxy-Connection, TE, Trailer, Upgrade or Expect in it is an error.
	Header Header
	Body   []byte

	// Deadline is for the whole answer, or with Stall for its head; zero means that of the ctx.
	Deadline time.Time
	// Stall is how long the body of a stream may pause; 0 means until the deadline.
	Stall time.Duration
	// Repeatable: the backend may get the request twice. It is then sent once more, at once and on a new connection, when one that had
	// been kept open ends before a byte of the answer.
	Repeatable bool
	// Ready is asked right before what makes the request a whole one is written, at each attempt; nil means that it always is. Its error
	// ends the request, which the backend has not got then, or not to its end.
	Ready func() error
}

// ready asks whether the request may be sent now.
func (r *Request) ready() error {
	if r.Ready == nil {
		return nil
	}
	if err := r.Ready(); err != nil {
		return &notReadyError{err}
	}
	return nil
}

// notReadyError is one of [Request].Ready.
type notReadyError struct{ error }

func (e *notReadyError) Unwrap() error { return e.error }

// check makes sure that nothing in the request can become another line, or another request.
func (r *Request) check() error {
	switch {
	case !token(r.Method):
		return requestf("method %.50q", r.Method)
	case r.Method == http.MethodConnect:
		return requestf("CONNECT is not supported")
	case !validTarget(r.Target) && (r.Target != "*" || r.Method != http.MethodOptions):
		return requestf("target %.100q", r.Target)
	case r.Host != "" && !validHost(r.Host):
		return requestf("host %.100q", r.Host)
	}
	for i := range r.Header {
		f := &r.Header[i]
		switch {
		case !token(f.Name):
			return requestf("header name %.50q", f.Name)
		case !validValue(f.Value):
			return requestf("value of the header %.50q", f.Name)
		case reserved(f.Name):
			return requestf("header %q belongs to the connection", f.Name)
		}
	}
	return nil
}

// reserved tells whether a field is about the connection or the framing, which are the client's.
func reserved(name string) bool {
	switch len(name) {
	case len("TE"):
		return equalFold(name, "TE")
	case len("Host"):
		return equalFold(name, "Host")
	case len("Expect"):
		return equalFold(name, "Expect")
	case len("Trailer"): // and Upgrade
		return equalFold(name, "Trailer") || equalFold(name, "Upgrade")
	case len("Connection"): // and Keep-Alive
		return equalFold(name, "Connection") || equalFold(name, "Keep-Alive")
	case len("Content-Length"):
		return equalFold(name, "Content-Length")
	case len("Proxy-Connection"):
		return equalFold(name, "Proxy-Connection")
	case len("Transfer-Encoding"):
		return equalFold(name, "Transfer-Encoding")
	}
	return false
}

// appendHead appends request line and header.
func (r *Request) appendHead(b []byte, addr string) []byte {
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, r.Target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	if r.Host != "" {
		b = append(b, r.Host...)
	} else {
		b = append(b, addr...)
	}
	b = append(b, "\r\n"...)
	for i := range r.Header {
		b = append(b, r.Header[i].Name...)
		b = append(b, ": "...)
		b = append(b, r.Header[i].Value...)
		b = append(b, "\r\n"...)
	}
	if len(r.Body) > 0 || expectsBody(r.Method) {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(r.Body)), 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// expectsBody tells whether an empty body must be said to be empty.
func expectsBody(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch
}
