package adminapi_test

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/mirror"
	"github.com/skybus-io/skybus/mirror/adminapi"
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
	h := build(t, adminapi.Config{})
	doc := document(t, h.url)
	var described []string
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	slices.Sort(described)
	if diff := cmp.Diff(adminapi.Routes(), described); diff != "" {
		t.Errorf("served (-), described (+):\n%s", diff)
	}
	for _, path := range slices.Sorted(maps.Keys(doc.Paths.Map())) {
		concrete := strings.NewReplacer("{name}", "x", "{host}", "x", "{port}", "1", "{backend}", "x", "{seq}", "1").Replace(path)
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			a := send(t, method, h.url+concrete, "")
			known := slices.Contains(described, method+" "+path) || path == "/nodes/metrics" && slices.Contains(described, method+" /nodes/{host}")
			if known != (a.status != http.StatusMethodNotAllowed) {
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

func (c *checked) send(method, path, body string, status int) answer {
	c.t.Helper()
	a := send(c.t, method, c.url+path, body)
	if a.status != status {
		c.t.Errorf("%s %s %s: %d %s, want %d", method, path, body, a.status, a.body, status)
	}
	req := httptest.NewRequestWithContext(c.t.Context(), method, path, strings.NewReader(body))
	if body != "" {
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
	for name, use := range map[string]func(*checked, *house){"spawn": useSpawn, "backends": useBackends, "drain": useDrain, "writes": useWrites} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := build(t, adminapi.Config{})
			router, err := legacy.NewRouter(document(t, h.url))
			if err != nil {
				t.Fatal(err)
			}
			use(&checked{t, h.url, router}, h)
		})
	}
}

func useSpawn(c *checked, _ *house) {
	for _, path := range []string{"/info", "/list", "/list/nodes", "/list/nodes/get", "/list/nodes/set", "/list/nodes/delete"} {
		c.send("GET", path, "", 200)
	}
	c.send("GET", "/nodes", "", 404)
	c.send("PUT", "/nodes/a/1", `{}`, 201)
	c.send("PUT", "/nodes/a/1", `{"priority":1,"active":true,"maintenance":true}`, 202)
	c.send("PUT", "/nodes/a/1", `{"host":"b","port":2}`, 202)
	c.send("PUT", "/nodes/a/0", `{}`, 400)
	c.send("PUT", "/nodes/a", `{}`, 404)
	c.send("PUT", "/nodes/b", `{"priority":3}`, 202)
	c.send("PUT", "/nodes", `[{"host":"c","port":3},{"host":"b","port":2}]`, 202)
	c.send("PUT", "/nodes", `{}`, 400)
	c.send("GET", "/nodes?pretty=true", "", 200)
	c.send("GET", "/nodes/b", "", 200)
	c.send("GET", "/nodes/b/2", "", 200)
	c.send("PUT", "/nodes/b/2", `{"host":"c","port":3}`, 409)
	c.send("DELETE", "/nodes/b/2", "", 200)
	c.send("DELETE", "/nodes/b/2", "", 404)
	c.send("DELETE", "/nodes/c", "", 200)
	c.send("DELETE", "/nodes", "", 200)
	c.send("GET", "/metrics", "", 200)
	c.send("GET", "/nodes/metrics", "", 200)
}

func useBackends(c *checked, h *house) {
	c.send("GET", "/v1/status", "", 200)
	c.send("GET", "/v1/backends", "", 200)
	c.send("GET", "/v1/backends/a", "", 404)
	c.send("PUT", "/v1/backends/a", `{"url":"http://a.example:8080"}`, 201)
	c.send("PUT", "/v1/backends/a", `{"url":"https://a.example","priority":-1,"maintenance":true,"from":"now"}`, 200)
	c.send("PATCH", "/v1/backends/a", `{"active":false}`, 200)
	c.send("PATCH", "/v1/backends/b", `{"active":false}`, 404)
	c.send("PATCH", "/v1/backends/a", `{}`, 200)
	shown := c.send("GET", "/v1/backends/a", "", 200).body
	if got := c.send("PUT", "/v1/backends/a", shown, 200).body; got != shown {
		c.t.Errorf("sent back: %s, was %s", got, shown)
	}
	for body, field := range map[string]string{
		`{"url":"ftp://a"}`:                              "url",
		`{}`:                                             "url",
		`{"url":"http://a/path"}`:                        "url",
		`{"url":"http://a","priority":"1"}`:              "priority",
		`{"url":"http://a","active":1}`:                  "active",
		`{"url":"http://a","from":"later"}`:              "from",
		`{"url":"http://a","from":0}`:                    "from",
		`{"url":"http://a","from":1.5}`:                  "from",
		`{"url":"http://a","from":99}`:                   "from",
		`{"url":"http://a","name":"b"}`:                  "name",
		`{"url":1,"priority":[],"active":"","name":"b"}`: "name url priority active",
	} {
		if p := c.send("PUT", "/v1/backends/a", body, 422).problem(c.t); p.fields() != field {
			c.t.Errorf("%s: wrong in %q, want %q", body, p.fields(), field)
		}
	}
	if p := c.send("PUT", "/v1/backends/a", `{"url":"http://a","prio":1}`, 400).problem(c.t); p.fields() != "prio" {
		c.t.Errorf("%+v", p)
	}
	c.send("PUT", "/v1/backends/a", `[]`, 400).problem(c.t)
	c.send("PUT", "/v1/backends/a", `{`, 400).problem(c.t)
	c.send("PUT", "/v1/backends/a", strings.Repeat(" ", adminapi.DefaultMaxBody+1), 413).problem(c.t)
	c.send("PUT", "/v1/backends/a.b", `{"url":"http://a"}`, 422).problem(c.t)
	c.send("DELETE", "/v1/backends/a", "", 204)
	c.send("DELETE", "/v1/backends/a", "", 404).problem(c.t)
	for i := range mirror.MaxBackends {
		h.set(c.t, mirror.Backend{Name: "n" + strings.Repeat("x", i), URL: "http://a" + strings.Repeat("x", i)})
		if i == 60 {
			break // names are of 64 characters at most
		}
	}
	c.send("GET", "/v1/backends", "", 200)
}

func useDrain(c *checked, h *house) {
	var d struct {
		Last     uint64
		Done     bool
		Backends []struct {
			Name    string
			Applied uint64
		}
	}
	c.send("POST", "/v1/drain", "", 200).decode(c.t, &d)
	if !d.Done || d.Last != 0 || len(d.Backends) != 0 {
		c.t.Errorf("without backends: %+v", d)
	}
	h.set(c.t, mirror.Backend{Name: "a", URL: application(c.t, 200), Active: true})
	h.set(c.t, mirror.Backend{Name: "b", URL: application(c.t, 503), Active: true})
	h.set(c.t, mirror.Backend{Name: "c", URL: "http://127.0.0.1:1", Active: true, Maintenance: true})
	h.write(c.t, 10)
	c.send("POST", "/v1/drain", `{"timeout":"10ms"}`, 200).decode(c.t, &d)
	if d.Done || d.Last != 10 {
		c.t.Errorf("nobody sends: %+v", d)
	}
	h.run(c.t)
	c.send("POST", "/v1/drain", `{"backends":["a"]}`, 200).decode(c.t, &d)
	if !d.Done || len(d.Backends) != 1 || d.Backends[0].Applied != 10 {
		c.t.Errorf("%+v", d)
	}
	c.send("POST", "/v1/drain", `{"timeout":"50ms"}`, 200).decode(c.t, &d)
	if d.Done || len(d.Backends) != 2 || d.Backends[1].Applied != 0 {
		c.t.Errorf("one is down: %+v", d)
	}
	c.send("POST", "/v1/drain", `{"backends":["c"]}`, 409).problem(c.t)
	c.send("POST", "/v1/drain", `{"backends":["d"]}`, 404).problem(c.t)
	for body, field := range map[string]string{`{"timeout":"x"}`: "timeout", `{"timeout":"11m"}`: "timeout", `{"timeout":1}`: "timeout", `{"backends":"a"}`: "backends"} {
		if p := c.send("POST", "/v1/drain", body, 422).problem(c.t); p.fields() != field {
			c.t.Errorf("%s: wrong in %q", body, p.fields())
		}
	}
	c.send("POST", "/v1/drain", `{"wait":"1s"}`, 400).problem(c.t)
	var s struct {
		Name, Sender, Key string
		Last              uint64
		Backends          []struct {
			Name, State string
			Waiting     uint64
		}
	}
	eventually(c.t, func() string {
		a := c.send("GET", "/v1/status", "", 200)
		a.decode(c.t, &s)
		if s.Name == "shop" && s.Sender == "me" && s.Key == "path" && s.Last == 10 && s.Backends[0].State == "live" && s.Backends[1].State == "down" &&
			s.Backends[1].Waiting == 10 && s.Backends[2].State == "maintenance" {
			return ""
		}
		return a.body
	})
	useFigures(c)
}

var figureLine = regexp.MustCompile(`^(# (HELP|TYPE) skybus_mirror_[a-z_]+ .+|skybus_mirror_[a-z_]+\{mirror="shop"(,[a-z]+="[a-z0-9.+I]+")*\} [0-9.e+-]+)\n$`)

func useFigures(c *checked) {
	text := c.send("GET", "/metrics", "", 200).body
	for _, want := range []string{
		"# TYPE skybus_mirror_backend_waiting_writes gauge\n",
		`skybus_mirror_backend_waiting_writes{mirror="shop",backend="b"} 10` + "\n",
		`skybus_mirror_backend_applied_seq{mirror="shop",backend="a"} 10` + "\n",
		`skybus_mirror_backend_state{mirror="shop",backend="b",state="down"} 1` + "\n",
		`skybus_mirror_backend_maintenance{mirror="shop",backend="c"} 1` + "\n",
		`skybus_mirror_writes_stored_total{mirror="shop"} 10` + "\n",
		`skybus_mirror_sending{mirror="shop"} 1` + "\n",
		`skybus_mirror_requests_total{mirror="shop",backend="a",kind="set",result="success"} 10` + "\n",
		`skybus_mirror_requests_queued{mirror="shop",backend="b",kind="set"} 10` + "\n",
		`skybus_mirror_write_seconds_bucket{mirror="shop",backend="a",le="+Inf"} 10` + "\n",
		`skybus_mirror_write_seconds_count{mirror="shop",backend="a"} 10` + "\n",
		`skybus_mirror_write_seconds_bucket{mirror="shop",backend="a",le="10"} 10` + "\n",
		`skybus_mirror_read_seconds_bucket{mirror="shop",backend="a",le="0.0005"} 0` + "\n",
		`skybus_mirror_ejections_total{mirror="shop",backend="b"} 0` + "\n",
	} {
		if !strings.Contains(text, want) {
			c.t.Errorf("%q is not in %s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if !figureLine.MatchString(line) {
			c.t.Errorf("%q is no line of Prometheus's", line)
		}
	}
	table := c.send("GET", "/nodes/metrics", "", 200).body
	if !regexp.MustCompile(`(?m)^ +GET +SET +DELETE *\n +NODE( +SUCCESS +FAILURE +QUEUED){3}\n( +127\.0\.0\.1:\d+( +\d+){9}\n){3}$`).MatchString(table) ||
		!regexp.MustCompile(`(?m)^ +127\.0\.0\.1:\d+ +0 +0 +0 +10 +0 +0 +0 +0 +0$`).MatchString(table) {
		c.t.Error(table)
	}
}
