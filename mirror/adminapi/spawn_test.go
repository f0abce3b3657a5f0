package adminapi_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/mirror"
	"github.com/skybus-io/skybus/mirror/adminapi"
)

// envelope is what Spawn's clients read.
type envelope struct {
	Duration time.Duration `json:"duration"`
	Took     string        `json:"took"`
	Params   []struct{ Key, Value string }
	Data     struct {
		Success bool   `json:"success"`
		Total   int    `json:"total"`
		Results []node `json:"results"`
		failure
	} `json:"data"`
	failure
}

type failure struct {
	Error   int    `json:"error"`
	Message string `json:"message"`
	Info    string `json:"info"`
}

type node struct {
	Host        string `json:"host"`
	Port        int    `json:"port"`
	Priority    int    `json:"priority"`
	Active      bool   `json:"active"`
	Maintenance bool   `json:"maintenance"`
}

func (a answer) envelope(t *testing.T) envelope {
	t.Helper()
	var e envelope
	a.decode(t, &e)
	if e.Took == "" || e.Data.Total != len(e.Data.Results) || e.Data.Success != (a.status < 400) || e.Data.failure != e.failure {
		t.Errorf("%d %s", a.status, a.body)
	}
	return e
}

func TestNodes(t *testing.T) {
	t.Parallel()
	h := build(t, adminapi.Config{})
	none := failure{404, "Record(s) not found", "Please add a record(s) before using"}
	for _, step := range []struct {
		method, path, body string
		status             int
		nodes              []node
		failure            failure
	}{
		{"GET", "/nodes", "", 404, nil, none},
		{"DELETE", "/nodes", "", 200, nil, failure{}},
		{"GET", "/nodes/a.example/8080", "", 404, nil, none},
		{"PUT", "/nodes/a.example/8080", `{}`, 201, []node{{"a.example", 8080, 0, false, false}}, failure{}},
		{"PUT", "/nodes/a.example/8080", `{"priority":2,"active":true}`, 202, []node{{"a.example", 8080, 2, true, false}}, failure{}},
		{"PUT", "/nodes/a.example/8080", `{"maintenance":true}`, 202, []node{{"a.example", 8080, 2, true, true}}, failure{}},
		{"PUT", "/nodes/b.example/8080", `{"host":"other","port":1,"priority":1}`, 201, []node{{"b.example", 8080, 1, false, false}}, failure{}},
		{"GET", "/nodes", "", 200, []node{{"b.example", 8080, 1, false, false}, {"a.example", 8080, 2, true, true}}, failure{}},
		{"GET", "/nodes/", "", 200, []node{{"b.example", 8080, 1, false, false}, {"a.example", 8080, 2, true, true}}, failure{}},
		{"PUT", "/nodes/a.example/8081", `{"priority":3}`, 201, []node{{"a.example", 8081, 3, false, false}}, failure{}},
		{"GET", "/nodes/a.example", "", 200, []node{{"a.example", 8080, 2, true, true}, {"a.example", 8081, 3, false, false}}, failure{}},
		{"GET", "/nodes/a.example/8081", "", 200, []node{{"a.example", 8081, 3, false, false}}, failure{}},
		{"PUT", "/nodes/a.example", `{"active":true}`, 202, []node{{"a.example", 8080, 2, true, true}, {"a.example", 8081, 3, true, false}}, failure{}},
		// Entries are known by what they are and not by where they stand: Spawn gave the new one the values of the old one.
		{"PUT", "/nodes", `[{"host":"c.example","port":1},{"host":"a.example","port":8080,"priority":7}]`, 202, []node{{"a.example", 8080, 7, true, true}, {"c.example", 1, 0, false, false}}, failure{}},
		// Another address in the body moves a node.
		{"PUT", "/nodes/a.example/8080", `{"host":"d.example","port":9}`, 202, []node{{"d.example", 9, 7, true, true}}, failure{}},
		{"GET", "/nodes/a.example/8080", "", 404, nil, none},
		{"GET", "/nodes/d.example/9", "", 200, []node{{"d.example", 9, 7, true, true}}, failure{}},
		{"PUT", "/nodes/d.example/9", `{"port":1,"host":"c.example"}`, 409, nil, failure{409, "There is a node at this host and port already", ""}},
		{"DELETE", "/nodes/c.example/1", "", 200, nil, failure{}},
		{"DELETE", "/nodes/c.example/1", "", 404, nil, none},
		{"DELETE", "/nodes/c.example", "", 404, nil, none},
		{"DELETE", "/nodes/a.example", "", 200, nil, failure{}},
		{"DELETE", "/nodes", "", 200, nil, failure{}},
		{"GET", "/nodes", "", 404, nil, none},
	} {
		a := send(t, step.method, h.url+step.path, step.body)
		if a.status != step.status {
			t.Fatalf("%s %s: %d %s, want %d", step.method, step.path, a.status, a.body, step.status)
		}
		e := a.envelope(t)
		if diff := cmp.Diff(step.nodes, e.Data.Results); diff != "" || e.failure != step.failure {
			t.Errorf("%s %s %s: %s\n(-want +got)\n%s", step.method, step.path, step.body, a.body, diff)
		}
	}
}

// TestNodeMovesWithWhatWaits: a node that is at another address is the same application.
func TestNodeMovesWithWhatWaits(t *testing.T) {
	t.Parallel()
	h := build(t, adminapi.Config{})
	send(t, "PUT", h.url+"/nodes/a.example/80", `{"active":true}`).want(t, 201)
	before, err := h.mirror.Get(t.Context(), "a-example-80")
	if err != nil {
		t.Fatal(err)
	}
	send(t, "PUT", h.url+"/nodes/a.example/80", `{"port":81}`).want(t, 202)
	after, err := h.mirror.Get(t.Context(), "a-example-80")
	before.URL = "http://a.example:81"
	if after != before || err != nil {
		t.Errorf("%+v %v, want %+v", after, err, before)
	}
}

// TestNodesOfOtherNames has those that were not made by Spawn's API.
func TestNodesOfOtherNames(t *testing.T) {
	t.Parallel()
	h := build(t, adminapi.Config{})
	h.set(t, mirror.Backend{Name: "main", URL: "https://a.example", Active: true})
	h.set(t, mirror.Backend{Name: "a-b-80", URL: "http://a.b:80", Active: true})
	send(t, "PUT", h.url+"/nodes/a.example/443", `{"port":444}`).want(t, 202)
	if b, err := h.mirror.Get(t.Context(), "main"); err != nil || b.URL != "https://a.example:444" {
		t.Errorf("%+v %v", b, err)
	}
	if a := send(t, "GET", h.url+"/nodes/a.example/444", "").want(t, 200); !strings.Contains(a.body, `"name":"main","url":"https://a.example:444"`) {
		t.Error(a.body)
	}
	// The name that this one would have is taken.
	send(t, "PUT", h.url+"/nodes/a-b/80", `{}`).want(t, 201)
	if b, err := h.mirror.Get(t.Context(), "a-b-80-2"); err != nil || b.URL != "http://a-b:80" {
		t.Errorf("%+v %v", b, err)
	}
	send(t, "PUT", h.url+"/nodes/::1/80", `{}`).want(t, 201)
	if a := send(t, "GET", h.url+"/nodes/::1", "").want(t, 200); !strings.Contains(a.body, `"url":"http://[::1]:80"`) {
		t.Error(a.body)
	}
	// What is shown can be sent back.
	var e struct {
		Data struct {
			Results []map[string]any `json:"results"`
		} `json:"data"`
	}
	a := send(t, "GET", h.url+"/nodes", "").want(t, 200)
	a.decode(t, &e)
	body := a.body[strings.Index(a.body, "[{") : strings.LastIndex(a.body, "]")+1]
	send(t, "PUT", h.url+"/nodes", body).want(t, 202)
	if b := send(t, "GET", h.url+"/nodes", ""); b.body[strings.Index(b.body, "[{"):] != a.body[strings.Index(a.body, "[{"):] {
		t.Errorf("%s\nwas %s", b.body, a.body)
	}
}

func TestNodesRefused(t *testing.T) {
	t.Parallel()
	h := build(t, adminapi.Config{})
	const parameters = "Could not recognize parameters"
	many := "[" + strings.Repeat(`{"host":"a","port":1},`, 64) + `{"host":"a","port":1}]`
	for _, tt := range []struct {
		method, path, body, message string
	}{
		{"PUT", "/nodes/a/1", ``, parameters},
		{"PUT", "/nodes/a/1", `null`, parameters},
		{"PUT", "/nodes/a/1", `[]`, parameters},
		{"PUT", "/nodes/a/1", `{"priority":"1"}`, "Could not recognize priority parameter"},
		{"PUT", "/nodes/a/1", `{"prio":1}`, "Could not recognize prio parameter"},
		{"PUT", "/nodes/a/1", `{"active":1}`, "Could not recognize active parameter"},
		{"PUT", "/nodes/a/x", `{}`, "Could not recognize port parameter"},
		{"PUT", "/nodes/a/70000", `{}`, "Could not recognize port parameter"},
		{"PUT", "/nodes/a/0", `{}`, "The parameter 'port' could not be zero value"},
		{"PUT", "/nodes/a%2Fb/1", `{}`, "Could not recognize host parameter"},
		{"PUT", "/nodes/a$b/1", `{}`, "Could not recognize host parameter"},
		{"GET", "/nodes/a$b", ``, "Could not recognize host parameter"},
		{"GET", "/nodes/" + strings.Repeat("a", 256), ``, "Could not recognize host parameter"},
		{"GET", "/nodes/a/b", ``, "Could not recognize port parameter"},
		{"DELETE", "/nodes/a/b", ``, "Could not recognize port parameter"},
		{"PUT", "/nodes/a", `{"port":1}`, "Could not recognize port parameter"},
		{"PUT", "/nodes", ``, parameters},
		{"PUT", "/nodes", `{}`, parameters},
		{"PUT", "/nodes", many, parameters},
		{"PUT", "/nodes", `[1]`, parameters},
		{"PUT", "/nodes", `[{"port":1}]`, "The parameter 'host' could not be empty value"},
		{"PUT", "/nodes", `[{"host":"a"}]`, "The parameter 'port' could not be zero value"},
		{"PUT", "/nodes", `[{"host":"a","port":1},{"host":"$","port":1}]`, "Could not recognize host parameter"},
		{"PUT", "/nodes", `[{"host":"a","port":-1}]`, "Could not recognize port parameter"},
	} {
		a := send(t, tt.method, h.url+tt.path, tt.body)
		if e := a.envelope(t); a.status != 400 || e.failure != (failure{400, tt.message, ""}) {
			t.Errorf("%s %s %s: %d %s, want %q", tt.method, tt.path, tt.body, a.status, a.body, tt.message)
		}
	}
	if all, err := h.mirror.Backends(t.Context()); len(all) > 0 || err != nil {
		t.Errorf("made nevertheless: %v %v", all, err)
	}
	send(t, "PUT", h.url+"/nodes", strings.Repeat(" ", adminapi.DefaultMaxBody+1)).want(t, 413)
	a := send(t, "POST", h.url+"/nodes", "").want(t, 405)
	if allow := a.header.Get("Allow"); allow != "GET, PUT, DELETE" {
		t.Errorf("Allow %q", allow)
	}
}

func TestSpawnPages(t *testing.T) {
	t.Parallel()
	h := build(t, adminapi.Config{Version: "1.2.3", Built: "2031-05-01"})
	var info struct {
		Host    string
		Runtime struct {
			Compiler, Memory string
			CPU, Threads     int
		}
		Release struct{ Number, Date string }
	}
	send(t, "GET", h.url+"/info", "").want(t, 200).decode(t, &info)
	if info.Host == "" || info.Runtime.Compiler == "" || info.Runtime.CPU < 1 || info.Runtime.Threads < 1 || info.Runtime.Memory == "" || info.Release.Number != "1.2.3" {
		t.Errorf("%+v", info)
	}
	for path, want := range map[string]string{
		"/list":              "GET     /info\n",
		"/list/nodes":        "PUT     /nodes/:host/:port",
		"/list/nodes/get":    "GET     /nodes/:host/:port",
		"/list/nodes/set":    "PUT     /nodes/:host/:port",
		"/list/nodes/delete": "DELETE  /nodes/:host/:port",
	} {
		a := send(t, "GET", h.url+path, "").want(t, 200)
		if !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") || !strings.Contains(a.body, want) {
			t.Errorf("%s: %s %s", path, a.header, a.body)
		}
		if strings.Contains(a.body, "DELETE") != slices.Contains([]string{"/list", "/list/nodes", "/list/nodes/delete"}, path) {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	for _, path := range []string{"/nodes", "/nodes/a", "/nodes/a/1"} {
		send(t, "OPTIONS", h.url+path, "").want(t, 200)
	}
	if a := send(t, "GET", h.url+"/none", "").want(t, 404); !strings.HasPrefix(a.body, `{"Message":{"Error":"`) {
		t.Error(a.body)
	}
	for _, path := range []string{"/login", "/login/x", "/logout/x"} {
		if a := send(t, "POST", h.url+path, `{"username":"a","password":"b"}`).want(t, 410); !strings.Contains(a.body, "--token-file") {
			t.Error(a.body)
		}
	}
	send(t, "PUT", h.url+"/nodes/a/1", `{}`).want(t, 201)
	if a := send(t, "GET", h.url+"/nodes?pretty=true", "").want(t, 200); !strings.Contains(a.body, "\n  \"data\": {\n    \"success\": true") {
		t.Error(a.body)
	}
	if a := send(t, "GET", h.url+"/nodes/a/1", "").want(t, 200); !strings.Contains(a.body, `"params":[{"key":":host","value":"a"},{"key":":port","value":"1"}]`) {
		t.Error(a.body)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef"
	pages := http.NewServeMux()
	pages.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	h := build(t, adminapi.Config{Tokens: []string{token}, Pages: pages})
	send(t, "PUT", h.url+"/nodes/a/1", "{}", "Authorization", "Bearer "+token).want(t, 201)
	for _, path := range []string{"/nodes", "/nodes/", "/nodes/a", "/nodes/a/1", "/info", "/list", "/metrics", "/v1/status", "/v1/backends", "/v1/openapi.json", "/login", "/", "/none", "/healthz"} {
		for _, header := range []string{"", "Bearer", "Bearer 0123456789abcdeX", "Basic " + token} {
			a := send(t, "GET", h.url+path, "", "Authorization", header).want(t, 401)
			if a.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%s: %v", path, a.header)
			}
		}
		if a := send(t, "GET", h.url+path, "", "Authorization", "Bearer "+token); a.status == 401 {
			t.Errorf("%s with a token: %d %s", path, a.status, a.body)
		}
	}
	send(t, "DELETE", h.url+"/nodes", "").want(t, 401)
	send(t, "GET", h.url+"/healthz", "", "Authorization", "Bearer "+token).want(t, 200)
	if a := send(t, "GET", h.url+"/none", "", "Authorization", "Bearer "+token).want(t, 404); !strings.HasPrefix(a.body, `{"Message":{"Error":"`) {
		t.Error(a.body)
	}
	// A web page of somebody else's has no token, but the browser may have one.
	send(t, "DELETE", h.url+"/nodes", "", "Authorization", "Bearer "+token, "Sec-Fetch-Site", "cross-site").want(t, 403)
	send(t, "GET", h.url+"/nodes", "", "Authorization", "Bearer "+token).want(t, 200)
}
