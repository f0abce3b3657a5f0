package mirror

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/skybus-io/skybus/internal/leanhttp"
)

// request is a write as it is stored and sent to each backend. It is stored as the text of an HTTP/1.1 request without its
// Content-Length, so that everybody's tools can read it.
type request struct {
	method string
	target string // path and query, as the client sent them
	host   string
	fields leanhttp.Header
	body   []byte
}

type field = leanhttp.Field

// get is the value of a field whose name is in canonical form.
func (r *request) get(name string) string {
	for _, f := range r.fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

const (
	protocol  = " HTTP/1.1\r\n"
	hostField = "Host: "
)

// encode is the message of the request. Its parts must have been checked: none holds a line break.
func (r *request) encode() []byte {
	size := len(r.method) + 1 + len(r.target) + len(protocol) + len(hostField) + len(r.host) + 4 + len(r.body)
	for _, f := range r.fields {
		size += len(f.Name) + len(f.Value) + 4
	}
	b := make([]byte, 0, size)
	b = append(append(append(append(b, r.method...), ' '), r.target...), protocol...)
	b = append(append(append(b, hostField...), r.host...), '\r', '\n')
	for _, f := range r.fields {
		b = append(append(append(append(append(b, f.Name...), ':', ' '), f.Value...), '\r'), '\n')
	}
	return append(append(b, '\r', '\n'), r.body...)
}

var errNoRequest = errors.New("mirror: the message is no stored request")

// decodeRequest reads what encode made. The body is part of data.
func decodeRequest(data []byte) (*request, error) {
	head, body, ok := bytes.Cut(data, []byte("\r\n\r\n"))
	if !ok {
		return nil, errNoRequest
	}
	text := string(head)
	line, text := cutLine(text)
	r := &request{body: body, fields: make(leanhttp.Header, 0, 12)}
	method, rest, ok := cutByte(line, ' ')
	if !ok || len(rest) < len(protocol)-2 || rest[len(rest)-len(protocol)+2:] != protocol[:len(protocol)-2] {
		return nil, errNoRequest
	}
	r.method, r.target = method, rest[:len(rest)-len(protocol)+2]
	if line, text = cutLine(text); len(line) < len(hostField) || line[:len(hostField)] != hostField {
		return nil, errNoRequest
	}
	r.host = line[len(hostField):]
	for text != "" {
		line, text = cutLine(text)
		name, value, ok := cutByte(line, ':')
		if !ok || value == "" || value[0] != ' ' {
			return nil, errNoRequest
		}
		r.fields = append(r.fields, field{Name: name, Value: value[1:]})
	}
	return r, r.check()
}

// check holds for whatever is sent: what was stored may be another's.
func (r *request) check() error {
	if !isToken(r.method) || r.target == "" || r.target[0] != '/' || !isLine(r.target) || !isLine(r.host) {
		return errNoRequest
	}
	for _, f := range r.fields {
		if !isToken(f.Name) || !isLine(f.Value) {
			return errNoRequest
		}
	}
	return nil
}

// isLine tells whether s may stand in the head of a request.
func isLine(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func cutLine(s string) (line, rest string) {
	for i := 0; i+1 < len(s); i++ {
		if s[i] == '\r' && s[i+1] == '\n' {
			return s[:i], s[i+2:]
		}
	}
	return s, ""
}

func cutByte(s string, c byte) (before, after string, ok bool) {
	for i := range len(s) {
		if s[i] == c {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// fieldsOf are the fields of h without those of skip, by name.
func fieldsOf(h http.Header, skip func(name string) bool) leanhttp.Header {
	fields := make(leanhttp.Header, 0, len(h)+4)
	for name, values := range h {
		if skip(name) {
			continue
		}
		for _, v := range values {
			fields = append(fields, field{Name: name, Value: v})
		}
	}
	slices.SortStableFunc(fields, func(a, b field) int { return cmpString(a.Name, b.Name) })
	return fields
}

func cmpString(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// stamp adds what every delivery of a write carries beside its own fields, so that a backend can refuse repeats.
func (w *write) stamp() {
	w.fields = append(w.fields, field{Name: headerSeq, Value: strconv.FormatUint(w.seq, 10)}, field{Name: headerLane, Value: strconv.Itoa(w.lane)})
}
