package httpapi_test

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/scheduler/httpapi"
)

// document is the API's description, as it is served and valid.
func document(t testing.TB, url string) *openapi3.T {
	t.Helper()
	a := send(t, http.MethodGet, url+"/v1/openapi.json", "").want(t, http.StatusOK)
	doc, err := openapi3.NewLoader().LoadFromData([]byte(a.body))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestDocumentRoutes compares what is described with what there is: each path that is described has the methods described and no others, and
// each path that is served is described.
func TestDocumentRoutes(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	doc := document(t, h.url)
	var described []string
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	slices.Sort(described)
	if served := httpapi.Routes(); !cmp.Equal(served, described) {
		t.Errorf("served (-), described (+):\n%s", cmp.Diff(served, described))
	}
	for _, path := range slices.Sorted(maps.Keys(doc.Paths.Map())) {
		concrete := strings.NewReplacer("{id}", "x", "{delivery}", "x").Replace(path)
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			a := send(t, method, h.url+concrete, "")
			there := a.status != http.StatusMethodNotAllowed && a.reason() != "Not Found"
			known := slices.Contains(described, method+" "+path) || path == "/v1/timers/next" && slices.Contains(described, method+" /v1/timers/{id}")
			if there != known {
				t.Errorf("%s %s is described: %t; it answers %d", method, path, known, a.status)
			}
		}
	}
}

// checked is a client whose requests and answers must fit the document.
type checked struct {
	t      *testing.T
	url    string
	router routers.Router
	seen   map[string]bool // operation and status
}

func (c *checked) send(method, path, body string, status int, headers ...string) answer {
	c.t.Helper()
	a := send(c.t, method, c.url+path, body, headers...)
	if a.status != status {
		c.t.Errorf("%s %s: %d %q %s, want %d", method, path, a.status, a.reason(), a.body, status)
	}
	req := httptest.NewRequestWithContext(c.t.Context(), method, path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	if body != "" && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	route, params, err := c.router.FindRoute(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	c.seen[route.Operation.OperationID+" "+http.StatusText(status)] = true
	in := &openapi3filter.RequestValidationInput{
		Request: req, PathParams: params, Route: route,
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true, MultiError: true,
			AuthenticationFunc: func(context.Context, *openapi3filter.AuthenticationInput) error { return nil },
		},
	}
	if status < http.StatusBadRequest {
		if err := openapi3filter.ValidateRequest(c.t.Context(), in); err != nil {
			c.t.Errorf("request %s %s %s: %v", method, path, body, err)
		}
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader([]byte(a.body))), Options: in.Options,
	}
	if err := openapi3filter.ValidateResponse(c.t.Context(), out); err != nil {
		c.t.Errorf("answer of %s %s: %d %s: %v", method, path, a.status, a.body, err)
	}
	return a
}

// TestDocumentFits sends all kinds of requests, which must fit the document with their answers.
func TestDocumentFits(t *testing.T) {
	t.Parallel()
	openapi3filter.RegisterBodyDecoder(typeLines, openapi3filter.PlainBodyDecoder)
	openapi3filter.RegisterBodyDecoder("application/merge-patch+json", openapi3filter.JSONBodyDecoder)
	h := build(t, httpapi.Config{})
	router, err := legacy.NewRouter(document(t, h.url))
	if err != nil {
		t.Fatal(err)
	}
	c := &checked{t, h.url, router, map[string]bool{}}

	c.send("GET", "/ping", "", 200)
	c.send("POST", "/timer", good, 201, "X-Timer-Id", "sky")
	c.send("POST", "/timer", good, 409, "X-Timer-Id", "sky")
	c.send("POST", "/timer", `{"timeout":"600000","data":{"a":1},`+callback+`}`, 201)
	c.send("POST", "/timer", `{}`, 400)
	c.send("POST", "/timer", `{"timeout":1000,"data":"`+strings.Repeat("x", 600<<10)+`",`+callback+`}`, 413)
	c.send("PUT", "/timer/sky", good, 200)
	c.send("PUT", "/timer/none", good, 404)
	c.send("DELETE", "/timer/sky", "", 202)
	c.send("DELETE", "/timer/sky", "", 404)

	full := `{"id":"full","after":"1h30m","target":{"transport":"http","uri":"http://127.0.0.1:9000/","method":"PUT","timeout":"5s"},` +
		`"payload":{"a":[1,null]},"content_type":"application/json","headers":{"X-A":"b"},"labels":{"a":"b"},` +
		`"retry":{"max_attempts":3,"first":"1.5s","last":"10s","max_age":"1h"},"paused":true}`
	made := c.send("POST", "/v1/timers", full, 201)
	c.send("POST", "/v1/timers", full, 409)
	c.send("POST", "/v1/timers", `{"at":"2131-05-01T12:00:00.5+02:00","key":"k/1","payload_base64":"AP8=",`+target+`}`, 201)
	c.send("POST", "/v1/timers", `{`, 400)
	c.send("POST", "/v1/timers", `{"after":"1h",`+target+`}`, 415, "Content-Type", "text/xml")
	c.send("POST", "/v1/timers", `{"after":"1h",`+target+`,"payload":"`+strings.Repeat("x", 600<<10)+`"}`, 413)
	c.send("POST", "/v1/timers", `{"after":1,`+target+`}`, 422)
	c.send("POST", "/v1/timers", full+"\n{}\n", 200, "Content-Type", typeLines)
	c.send("GET", "/v1/timers/full", "", 200)
	c.send("GET", "/v1/timers/none", "", 404)
	c.send("PATCH", "/v1/timers/full", `{"after":"2h","payload_text":"x","labels":{"a":null,"b":"c"},"retry":null,"target":{"method":null}}`, 200,
		"If-Match", made.header.Get("ETag"), "Content-Type", "application/merge-patch+json")
	c.send("PATCH", "/v1/timers/full", `{"after":"2h"}`, 412, "If-Match", made.header.Get("ETag"))
	c.send("PATCH", "/v1/timers/full", `{"state":"paused"}`, 400)
	c.send("PATCH", "/v1/timers/full", `{"after":5}`, 422)
	c.send("PATCH", "/v1/timers/full", `{}`, 415, "Content-Type", "text/xml")
	c.send("PATCH", "/v1/timers/none", `{}`, 404)
	c.send("POST", "/v1/timers/full/pause", "", 200)
	c.send("GET", "/v1/timers?state=paused&state=scheduled&prefix=f&label=b:c&due_from=2001-01-01T00:00:00Z&due_before=2131-01-01T00:00:00Z&limit=1", "", 200)
	c.send("GET", "/v1/timers?sort=due", "", 400)
	c.send("GET", "/v1/timers?limit=0", "", 422)
	c.send("DELETE", "/v1/timers/full", "", 412, "If-Match", made.header.Get("ETag"))
	c.send("POST", "/v1/timers/full/resume", "", 200)
	c.send("POST", "/v1/timers/full/fire", "", 202)
	c.send("POST", "/v1/timers/full/fire", "", 409)
	c.send("GET", "/v1/timers/full", "", 200)
	c.send("DELETE", "/v1/timers/full", "", 409)
	c.send("POST", "/v1/timers", `{"id":"b","after":"1h",`+target+`}`, 201)
	c.send("DELETE", "/v1/timers/b", "", 204)
	c.send("DELETE", "/v1/timers/b", "", 404)
	c.send("GET", "/v1/openapi.json", "", 200)
}
