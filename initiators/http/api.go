package http

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

const (
	apiPath      = "/v1/"
	servicesPath = "/v1/services"
	openAPIPath  = "/v1/openapi.json"
)

// serveAPI serves what is the gateway's own under /v1/, where no entry below that is asked for, and tells whether it did.
func (g *Gateway) serveAPI(t *table, x *exchange, r *http.Request) bool {
	path := r.URL.EscapedPath()
	if !g.ownAPI(t, r) {
		return false
	}
	switch {
	case strings.HasPrefix(path, callPath):
		if r.Method != http.MethodPost {
			g.refuseMethod(x, r, []string{http.MethodPost})
			return true
		}
		x.serve(g.byCall, r)
	case path == servicesPath:
		x.show(g.byCall, g.listServices)
	case path == openAPIPath:
		x.show(g.byCall, func(*exchange) (*rendered, error) { return g.openAPI() })
	default:
		x.show(g.byPage, docsPage) // which asks for a credential itself
	}
	return true
}

// ownAPI tells whether a request to the first listener is for what is the gateway's own under /v1/.
func (g *Gateway) ownAPI(t *table, r *http.Request) bool {
	path := r.URL.EscapedPath()
	if !strings.HasPrefix(path, apiPath) || !g.isOwn(path) {
		return false
	}
	e := t.entryAt("", r)
	return e == nil || !strings.HasPrefix(e.Path, apiPath)
}

// isOwn tells whether a path is one of the gateway's own.
func (g *Gateway) isOwn(path string) bool {
	if path == servicesPath || strings.HasPrefix(path, callPath) {
		return !g.cfg.Call.Off
	}
	return !g.cfg.OpenAPI.Off && (path == openAPIPath || docsFile(path) != "")
}

// show answers a GET or HEAD with a document, for who is let in as e says.
func (x *exchange) show(e *served, document func(*exchange) (*rendered, error)) {
	g, r := x.gateway, x.request
	x.entry, x.answer.RequestID = e, requestID(r)
	e.metrics.begin()
	x.Header()[requestIDHeader] = []string{x.answer.RequestID}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		g.refuseMethod(x, r, []string{http.MethodGet, http.MethodHead})
		return
	}
	leave, err := x.admit()
	if err != nil {
		g.fail(x, r, x.answer, err)
		return
	}
	defer leave()
	doc, err := document(x)
	if err != nil {
		g.fail(x, r, x.answer, err)
		return
	}
	doc.serve(x, r)
}

// rendered is a document with its tag.
type rendered struct {
	contentType string
	body        []byte
	etag        string
}

func newRendered(contentType string, body []byte) *rendered {
	sum := sha256.Sum256(body)
	return &rendered{contentType, body, `"` + hex.EncodeToString(sum[:16]) + `"`}
}

// serve answers with the document, or says that the client has it.
func (d *rendered) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("ETag", d.etag)
	h.Set("Cache-Control", "no-cache")
	if holds(r.Header.Values("If-None-Match"), d.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", d.contentType)
	h.Set("Content-Length", strconv.Itoa(len(d.body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(d.body) // the client has gone
	}
}

// holds tells whether a list of If-None-Match has the tag.
func holds(list []string, etag string) bool {
	for _, values := range list {
		for tag := range strings.SplitSeq(values, ",") {
			tag = strings.TrimSpace(tag)
			if tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
				return true
			}
		}
	}
	return false
}

// kept is a JSON document that is made anew when what it was made of has changed.
type kept struct {
	mu    sync.Mutex
	of    string // says what it was made of
	since <-chan struct{}
	doc   *rendered
}

// get is the document, made by build where it is missing or not that of key, or changed is closed. changed is asked first.
func (k *kept) get(changed func() <-chan struct{}, key string, build func() ([]byte, error)) (*rendered, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.doc != nil && k.of == key {
		select {
		case <-k.since:
		default:
			return k.doc, nil
		}
	}
	since := changed() // before it is read
	body, err := build()
	if err != nil {
		return nil, err
	}
	if k.doc == nil || !bytes.Equal(body, k.doc.body) {
		k.doc = newRendered(typeJSON, body)
	}
	k.of, k.since = key, since
	return k.doc, nil
}
