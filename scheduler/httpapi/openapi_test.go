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
	"sync/atomic"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
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
	for name, use := range map[string]func(*checked, *house){"skyring": useSkyring, "timers": useTimers, "changes": useChanges, "recurring": useRecurring, "dead": useDead} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := build(t, httpapi.Config{})
			router, err := legacy.NewRouter(document(t, h.url))
			if err != nil {
				t.Fatal(err)
			}
			use(&checked{t, h.url, router}, h)
		})
	}
}

func useSkyring(c *checked, _ *house) {
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
}

// full is a timer with all its fields but the payload's other forms.
const full = `{"id":"full","after":"1h30m","target":{"transport":"http","uri":"http://127.0.0.1:9000/","method":"PUT","timeout":"5s"},` +
	`"payload":{"a":[1,null]},"content_type":"application/json","headers":{"X-A":"b"},"labels":{"a":"b"},` +
	`"retry":{"max_attempts":3,"first":"1.5s","last":"10s","max_age":"1h"},"paused":true}`

func useTimers(c *checked, _ *house) {
	c.send("POST", "/v1/timers", full, 201)
	c.send("POST", "/v1/timers", full, 409)
	c.send("POST", "/v1/timers", `{"at":"2131-05-01T12:00:00.5+02:00","key":"k/1","payload_base64":"AP8=",`+target+`}`, 201)
	c.send("POST", "/v1/timers", `{`, 400)
	c.send("POST", "/v1/timers", `{"after":"1h",`+target+`}`, 415, "Content-Type", "text/xml")
	c.send("POST", "/v1/timers", `{"after":"1h",`+target+`,"payload":"`+strings.Repeat("x", 600<<10)+`"}`, 413)
	c.send("POST", "/v1/timers", `{"after":1,`+target+`}`, 422)
	c.send("POST", "/v1/timers", full+"\n{}\n", 200, "Content-Type", typeLines)
	c.send("GET", "/v1/timers/full", "", 200)
	c.send("GET", "/v1/timers/none", "", 404)
	c.send("GET", "/v1/timers?state=paused&state=scheduled&prefix=f&label=a:b&due_from=2001-01-01T00:00:00Z&due_before=2131-01-01T00:00:00Z&limit=1", "", 200)
	c.send("GET", "/v1/timers?sort=due", "", 400)
	c.send("GET", "/v1/timers?limit=0", "", 422)
	c.send("POST", "/v1/timers", `{"id":"b","after":"1h",`+target+`}`, 201)
	c.send("DELETE", "/v1/timers/b", "", 204)
	c.send("DELETE", "/v1/timers/b", "", 404)
	c.send("GET", "/v1/openapi.json", "", 200)
}

func useChanges(c *checked, _ *house) {
	made := c.send("POST", "/v1/timers", full, 201)
	c.send("PATCH", "/v1/timers/full", `{"after":"2h","payload_text":"x","labels":{"a":null,"b":"c"},"retry":null,"target":{"method":null}}`, 200,
		"If-Match", made.header.Get("ETag"), "Content-Type", "application/merge-patch+json")
	c.send("PATCH", "/v1/timers/full", `{"after":"2h"}`, 412, "If-Match", made.header.Get("ETag"))
	c.send("PATCH", "/v1/timers/full", `{"state":"paused"}`, 400)
	c.send("PATCH", "/v1/timers/full", `{"after":5}`, 422)
	c.send("PATCH", "/v1/timers/full", `{}`, 415, "Content-Type", "text/xml")
	c.send("PATCH", "/v1/timers/none", `{}`, 404)
	c.send("POST", "/v1/timers/full/pause", "", 200)
	c.send("DELETE", "/v1/timers/full", "", 412, "If-Match", made.header.Get("ETag"))
	for _, verb := range []string{"pause", "resume", "fire"} {
		c.send("POST", "/v1/timers/full/"+verb, "", 412, "If-Match", made.header.Get("ETag"))
	}
	c.send("POST", "/v1/timers/full/resume", "", 200)
	c.send("POST", "/v1/timers/full/fire", "", 202)
	c.send("POST", "/v1/timers/full/fire", "", 409)
	c.send("GET", "/v1/timers/full", "", 200)
	c.send("DELETE", "/v1/timers/full", "", 409)
}

func useRecurring(c *checked, _ *house) {
	repeat := `{"cron":"0 0 7 * * 1-5","zone":"Europe/Berlin","start":"2031-01-01T00:00:00Z","end":"2041-01-01T00:00:00Z","max":5,"jitter":"1m",` +
		`"overlap":"buffer_one","missed":"catch_up","catch_up":3,"window":"1h"}`
	c.send("POST", "/v1/timers", `{"id":"cron","repeat":`+repeat+`,"payload_text":"x",`+target+`}`, 201)
	c.send("POST", "/v1/timers/next?n=3", `{"repeat":`+repeat+`,`+target+`}`, 200)
	c.send("POST", "/v1/timers/next", `{"repeat":{"every":"1ms"},`+target+`}`, 422)
	c.send("POST", "/v1/timers/next?m=1", `{"repeat":{"every":"1s"},`+target+`}`, 400)
	c.send("GET", "/v1/timers/cron", "", 200)
	c.send("PATCH", "/v1/timers/cron", `{"repeat":{"end":null}}`, 200)
	c.send("POST", "/v1/timers/cron/fire", "", 202)
	c.send("GET", "/v1/timers?prefix=cron", "", 200)
}

// letters are the dead letters of timers, by the timers' ids. The receiver of those wants nothing.
func (c *checked) letters(uri string, got <-chan received, ids ...string) map[string]string {
	c.t.Helper()
	for _, id := range ids {
		c.send("POST", "/v1/timers", `{"id":"`+id+`","after":"1ms","target":{"uri":"`+uri+`"},"payload":{"of":"`+id+`"},"labels":{"a":"b"}}`, 201)
		bustest.Receive(c.t, "a delivery", got)
	}
	deliveries := map[string]string{}
	eventually(c.t, func() string {
		var p struct {
			Dead []struct {
				Delivery string
				Attempts int
				Size     int
				Code     string
				Timer    timer
			}
		}
		c.send("GET", "/v1/dead/timers", "", 200).decode(c.t, &p)
		for _, l := range p.Dead {
			deliveries[l.Timer.ID] = l.Delivery
			if l.Attempts != 1 || l.Code == "" || l.Size != len(`{"of":"a"}`) {
				c.t.Errorf("%+v", l)
			}
		}
		return strings.Repeat("not all letters have come ", len(ids)-len(p.Dead))
	})
	return deliveries
}

// useDead has a receiver that wants nothing, and then does.
func useDead(c *checked, h *house) {
	var wants atomic.Bool
	uri, got := receiver(c.t, func(*http.Request) int {
		if wants.Load() {
			return http.StatusOK
		}
		return http.StatusGone
	})
	h.run(c.t)
	c.send("GET", "/v1/dead/timers", "", 200)
	deliveries := c.letters(uri, got, "a", "b", "c")
	var p struct {
		Dead []struct{ Delivery string }
		Next string
	}
	c.send("GET", "/v1/dead/timers?limit=2", "", 200).decode(c.t, &p)
	if len(p.Dead) != 2 || p.Next != p.Dead[1].Delivery {
		c.t.Fatalf("a page of two: %+v", p)
	}
	next := p.Next
	p.Next = ""
	if c.send("GET", "/v1/dead/timers?limit=2&cursor="+next, "", 200).decode(c.t, &p); len(p.Dead) != 1 || p.Next != "" {
		c.t.Errorf("the next page: %+v", p)
	}
	if c.send("GET", "/v1/dead/timers?timer=b", "", 200).decode(c.t, &p); len(p.Dead) != 1 || p.Dead[0].Delivery != deliveries["b"] {
		c.t.Errorf("of one timer: %+v", p)
	}
	if c.send("GET", "/v1/dead/timers?prefix=c", "", 200).decode(c.t, &p); len(p.Dead) != 1 || p.Dead[0].Delivery != deliveries["c"] {
		c.t.Errorf("by prefix: %+v", p)
	}
	if a := c.send("GET", "/v1/dead/timers/"+deliveries["a"], "", 200); !strings.Contains(a.body, `"payload":{"of":"a"}`) {
		c.t.Errorf("a letter without its payload: %s", a.body)
	}
	c.send("DELETE", "/v1/dead/timers/"+deliveries["a"], "", 204)
	c.send("GET", "/v1/dead/timers/"+deliveries["a"], "", 404)
	c.send("DELETE", "/v1/dead/timers/"+deliveries["a"], "", 404)
	wants.Store(true)
	c.send("POST", "/v1/dead/timers/"+deliveries["b"]+"/redrive", "", 202)
	if r := bustest.Receive(c.t, "the delivery of a dead letter", got); r.body != `{"of":"b"}` || r.header.Get(scheduler.HeaderIdempotencyKey) != deliveries["b"] {
		c.t.Errorf("%+v", r)
	}
	c.send("POST", "/v1/dead/timers/"+deliveries["b"]+"/redrive", "", 404)
	for _, id := range []string{"none", "a-b-1", "%3E", strings.Repeat("x", 129)} {
		c.send("GET", "/v1/dead/timers/"+id, "", 404)
		c.send("POST", "/v1/dead/timers/"+id+"/redrive", "", 404)
	}
	c.send("GET", "/v1/dead/timers?cursor="+deliveries["a"], "", 422)
	c.send("GET", "/v1/dead/timers?limit=0", "", 422)
	c.send("GET", "/v1/dead/timers?state=x", "", 400)
}
