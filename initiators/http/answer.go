package http

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/internal/httpx"
	"github.com/skybus-io/skybus/micro/route"
)

// Answer is what pages and templates are made of.
type Answer struct {
	Route     string // or the name of the entry
	RequestID string
	Request   string         // the request's body
	Response  map[string]any // the response where it is an object
	Value     any            // the response, whatever JSON it is; numbers are json.Number
	Raw       string         // the response's body
	Hops      []route.Hop
	Status    int        // of the answer
	Error     *bus.Error // nil when all went well

	entry *served // nil without one
	body  []byte  // of the request
}

// Field is a field of the response.
type Field struct {
	Name  string
	Value any
}

// Fields are the fields of the response by name.
func (a Answer) Fields() []Field {
	var fields []Field
	for _, name := range slices.Sorted(maps.Keys(a.Response)) {
		fields = append(fields, Field{name, a.Response[name]})
	}
	return fields
}

// StatusText is the status in words.
func (a Answer) StatusText() string { return http.StatusText(a.Status) }

// show is a with what a page shows of a response.
func (a Answer) show(status int, body []byte, contentType string) Answer {
	a.Status, a.Request, a.Raw = status, string(a.body), string(body)
	if contentType == typeMessagePack {
		text, err := transcode(typeMessagePack, typeJSON, body)
		if err != nil {
			return a // it is shown as it is
		}
		body, contentType = text, typeJSON
	}
	if contentType == typeJSON {
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.UseNumber() // a page shows numbers as they came
		_ = dec.Decode(&a.Value)
		a.Response, _ = a.Value.(map[string]any)
	}
	return a
}

// reply answers with what the target replied, in the form that was negotiated.
func (x *exchange) reply(as offer, reply initiators.Reply) error {
	e := x.entry
	status := e.okStatus()
	if reply.ContentType == "" {
		reply.ContentType = typeJSON
	}
	h := x.Header()
	e.returned(h, reply)
	switch as.form {
	case formPage:
		x.gateway.page(x, x.answer.show(status, reply.Body, reply.ContentType))
		return nil
	case formTemplate:
		return x.rendered(as, status, reply)
	case formJSON, formMessagePack:
	}
	body := reply.Body
	if len(body) == 0 {
		body, reply.ContentType = emptyObject(as.media), as.media
	} else if reply.ContentType != as.media {
		var err error
		if body, err = transcode(reply.ContentType, as.media, body); err != nil {
			return bus.Errorf(bus.Internal, "the answer cannot be written as %s: %w", as.media, err)
		}
		if reply.ContentType == typeJSON || reply.ContentType == typeMessagePack {
			reply.ContentType = as.media
		}
	}
	x.send(status, reply.ContentType, body)
	return nil
}

func (x *exchange) rendered(as offer, status int, reply initiators.Reply) error {
	body, err := render(as.template, x.answer.show(status, reply.Body, reply.ContentType))
	if err != nil {
		x.gateway.log.ErrorContext(x.request.Context(), "template does not render", "entry", x.entry.name, "media", as.media, "error", err)
		return bus.Errorf(bus.Internal, "the template for %s does not render this answer", as.media)
	}
	contentType := as.media
	if strings.HasPrefix(contentType, "text/") || strings.HasSuffix(contentType, "xml") {
		contentType += "; charset=utf-8"
	}
	x.send(status, contentType, body)
	return nil
}

// send writes an answer that is at hand as a whole.
func (x *exchange) send(status int, contentType string, body []byte) {
	x.set("Content-Type", contentType)
	x.set("Content-Length", strconv.Itoa(len(body)))
	x.WriteHeader(status)
	_, _ = x.Write(body) // the client has gone
}

// okStatus is the status of answers that are no errors.
func (e *served) okStatus() int {
	if status := e.Statuses[codeOK]; status != 0 {
		return status
	}
	return http.StatusOK
}

// returned sets what of the reply's header the client is given.
func (e *served) returned(h http.Header, reply initiators.Reply) {
	if e.Headers == nil || len(e.Headers.Return) == 0 || len(reply.Header) == 0 {
		return
	}
	for name, values := range reply.Header {
		canonical := http.CanonicalHeaderKey(name)
		if slices.ContainsFunc(e.Headers.Return, func(n string) bool { return http.CanonicalHeaderKey(n) == canonical }) {
			h[canonical] = slices.Clone(values)
		}
	}
}

// emptyObject is what a client can decode where no step gave a response.
func emptyObject(contentType string) []byte {
	if contentType == typeMessagePack {
		return []byte{0x80}
	}
	return []byte("{}")
}

// statusOf is the status of an error: that which the entry gives its code, else the error's own.
func (a Answer) statusOf(e *bus.Error) int {
	if a.entry != nil {
		if status := a.entry.Statuses[string(e.Code)]; status != 0 {
			return status
		}
	}
	return e.HTTPStatus()
}

func (g *Gateway) fail(w http.ResponseWriter, r *http.Request, a Answer, err error) {
	a.Error = asError(r.Context(), err)
	a.Status = a.statusOf(a.Error)
	h := w.Header()
	if a.Status == http.StatusServiceUnavailable && h.Get("Retry-After") == "" {
		h.Set("Retry-After", "1")
	}
	if a.Status >= http.StatusInternalServerError {
		g.log.DebugContext(r.Context(), "request failed", "route", a.Route, "request_id", a.RequestID, "error", err)
	}
	h.Del("Content-Length")
	if wantsHTML(r) {
		h.Set("Cache-Control", "no-store")
		a.Request = string(a.body)
		g.page(w, a)
		return
	}
	httpx.Problem{
		Status: a.Status, Detail: a.Error.Message, Code: string(a.Error.Code), RequestID: a.RequestID, Details: a.Error.Details,
	}.Write(w)
}

func (g *Gateway) page(w http.ResponseWriter, a Answer) {
	var page bytes.Buffer
	if err := g.cfg.Answer.Execute(&page, a); err != nil {
		g.log.Error("answer page does not render", "error", err)
		http.Error(w, "the page for this answer does not render; the log says why", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	w.WriteHeader(a.Status)
	_, _ = w.Write(page.Bytes()) // the client has gone
}

func welcome(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	_, _ = w.Write([]byte(welcomePage)) // the client has gone
}
