package http_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators"
	gateway "github.com/skybus-io/skybus/initiators/http"
)

// items are entries that make requests of all there is.
func items() map[string]string {
	return map[string]string{
		"get":    `{"method":"GET","path":"/items/{id}","call":"app.echo"}`,
		"put":    `{"methods":["PUT","DELETE"],"path":"/items/{id}","call":"app.echo"}`,
		"post":   `{"method":"POST","path":"/items","call":"app.echo"}`,
		"rest":   `{"path":"/files/{rest...}","route":"echo"}`,
		"exact":  `{"path":"/exact/{$}","call":"app.echo"}`,
		"mapped": `{"path":"/m/{id}","call":"app.echo","request":{"body":"none","fields":{"id":"{path.id|int}","q":"{query.q|default:none}","h":"{header.X-A|optional}","c":"{cookie.c|optional}","m":"{method}","p":"{path}","host":"{host}","r":"{remote}","f":"{form.f|optional}","b":"{body.a|optional}"}}}`,
		"pass":   `{"method":"POST","path":"/p/{id}","call":"app.echo","request":{"body":"pass"}}`,
		"msg":    `{"path":"/msg/{id}","call":"app.seen","codec":"msgpack"}`,
		"json":   `{"path":"/json","call":"app.seen","codec":"json"}`,
	}
}

// What comes in becomes the request as the entry says.
func TestEntryRequests(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, items())
	for name, tt := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		want               string
	}{
		"path":                      {"GET", "/items/7", "", nil, 200, `{"id":"7"}`},
		"path and query":            {"GET", "/items/7?a=1&b=2&b=3&id=8", "", nil, 200, `{"a":"1","b":["2","3"],"id":"7"}`},
		"encoded":                   {"GET", "/items/a%20b%C3%A4", "", nil, 200, `{"id":"a bä"}`},
		"a body means nothing":      {"GET", "/items/7", `{"x":1}`, nil, 200, `{"id":"7"}`},
		"path, query and body":      {"PUT", "/items/7?a=1&x=2", `{"x":1,"n":9007199254740993}`, nil, 200, `{"a":"1","id":"7","n":9007199254740993,"x":1}`},
		"no body":                   {"DELETE", "/items/7", "", nil, 200, `{"id":"7"}`},
		"path and a list":           {"PUT", "/items/7", `[1]`, nil, 400, ""},
		"as it is":                  {"POST", "/items", ` {"b" : 1, "a":1e400}`, nil, 200, ` {"b" : 1, "a":1e400}`},
		"with a query":              {"POST", "/items?a=1", `{"b":1}`, nil, 200, `{"a":"1","b":1}`},
		"a list with a query":       {"POST", "/items?a=1", `[1]`, nil, 200, `[1]`},
		"a form with a query":       {"POST", "/items?a=1", `b=2&b=3`, []string{"Content-Type", typeForm}, 200, `{"a":"1","b":["2","3"]}`},
		"nothing":                   {"POST", "/items", "", nil, 200, `{}`},
		"bad query":                 {"POST", "/items?a=%zz", "{}", nil, 400, ""},
		"bad JSON":                  {"PUT", "/items/7", "{", nil, 400, ""},
		"the rest":                  {"GET", "/files/a/b/c", "", nil, 200, `{"rest":"a/b/c"}`},
		"no rest":                   {"GET", "/files/", "", nil, 200, `{"rest":""}`},
		"exact":                     {"GET", "/exact/", "", nil, 200, `{}`},
		"not exact":                 {"GET", "/exact/x", "", nil, 404, ""},
		"mapped":                    {"POST", "/m/7?q=x", `{"a":[1]}`, []string{"X-A", "v", "Cookie", "c=d"}, 200, `{"b":[1],"c":"d","h":"v","host":"HOST","id":7,"m":"POST","p":"/m/7","q":"x","r":"127.0.0.1"}`},
		"mapped from a form":        {"POST", "/m/7", `f=1&f=2`, []string{"Content-Type", typeForm}, 200, `{"f":"1","host":"HOST","id":7,"m":"POST","p":"/m/7","q":"none","r":"127.0.0.1"}`},
		"what cannot be mapped":     {"GET", "/m/x", "", nil, 400, ""},
		"passed":                    {"POST", "/p/7?a=1", `{"b":1}`, nil, 200, `{"b":1}`},
		"another method":            {"PATCH", "/items/7", "", nil, 405, ""},
		"elsewhere":                 {"DELETE", "/nowhere", "", nil, 405, ""},
		"MessagePack to JSON":       {"POST", "/json", encode(t, map[string]any{"n": uint64(1 << 63)}), []string{"Content-Type", typeMsgpack, "Accept", typeJSON}, 200, `"body":"{\"n\":9223372036854775808}"`},
		"JSON to MessagePack":       {"POST", "/msg/7", `{"n":9223372036854775808}`, nil, 200, `"content_type":"application/msgpack"`},
		"no type, to MessagePack":   {"GET", "/msg/7", "", nil, 200, `"content_type":"application/msgpack"`},
		"MessagePack, path, merged": {"PUT", "/items/7", encode(t, map[string]any{"a": 1}), []string{"Content-Type", typeMsgpack, "Accept", typeJSON}, 200, `{"a":1,"id":"7"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := send(t, tt.method, s.at+tt.path, tt.body, tt.headers...)
			want := strings.ReplaceAll(tt.want, "HOST", strings.TrimPrefix(s.at, "http://"))
			if a.status != tt.status || !strings.Contains(a.body, want) || strings.HasPrefix(want, "{") && a.body != want {
				t.Errorf("%d %s, want %d %s", a.status, a.body, tt.status, want)
			}
			if a.status == 405 && a.header.Get("Allow") == "" {
				t.Error("no Allow")
			}
			if a.status >= 400 && a.header.Get("Content-Type") != typeProblem && name != "not exact" { // which is a page
				t.Errorf("as %s", a.header.Get("Content-Type"))
			}
		})
	}
}

func TestMultipart(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{MaxBody: 10_000}, map[string]string{"up": `{"method":"POST","path":"/up/{id}","call":"app.echo"}`})
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, v := range []string{"1", "2"} {
		if err := form.WriteField("n", v); err != nil {
			t.Fatal(err)
		}
	}
	file, err := form.CreateFormFile("doc", "../a.bin")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write([]byte{0, 255}); err != nil {
		t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	a := post(t, s.at+"/up/7", body.String(), "Content-Type", form.FormDataContentType())
	want := `{"doc":{"name":"a.bin","type":"application/octet-stream","size":2,"data":"AP8="},"id":"7","n":["1","2"]}`
	if a.status != 200 || a.body != want {
		t.Errorf("%d %s, want %s", a.status, a.body, want)
	}
	if a := post(t, s.at+"/up/7", strings.Repeat("x", 10_001), "Content-Type", form.FormDataContentType()); a.status != 413 {
		t.Errorf("a large one: %d %s", a.status, a.body)
	}
}

// Answers are what the client accepts, or what the entry makes of them.
func TestEntryAnswers(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{
		"plain": `{"method":"POST","path":"/plain","call":"app.echo","statuses":{"ok":201}}`,
		"made": `{"method":"POST","path":"/made","call":"app.echo","headers":{"set":{"cache-control":"no-store"}},"templates":{
			"text/html":"<p title=\"{{.Response.a}}\">{{.Response.a}} {{.Status}}</p>",
			"application/xml":"<a b=\"{{.Response.a}}\">{{range .Value.list}}<i>{{.}}</i>{{end}}{{.Response.none}}</a>",
			"application/vnd.x+json":"{\"v\":{{.Response.a}},\"l\":{{.Value.list}}}",
			"text/csv":"{{.Response.a}};{{join \",\" .Value.list}}"}}`,
		"broken": `{"method":"POST","path":"/broken","call":"app.echo","templates":{"text/html":"{{.Nope.x}}"}}`,
	})
	body := `{"a":"<\"&'>","list":[1,"b"]}`
	for name, tt := range map[string]struct {
		path, accept string
		status       int
		contentType  string
		want         string
	}{
		"who says nothing":    {"/plain", "", 201, typeJSON, `{"a":"<\"&'>","list":[1,"b"]}`},
		"anything":            {"/plain", "*/*", 201, typeJSON, "{"},
		"JSON":                {"/plain", "text/plain;q=0.1, application/json", 201, typeJSON, "{"},
		"MessagePack":         {"/plain", typeMsgpack, 201, typeMsgpack, encode(t, map[string]any{"a": `<"&'>`, "list": []any{1, "b"}})[:1]},
		"better":              {"/plain", "application/json;q=0.5, application/msgpack", 201, typeMsgpack, ""},
		"by type":             {"/plain", "application/*", 201, typeJSON, ""},
		"a browser":           {"/plain", browser, 201, "text/html; charset=utf-8", "<table>"},
		"nothing of that":     {"/plain", "image/png", 406, typeProblem, "application/msgpack"},
		"none":                {"/plain", "*/*;q=0", 406, typeProblem, ""},
		"template":            {"/made", browser, 200, "text/html; charset=utf-8", `<p title="&lt;&#34;&amp;&#39;&gt;">&lt;&#34;&amp;&#39;&gt; 200</p>`},
		"XML":                 {"/made", "application/xml", 200, "application/xml; charset=utf-8", `<a b="&lt;&#34;&amp;&#39;&gt;"><i>1</i><i>b</i></a>`},
		"JSON of its own":     {"/made", "application/vnd.x+json", 200, "application/vnd.x+json", `{"v":"\u003c\"\u0026'\u003e","l":[1,"b"]}`},
		"text":                {"/made", "text/csv", 200, "text/csv; charset=utf-8", `<"&'>;1,b`},
		"and JSON":            {"/made", "application/json", 200, typeJSON, "{"},
		"a template's fault":  {"/broken", "text/html", 500, "text/html; charset=utf-8", "does not render"},
		"not where it's JSON": {"/broken", "", 200, typeJSON, "{"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var headers []string
			if tt.accept != "" {
				headers = []string{"Accept", tt.accept}
			}
			a := post(t, s.at+tt.path, body, headers...)
			if a.status != tt.status || a.header.Get("Content-Type") != tt.contentType || !strings.Contains(a.body, tt.want) {
				t.Errorf("%d as %s: %s, want %d as %s: %s", a.status, a.header.Get("Content-Type"), a.body, tt.status, tt.contentType, tt.want)
			}
			if tt.path == "/made" && a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control %q", a.header.Get("Cache-Control"))
			}
		})
	}
	// Who is not served is not worked for.
	before := h.calls.Load()
	if a := post(t, s.at+"/plain", body, "Accept", "image/png"); a.status != 406 || h.calls.Load() != before {
		t.Errorf("%d, and %d calls", a.status, h.calls.Load()-before)
	}
}

// Errors have the status that the entry gives them.
func TestEntryErrors(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{
		"fail":    `{"method":"POST","path":"/f","call":"app.fail","statuses":{"failed_precondition":412,"not_found":410}}`,
		"nowhere": `{"path":"/nowhere","call":"nowhere.get"}`,
		"none":    `{"path":"/none","call":"app.none"}`,
		"norm":    `{"path":"/missing","route":"missing"}`,
	})
	for code, status := range map[bus.Code]int{bus.FailedPrecondition: 412, bus.NotFound: 410, bus.Aborted: 409, bus.Internal: 500} {
		a := post(t, s.at+"/f", fmt.Sprintf(`{"code":%q,"message":"it went wrong"}`, code))
		if p := a.problem(t); a.status != status || p.Status != status || p.Code != code {
			t.Errorf("%s: %d %s", code, a.status, a.body)
		}
		page := post(t, s.at+"/f", fmt.Sprintf(`{"code":%q,"message":"it <went> wrong"}`, code), "Accept", browser)
		if page.status != status || !strings.Contains(page.body, "it &lt;went&gt; wrong") {
			t.Errorf("%s: page %d %s", code, page.status, page.body)
		}
	}
	if a := send(t, "GET", s.at+"/nowhere", ""); a.status != 503 || a.header.Get("Retry-After") != "1" {
		t.Errorf("nobody serves: %d %s", a.status, a.body)
	}
	if a := send(t, "GET", s.at+"/none", ""); a.status != 501 {
		t.Errorf("no such endpoint: %d %s", a.status, a.body)
	}
	if a := send(t, "GET", s.at+"/missing", ""); a.status != 404 {
		t.Errorf("no such route: %d %s", a.status, a.body)
	}
}

func (s *site) seen(t testing.TB, path string, headers ...string) (seen, answer) {
	t.Helper()
	a := send(t, "GET", s.at+path, "", headers...)
	var v seen
	if err := json.Unmarshal([]byte(a.body), &v); err != nil || a.status != 200 {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return v, a
}

// The deadline is the entry's, or what the client asks for up to the entry's maximum.
func TestEntryTimeout(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{Timeout: 20 * time.Second}, map[string]string{
		"seen": `{"path":"/seen","call":"app.seen","timeout":"5s","max_timeout":"1m"}`,
		"own":  `{"path":"/own","call":"app.seen"}`,
		"wait": `{"path":"/wait","call":"app.wait","timeout":"100ms"}`,
	})
	for _, tt := range []struct {
		path, asked string
		least, most int64
	}{
		{"/seen", "", 4000, 5000},
		{"/seen", "30000", 29000, 30000},
		{"/seen", "2s", 1000, 2000},
		{"/seen", "10h", 59000, 60000},
		{"/own", "", 19000, 20000},
		{"/own", "1h", 19000, 20000},
	} {
		var headers []string
		if tt.asked != "" {
			headers = []string{"Skybus-Timeout", tt.asked}
		}
		if v, _ := s.seen(t, tt.path, headers...); v.LeftMS < tt.least || v.LeftMS > tt.most {
			t.Errorf("%s asked for %q: %d ms left, want %d to %d", tt.path, tt.asked, v.LeftMS, tt.least, tt.most)
		}
	}
	for _, bad := range []string{"0", "-1", "soon", "1d", "99999999999999999999", " "} {
		if a := send(t, "GET", s.at+"/seen", "", "Skybus-Timeout", bad+"x"); a.status != 400 {
			t.Errorf("%q: %d", bad, a.status)
		}
	}
	begin := time.Now()
	if a := send(t, "GET", s.at+"/wait", ""); a.status != 504 || time.Since(begin) > 5*time.Second {
		t.Errorf("%d after %v", a.status, time.Since(begin))
	}
	bustest.Eventually(t, "the handler's ctx to end", func() bool { return h.waiting.Load() == 0 })
}

// A client that goes takes the call with it.
func TestEntryClientGone(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{"wait": `{"path":"/wait","call":"app.wait"}`})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.at+"/wait", nil)
		if err == nil {
			var resp *http.Response
			if resp, err = client(t).Do(req); err == nil {
				_ = resp.Body.Close()
			}
		}
		failed <- err
	}()
	bustest.Eventually(t, "the request", func() bool { return h.waiting.Load() == 1 })
	cancel()
	if err := bustest.Receive(t, "the client", failed); err == nil {
		t.Error("the client got an answer")
	}
	bustest.Eventually(t, "the handler's ctx to end", func() bool { return h.waiting.Load() == 0 })
}

// Headers pass as the entry says and not otherwise.
func TestEntryHeaders(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{
		"none": `{"path":"/none","call":"app.seen"}`,
		"some": `{"path":"/some","call":"app.seen","headers":{"forward":["x-tenant","Authorization"],"return":["ETag"],"set":{"x-served-by":"skybus"}}}`,
		"fail": `{"path":"/fail","call":"app.fail","headers":{"set":{"x-served-by":"skybus"}}}`,
		"made": `{"path":"/made","call":"app.seen","request":{"header":{"X-Who":"{header.X-Tenant|upper}"}}}`,
	})
	sent := []string{"X-Tenant", "acme", "Authorization", "secret", "Skybus-From", "evil", "X-Forwarded-For", "1.2.3.4", "Nats-Msg-Id", "x"}
	v, a := s.seen(t, "/none", sent...)
	if len(v.Header) != 0 || a.header.Get("X-Reply") != "" || a.header.Get("Etag") != "" {
		t.Errorf("sent %v, answered %v", v.Header, a.header)
	}
	v, a = s.seen(t, "/some", sent...)
	if v.Header.Get("X-Tenant") != "acme" || v.Header.Get("Authorization") != "secret" || len(v.Header) != 2 {
		t.Errorf("sent %v", v.Header)
	}
	if a.header.Get("Etag") != `"1"` || a.header.Get("X-Reply") != "" || a.header.Get("X-Served-By") != "skybus" {
		t.Errorf("answered %v", a.header)
	}
	if a := send(t, "GET", s.at+"/fail", ""); a.status != 500 || a.header.Get("X-Served-By") != "skybus" {
		t.Errorf("an error: %d %v", a.status, a.header)
	}
	if v, _ = s.seen(t, "/made", sent...); v.Header.Get("X-Who") != "ACME" {
		t.Errorf("sent %v", v.Header)
	}
	if a := send(t, "GET", s.at+"/some", "", "X-Tenant", strings.Repeat("x", 9000)); a.status != 400 {
		t.Errorf("a large header: %d %s", a.status, a.body)
	}
}

// The trace of the client goes on with a span of the gateway's own.
func TestEntryTrace(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{"seen": `{"path":"/seen","call":"app.seen"}`})
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for sent, want := range map[string]string{
		"00-" + trace + "-" + span + "-01":                              "01",
		"00-" + trace + "-" + span + "-00":                              "00",
		"cc-" + trace + "-" + span + "-01-new":                          "01",
		"":                                                              "",
		"00-" + trace + "-" + span:                                      "",
		"ff-" + trace + "-" + span + "-01":                              "",
		"00-" + strings.ToUpper(trace) + "-" + span + "-01":             "",
		"00-" + strings.Repeat("0", 32) + "-" + span + "-01":            "",
		"00-" + trace + "-" + strings.Repeat("0", 16) + "-01":           "",
		"00-" + trace + "-" + span + "-01-more":                         "",
		"00-" + trace + "-" + span + "-01" + strings.Repeat("-x", 1000): "",
	} {
		v, _ := s.seen(t, "/seen", "Traceparent", sent, "X-Request-Id", "r1")
		parts := strings.Split(v.Traceparent, "-")
		switch {
		case want == "" && v.Traceparent != "":
			t.Errorf("%.80q became %q", sent, v.Traceparent)
		case want != "" && (len(parts) != 4 || parts[0] != "00" || parts[1] != trace || parts[2] == span || len(parts[2]) != 16 || parts[3] != want):
			t.Errorf("%.80q became %q", sent, v.Traceparent)
		}
		if v.ID != "r1" {
			t.Errorf("request id %q", v.ID)
		}
	}
}

// What each step took is told to who asks.
func TestServerTiming(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{
		"call": `{"path":"/call","call":"app.echo"}`, "route": `{"path":"/route","route":"may"}`, "fail": `{"path":"/fail","call":"app.fail"}`,
	})
	for path, want := range map[string]string{
		"/call": `^gateway;dur=[0-9.]+, app\.echo;dur=[0-9.]+$`, "/route": `^gateway;dur=[0-9.]+, app\.echo;dur=[0-9.]+, app\.fail;dur=[0-9.]+$`,
		"/fail": `^gateway;dur=[0-9.]+, app\.fail;dur=[0-9.]+$`, "/v1/call/app/echo": `^gateway;dur=[0-9.]+, app\.echo;dur=[0-9.]+$`,
	} {
		method := "GET"
		if strings.HasPrefix(path, "/v1") {
			method = "POST"
		}
		if a := send(t, method, s.at+path, "", "Skybus-Trace", "1"); !regexp.MustCompile(want).MatchString(a.header.Get("Server-Timing")) {
			t.Errorf("%s: %d, Server-Timing %q", path, a.status, a.header.Get("Server-Timing"))
		}
		if a := send(t, method, s.at+path, ""); a.header.Get("Server-Timing") != "" {
			t.Errorf("%s: nobody asked for %q", path, a.header.Get("Server-Timing"))
		}
	}
}

// Headers that prove who asks stand for nothing in what is made of a request, also where nobody is asked; single cookies do.
func TestCredentialsHidden(t *testing.T) {
	t.Parallel()
	h := build(t)
	fields := map[string]string{"kept": "{header.X-A}", "cookie": "{cookie.lang}"}
	var headers []string
	for _, name := range []string{"Authorization", "authorization", "Proxy-Authorization", "Cookie", "X-Api-Key", "x_api_key"} {
		fields[name] = "{header." + name + "|default:none}"
		headers = append(headers, name, "lang=secret")
		spec := initiators.Spec{Call: "app.echo", Request: &initiators.Mapping{Fields: initiators.Fields{"a": "{header." + name + "}"}}}
		if err := (gateway.Entry{Path: "/x", Spec: spec}).Validate(); err == nil || !strings.Contains(err.Error(), "is never there") {
			t.Errorf("an entry with {header.%s}: %v", name, err)
		}
	}
	entry, err := json.Marshal(gateway.Entry{Path: "/x", Spec: initiators.Spec{Call: "app.echo", Request: &initiators.Mapping{Body: initiators.BodyNone, Fields: fields}}})
	if err != nil {
		t.Fatal(err)
	}
	s := h.open(t, gateway.Config{}, map[string]string{"x": string(entry)})
	a := post(t, s.at+"/x", "{}", append(headers, "X-A", "v")...)
	const want = `{"Authorization":"none","Cookie":"none","Proxy-Authorization":"none","X-Api-Key":"none","authorization":"none","cookie":"secret","kept":"v","x_api_key":"none"}`
	if a.status != 200 || a.body != want {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// A client that goes ends its own request, not the one that a proxy has sent again meanwhile with the same X-Request-Id.
func TestClientGoneSameID(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{"slow": `{"method":"POST","path":"/slow","call":"app.wait","timeout":"5m"}`})
	ctx, leave := context.WithCancel(t.Context())
	statuses := make(chan int, 2)
	for i, ctx := range []context.Context{ctx, t.Context()} {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.at+"/slow", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Request-Id", "mine")
		go func() {
			status := 0
			if resp, err := client(t).Do(req); err == nil {
				status = resp.StatusCode
				_ = resp.Body.Close()
			}
			statuses <- status
		}()
		bustest.Eventually(t, "the request", func() bool { return h.waiting.Load() == int64(i+1) })
	}
	leave()
	if status := bustest.Receive(t, "the end of the first", statuses); status != 0 {
		t.Errorf("the first is answered with %d", status)
	}
	bustest.Eventually(t, "the end of its handler", func() bool { return h.waiting.Load() == 1 })
	h.release()
	if status := bustest.Receive(t, "the second", statuses); status != http.StatusOK {
		t.Errorf("the second is answered with %d", status)
	}
}
