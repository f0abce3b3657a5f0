package http

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/http/limit"
	"github.com/skybus-io/skybus/micro/route"
)

// Explanation is what a gateway would do with a request, as far as entries and the request say.
type Explanation struct {
	Method string `json:"method"`
	URL    string `json:"url"`
	// Entry is the one that gets the request; empty for none.
	Entry      string            `json:"entry,omitempty"`
	Revision   uint64            `json:"revision,omitempty"`
	Pattern    string            `json:"pattern,omitempty"`
	Target     string            `json:"target,omitempty"`
	Parameters map[string]string `json:"parameters,omitempty"` // of the path
	Timeout    route.Duration    `json:"timeout,omitzero"`
	// Route is the route that the path names, where no entry gets the request.
	Route string `json:"route,omitempty"`
	// Own: the gateway answers it itself, as it does what is below /v1/, unless it is told not to.
	Own bool `json:"own,omitempty"`
	// Request is what the target would be sent, nil where it would be sent nothing.
	Request *ExplainedRequest `json:"request,omitempty"`
	// Status and Problem are the answer of the gateway itself, where it has one.
	Status  int    `json:"status,omitempty"`
	Problem string `json:"problem,omitempty"`
	// Others are the entries that do not get it, by name.
	Others []OtherEntry `json:"others,omitempty"`
}

// ExplainedRequest is a request as a target is sent it.
type ExplainedRequest struct {
	ContentType string          `json:"content_type"`
	Body        json.RawMessage `json:"body,omitempty"` // where it is JSON
	Text        string          `json:"text,omitempty"` // else
	Size        int             `json:"size"`
	Header      nats.Header     `json:"header,omitempty"`
}

// OtherEntry is an entry that does not get a request.
type OtherEntry struct {
	Name    string `json:"name"`
	Pattern string `json:"pattern"`
	Why     string `json:"why"`
}

// Refusals are the entries that no gateway serves, by name, and why: what is stored as them is none, or they conflict with an older one.
func Refusals(all []Stored) map[string]error {
	refused := map[string]error{}
	for name, r := range sketch(all, "").table.Load().refused {
		refused[name] = r.err
	}
	return refused
}

// sketch is a gateway with entries whose targets are left out.
func sketch(all []Stored, listener string) *Gateway {
	cfg := Config{}
	if listener != "" {
		cfg.Listeners = []string{listener}
	}
	cfg.Listeners = listenersOf(all, cfg.Listeners)
	cfg.setDefaults()
	g := &Gateway{cfg: cfg, log: cfg.Logger, origin: http.NewCrossOriginProtection(), blind: true}
	g.limiter, _ = limit.New(limit.Config{}) // which is valid
	g.places = newPlaces(1)
	g.rules.AbsoluteForm = true
	g.draw(all)
	return g
}

// listenersOf are the listeners that entries name, beside those there are.
func listenersOf(all []Stored, there []string) []string {
	there = slices.Clone(there)
	for _, s := range all {
		if l := s.Entry.Listener; l != "" && l != AllListeners && !slices.Contains(there, l) {
			there = append(there, l)
		}
	}
	return there
}

// draw puts entries in service without their targets, and without what only a gateway that runs knows.
func (g *Gateway) draw(all []Stored) {
	byName := map[string]Stored{}
	for _, s := range all {
		byName[s.Name] = s
	}
	g.blind = true
	g.resolve = func(initiators.Spec) (initiators.Target, error) { return captureTarget{}, nil }
	g.table.Store(g.compile(byName, nil))
}

// Explain tells what a gateway with these entries would do with a request to a listener. It sends and stores nothing, so of an entry with async or
// idempotency it tells what the target would be sent if the request is the first of its key.
func Explain(all []Stored, r *http.Request, listener string) Explanation {
	g := sketch(all, listener)
	r.Host = strings.ToLower(r.Host)
	out := Explanation{Method: r.Method, URL: r.URL.String()}
	t := g.table.Load()
	if p := g.rules.Check(r); p != nil {
		out.Status, out.Problem = p.Status, p.Detail
		return out
	}
	if strings.HasPrefix(r.URL.Path, requestsPath) || listener == "" && g.ownAPI(t, r) {
		out.Own = true
		return out
	}
	e := t.entryAt(listener, r)
	out.Others = others(all, t, e, r, listener)
	if e == nil {
		out.explainUnmatched(t, r, listener)
		return out
	}
	var caught captured
	w := &soundless{header: http.Header{}}
	served := r.WithContext(withCapture(r.Context(), &caught))
	g.serveAt(listener, w, served)
	out.Entry, out.Revision, out.Pattern, out.Target, out.Timeout = e.name, e.revision, e.Pattern(), e.String(), route.Duration(e.timeout)
	for _, name := range e.params {
		if out.Parameters == nil {
			out.Parameters = map[string]string{}
		}
		out.Parameters[name] = served.PathValue(name) // which serving it has set
	}
	if caught.request == nil {
		out.Status, out.Problem = w.status, w.problem()
		return out
	}
	out.Request = explained(caught.request)
	out.Timeout = route.Duration(caught.timeout)
	return out
}

func explained(req *initiators.Request) *ExplainedRequest {
	out := &ExplainedRequest{ContentType: req.ContentType, Size: len(req.Body), Header: req.Header}
	switch {
	case json.Valid(req.Body):
		out.Body = req.Body
	case utf8.Valid(req.Body):
		out.Text = string(req.Body)
	default:
		out.Text = fmt.Sprintf("%d bytes", len(req.Body))
	}
	return out
}

func (x *Explanation) explainUnmatched(t *table, r *http.Request, listener string) {
	if h, pattern := t.listeners[listener].Handler(r); pattern != "" {
		if _, is := h.(unmatched); !is { // the mux's own
			x.Status, x.Problem = http.StatusTemporaryRedirect, "the path is redirected to "+pattern
			return
		}
	}
	if allowed := t.methodsAt(listener, r); len(allowed) > 0 {
		x.Status, x.Problem = http.StatusMethodNotAllowed, "there are entries for "+strings.Join(allowed, ", ")+" only"
	}
	name, err := routeName(r)
	switch {
	case listener == "" && err == nil && r.Method == http.MethodPost:
		x.Route = name
	case x.Status == 0:
		x.Status, x.Problem = http.StatusNotFound, "no entry matches"
	}
}

// others tells of each entry but e why it does not get the request.
func others(all []Stored, t *table, e *served, r *http.Request, listener string) []OtherEntry {
	var list []OtherEntry
	for _, s := range all {
		if e != nil && s.Name == e.name {
			continue
		}
		o := OtherEntry{Name: s.Name, Pattern: s.Entry.Pattern()}
		if refusal, ok := t.refused[s.Name]; ok {
			o.Why = "it is not served: " + plainText(refusal.err)
		} else {
			o.Why = why(s.Entry, e, r, listener)
		}
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b OtherEntry) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// why tells why an entry in service does not get a request that winner gets.
func why(e Entry, winner *served, r *http.Request, listener string) string {
	if e.Listener != AllListeners && e.Listener != listener {
		if e.Listener == "" {
			return "it is at the first listener"
		}
		return "it is at the listener " + e.Listener
	}
	alone := func(e Entry) bool {
		mux := http.NewServeMux()
		for _, p := range e.patterns() {
			if register(mux, p, http.NotFoundHandler()) != nil {
				return false
			}
		}
		_, pattern := mux.Handler(r)
		return pattern != ""
	}
	if alone(e) {
		if winner == nil {
			return "it would redirect"
		}
		return "it is less specific than " + winner.name
	}
	anyMethod := e
	anyMethod.Method, anyMethod.Methods = "", nil
	if alone(anyMethod) {
		return "it is for " + strings.Join(e.methodList(), ", ")
	}
	anyHost := e
	if anyHost.Host = ""; e.Host != "" && alone(anyHost) {
		return "it is for the host " + e.Host
	}
	return "its path does not match"
}

// soundless is an answer that nobody gets.
type soundless struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header is the header.
func (w *soundless) Header() http.Header { return w.header }

// WriteHeader notes the status.
func (w *soundless) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write keeps the body.
func (w *soundless) Write(p []byte) (int, error) { return w.body.Write(p) }

// problem is what an error says.
func (w *soundless) problem() string {
	var p struct {
		Detail string `json:"detail"`
	}
	if err := json.Unmarshal(w.body.Bytes(), &p); err != nil || p.Detail == "" {
		return http.StatusText(w.status)
	}
	return p.Detail
}
