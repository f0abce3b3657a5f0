package http

import (
	"bytes"
	"encoding/json"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/internal/httpx"
	"github.com/skybus-io/skybus/micro/route"
)

// Answer is what the page for browsers is made of.
type Answer struct {
	Route     string
	RequestID string
	Request   string         // the request's body
	Response  map[string]any // the response where it is an object
	Raw       string         // the response's body
	Hops      []route.Hop
	Status    int        // of the answer
	Error     *bus.Error // nil when all went well
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

func (g *Gateway) answer(w http.ResponseWriter, r *http.Request, a Answer, reply initiators.Reply) {
	if !wantsHTML(r) {
		body := reply.Body
		if len(body) == 0 {
			body = emptyObject(reply.ContentType)
		}
		w.Header().Set("Content-Type", reply.ContentType)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body) // the client has gone
		return
	}
	a.Status, a.Raw = http.StatusOK, string(reply.Body)
	if reply.ContentType == typeJSON {
		dec := json.NewDecoder(bytes.NewReader(reply.Body))
		dec.UseNumber()             // a page shows numbers as they came
		_ = dec.Decode(&a.Response) // else it is shown as it is
	}
	g.page(w, a)
}

// emptyObject is what a client can decode where no step gave a response.
func emptyObject(contentType string) []byte {
	if contentType == typeMessagePack {
		return []byte{0x80}
	}
	return []byte("{}")
}

func (g *Gateway) fail(w http.ResponseWriter, r *http.Request, a Answer, err error) {
	a.Error = asError(err)
	a.Status = a.Error.HTTPStatus()
	if a.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	if a.Status >= http.StatusInternalServerError {
		g.log.DebugContext(r.Context(), "request failed", "route", a.Route, "request_id", a.RequestID, "error", err)
	}
	if wantsHTML(r) {
		w.Header().Set("Cache-Control", "no-store")
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

// wantsHTML tells whether the client is a browser that shows pages: of the types known here it likes text/html best, or
// as well as another one that it names later.
func wantsHTML(r *http.Request) bool {
	best, html := 0.0, false
	for accept := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		media, params, err := mime.ParseMediaType(accept)
		if err != nil {
			continue
		}
		quality := 1.0
		if q, ok := params["q"]; ok {
			quality, _ = strconv.ParseFloat(q, 64) // what is no number is 0: not wanted
		}
		switch media {
		case "text/html", typeJSON, typeMessagePack, httpx.TypeProblem:
			if quality > best {
				best, html = quality, media == "text/html"
			}
		}
	}
	return html
}

func welcome(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	_, _ = w.Write([]byte(welcomePage)) // the client has gone
}
