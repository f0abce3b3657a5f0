package http_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus/bustest"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/initiators/http/auth"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/registry"
	"github.com/skybus-io/skybus/micro/route"
)

// document is the description, which has to be valid OpenAPI 3.1.
func document(t testing.TB, at string, headers ...string) *openapi3.T {
	t.Helper()
	a := send(t, http.MethodGet, at+"/v1/openapi.json", "", headers...)
	if a.status != http.StatusOK || a.header.Get("Content-Type") != typeJSON {
		t.Fatalf("%d %s", a.status, a.body)
	}
	doc, err := openapi3.NewLoader().LoadFromData([]byte(a.body))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatalf("%v\n%.2000s", err, a.body)
	}
	if !doc.IsOpenAPI31OrLater() {
		t.Errorf("it is %s", doc.OpenAPI)
	}
	return doc
}

func operations(doc *openapi3.T) []string {
	var all []string
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			all = append(all, method+" "+path)
		}
	}
	slices.Sort(all)
	return all
}

// The document tells of all that can be asked for, and of nothing else.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.shop(t, "1.0.0", "one")
	store, err := route.OpenStore(t.Context(), h.conn, route.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	buy := route.Route{Description: "Buys.", Steps: []route.Step{{Service: "shop", Endpoint: "put"}, {Service: "app", Endpoint: "echo", Async: true}}}
	if _, err := store.Create(t.Context(), "buy", buy); err != nil {
		t.Fatal(err)
	}
	at := h.listen(t, gateway.Config{OpenAPI: gateway.OpenAPIConfig{Title: "Shop", Version: "7", Description: "All of it."}})
	bustest.Eventually(t, "the route", func() bool { _, ok := h.runner.Route("buy"); return ok })
	doc := document(t, at)
	want := []string{
		"POST /buy", "POST /echo", "POST /fail", "POST /may", "POST /nothing", "POST /nowhere",
		"POST /v1/call/app/echo", "POST /v1/call/app/fail", "POST /v1/call/app/nothing", "POST /v1/call/app/seen", "POST /v1/call/app/wait", "POST /v1/call/shop/put", "POST /wait",
	}
	if got := operations(doc); !cmp.Equal(got, want) {
		t.Errorf("%s", cmp.Diff(want, got))
	}
	if doc.Info.Title != "Shop" || doc.Info.Version != "7" || doc.Info.Description != "All of it." {
		t.Errorf("%+v", doc.Info)
	}
	put := doc.Paths.Find("/v1/call/shop/put").Post
	if put.Description != "Takes an order.\n\nIt may be asked twice: that does no harm." || put.OperationID != "call.shop.put" || !slices.Equal(put.Tags, []string{"shop"}) {
		t.Errorf("%+v", put)
	}
	request := put.RequestBody.Value.Content[typeJSON].Schema
	if request.Ref != "#/components/schemas/shop.put.Request" || request.Value.Properties["id"].Value.Description != "Id of the order." {
		t.Errorf("%+v", request)
	}
	bought := doc.Paths.Find("/buy").Post
	if !strings.Contains(bought.Description, "Buys.") || !strings.Contains(bought.Description, "2. `app.echo`, stored for later") {
		t.Errorf("%s", bought.Description)
	}
	if in := bought.RequestBody.Value.Content[typeJSON].Schema.Value; in.Properties["articles"] == nil {
		t.Errorf("the route takes %+v", in)
	}
	if out := bought.Responses.Value("200").Value.Content[typeJSON].Schema.Value; out.Properties["by"] == nil || len(out.Required) > 0 {
		t.Errorf("the route gives %+v", out)
	}
}

// checked is a client whose requests and answers must fit the document.
type checked struct {
	t      testing.TB
	at     string
	router routers.Router
}

func (c *checked) post(path, body string, status int, headers ...string) {
	c.t.Helper()
	c.send(http.MethodPost, path, body, status, headers...)
}

func (c *checked) send(method, path, body string, status int, headers ...string) {
	c.t.Helper()
	if body != "" {
		headers = append([]string{"Content-Type", typeJSON}, headers...)
	}
	a := send(c.t, method, c.at+path, body, headers...)
	if a.status != status {
		c.t.Errorf("%s: %d %s, want %d", path, a.status, a.body, status)
	}
	req := httptest.NewRequestWithContext(c.t.Context(), method, path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	found, params, err := c.router.FindRoute(req)
	if err != nil {
		c.t.Fatalf("%s: %v", path, err)
	}
	in := &openapi3filter.RequestValidationInput{
		Request: req, PathParams: params, Route: found, Options: &openapi3filter.Options{
			IncludeResponseStatus: true, MultiError: true,
			AuthenticationFunc: func(context.Context, *openapi3filter.AuthenticationInput) error { return nil },
		},
	}
	if status < http.StatusBadRequest {
		if err := openapi3filter.ValidateRequest(c.t.Context(), in); err != nil {
			c.t.Errorf("request %s %s: %v", path, body, err)
		}
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader([]byte(a.body))), Options: in.Options,
	}
	if err := openapi3filter.ValidateResponse(c.t.Context(), out); err != nil {
		c.t.Errorf("answer of %s: %d %s: %v", path, a.status, a.body, err)
	}
}

// What is sent and answered fits the document.
func TestOpenAPIFits(t *testing.T) {
	t.Parallel()
	h, newKey := guarded(t, gateway.Config{Policy: &auth.Policy{Anonymous: true}, Call: gateway.CallConfig{Auth: &auth.Policy{Scopes: []string{"call"}}}}, map[string]string{
		"read": `{"method":"GET","path":"/read","call":"app.echo","auth":{"kinds":["key"],"scopes":["read","more"]}}`, "free": `{"method":"GET","path":"/free","call":"app.echo"}`,
		"token": `{"method":"GET","path":"/token","call":"app.echo","auth":{"kinds":["jwt"]}}`,
	})
	h.shop(t, "1.0.0", "one")
	key, other := []string{"X-Api-Key", newKey("call")}, newKey("other")
	doc := document(t, h.at, key...)
	checkSecurity(t, doc)
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	c := &checked{t, h.at, router}
	c.post("/v1/call/shop/put", `{"id":"a","number":7,"articles":[{"name":"hat","price":2}],"due":"2030-01-01T00:00:00Z"}`, 200, key...)
	c.post("/v1/call/shop/put?version=1.0.0&instance=one", `{}`, 200, key...)
	c.post("/v1/call/shop/put", `{"articles":null,"other":1}`, 200, key...)
	c.post("/v1/call/shop/put?version=2.0.0", `{}`, 503, key...)
	c.post("/v1/call/shop/put", `{"number":"x"}`, 400, key...)
	c.post("/v1/call/shop/put", `{}`, 401)
	c.post("/v1/call/shop/put", `{}`, 403, "X-Api-Key", other)
	c.post("/v1/call/app/fail", `{"code":"aborted","message":"no","details":{"a":"b"}}`, 409, key...)
	c.post("/v1/call/app/echo", `{"anything":[1,null]}`, 200, key...)
	c.post("/echo", `{"a":1}`, 200)
	c.post("/nothing", `{}`, 200)
	c.post("/nowhere", `{}`, 503)
	c.post("/v1/call/app/echo", `"`+strings.Repeat("x", gateway.DefaultMaxBody)+`"`, 413, key...)
}

// checkSecurity tells whether operations say what they ask for.
func checkSecurity(t *testing.T, doc *openapi3.T) {
	t.Helper()
	for path, want := range map[string]openapi3.SecurityRequirements{
		"/v1/call/shop/put": {{"apiKey": {"call"}}, {"bearer": {"call"}}},
		"/echo":             {{"apiKey": {}}, {"bearer": {}}, {}},
		"/read":             {{"apiKey": {"read", "more"}}, {"bearer": {"read", "more"}}},
		"/free":             {{"apiKey": {}}, {"bearer": {}}, {}},
	} {
		for method, op := range doc.Paths.Find(path).Operations() {
			if op.Security == nil || !cmp.Equal(*op.Security, want) || op.Responses.Value("401") == nil {
				t.Errorf("%s %s asks for %v, want %v", method, path, op.Security, want)
			}
		}
	}
	schemes := doc.Components.SecuritySchemes
	if len(schemes) != 2 || schemes["apiKey"].Value.Name != "X-Api-Key" || schemes["bearer"].Value.Scheme != "bearer" {
		t.Errorf("schemes %+v", schemes)
	}
}

// The document is another one as soon as what it tells of is, and is not sent again to who has it.
func TestOpenAPIFollows(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{}) + "/v1/openapi.json"
	first := send(t, "GET", at, "")
	etag := first.header.Get("ETag")
	for range 3 {
		if a := send(t, "GET", at, "", "If-None-Match", etag); a.status != http.StatusNotModified || a.body != "" || a.header.Get("ETag") != etag {
			t.Fatalf("%d %s %v", a.status, a.body, a.header)
		}
	}
	if a := send(t, "HEAD", at, ""); a.status != http.StatusOK || a.body != "" || a.header.Get("ETag") != etag || a.header.Get("Content-Length") == "0" {
		t.Errorf("HEAD: %d %v", a.status, a.header)
	}
	h.shop(t, "1.0.0", "one")
	second := send(t, "GET", at, "", "If-None-Match", etag)
	if second.status != http.StatusOK || !strings.Contains(second.body, "/v1/call/shop/put") || second.header.Get("ETag") == etag {
		t.Errorf("%d %s", second.status, second.body)
	}
	store, err := route.OpenStore(t.Context(), h.conn, route.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Create(t.Context(), "late", route.Route{Steps: []route.Step{{Service: "app", Endpoint: "echo"}}}); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "the new route", func() bool { return strings.Contains(send(t, "GET", at, "").body, `"/late"`) })
}

// The newest version's schemas are shown, whatever order the instances came in.
func TestOpenAPINewest(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{})
	writeRecord(t, h, "mixed", "b", "1.9.0", `{"type":"object","title":"old"}`)
	writeRecord(t, h, "mixed", "a", "1.10.0-rc.1", `{"type":"object","title":"candidate"}`)
	writeRecord(t, h, "mixed", "c", "1.10.0", `{"type":"object","title":"new"}`)
	bustest.Eventually(t, "all instances", func() bool {
		s := h.client.Registry().Service("mixed")
		return s != nil && len(s.Rest) == 3
	})
	doc := document(t, at)
	if got := doc.Components.Schemas["mixed.get.Request"].Value.Title; got != "new" {
		t.Errorf("shown is the %s one", got)
	}
}

// writeRecord writes a record by hand, as anybody may who can write to the bucket. Nobody is alive who it tells of.
func writeRecord(t testing.TB, h *house, service, instance, version, schema string) {
	t.Helper()
	table, err := kv.Open[registry.Record](t.Context(), h.conn, registry.InstancesBucket, kv.Config{Bind: true, NoExpiry: true})
	if err != nil {
		t.Fatal(err)
	}
	r := registry.Record{Service: service, Instance: instance, Version: version, Endpoints: []registry.Endpoint{
		{Name: "get", Request: json.RawMessage(schema), Response: json.RawMessage(schema)},
		{Name: "../../x", Request: json.RawMessage(schema)},
	}}
	if _, err := table.Put(t.Context(), h.conn.Namespace().Key(service, instance), r); err != nil {
		t.Fatal(err)
	}
}

// Whatever schemas are in records, the document is valid, and leads nowhere else.
func TestOpenAPIHostileSchemas(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{})
	for i, schema := range []string{
		`{"$ref":"http://evil.example/schema"}`, `{"$id":"http://evil.example/","$schema":"http://evil.example/meta","type":"object"}`,
		`{"properties":{"a":{"$ref":"#/$defs/a"},"b":{"$dynamicRef":"#x"}},"$defs":{"a":{"type":"string"}}}`,
		`{"type":"banana"}`, `{"type":[]}`, `{"type":7,"properties":[]}`, `{"enum":"x","required":"y","minLength":-1,"maximum":"z"}`, `{"minLength":1e400,"multipleOf":0}`,
		`{"pattern":"("}`, `{"allOf":[]}`, `{"allOf":[7]}`, `{"items":[{}]}`, `true`, `[]`, `"x"`, `null`,
		`{"not":` + strings.Repeat(`{"not":`, 200) + `{}` + strings.Repeat(`}`, 200) + `}`,
		`{"description":"` + strings.Repeat("é", 5000) + `"}`, `{"default":{"$ref":"#/nowhere"},"title":"<script>alert(1)</script>"}`,
	} {
		writeRecord(t, h, "evil", "i"+string(rune('a'+i)), "1.0."+string(rune('0'+i%10)), schema)
		writeRecord(t, h, "evil"+string(rune('a'+i)), "x", "1.0.0", schema)
	}
	bustest.Eventually(t, "the last one", func() bool { return h.client.Registry().Service("evils") != nil })
	doc := document(t, at)
	if n := len(operations(doc)); n < 20 {
		t.Errorf("%d operations: %q", n, operations(doc))
	}
	body := send(t, "GET", at+"/v1/openapi.json", "").body
	for _, bad := range []string{"evil.example", "$dynamicRef", "$defs", "../", "banana"} {
		if strings.Contains(body, bad) {
			t.Errorf("the document has %q", bad)
		}
	}
}

// What the mux serves is described by documents of its own, whose names are kept apart.
func TestOpenAPIMounted(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.shop(t, "1.0.0", "one")
	timers, err := os.ReadFile("../../scheduler/httpapi/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	small := json.RawMessage(`{"openapi":"3.1.0","info":{"title":"x","version":"1"},"tags":[{"name":"shop"}],"security":[{"key":[]}],
		"paths":{"/echo":{"parameters":[{"$ref":"#/components/parameters/Version"}],"post":{"operationId":"call.shop.put","responses":{"200":{"description":"ok"}}},
		"get":{"security":[],"responses":{"200":{"$ref":"#/components/responses/Error"}}}}},
		"components":{"parameters":{"Version":{"name":"v","in":"query","schema":{"type":"string"}}},"responses":{"Error":{"description":"none"}},
		"securitySchemes":{"key":{"type":"http","scheme":"basic"}}}}`)
	doc := document(t, h.listen(t, gateway.Config{OpenAPI: gateway.OpenAPIConfig{Mounted: map[string]json.RawMessage{"timers": timers, "small": small}}}))
	for _, path := range []string{"/v1/timers", "/timer", "/echo", "/fail", "/v1/call/shop/put"} {
		if doc.Paths.Find(path) == nil {
			t.Errorf("there is no %s", path)
		}
	}
	echo := doc.Paths.Find("/echo")
	if echo.Post.OperationID != "small.call.shop.put" || echo.Parameters[0].Value.Name != "v" || len(*echo.Get.Security) != 0 || (*echo.Post.Security)[0]["small.key"] == nil {
		t.Errorf("%+v %+v", echo.Post, echo.Get)
	}
	if n := len(doc.Components.SecuritySchemes); n != 2 { // with that of the timers
		t.Errorf("%d security schemes", n)
	}
	for _, bad := range []string{`{`, `[]`, `{"openapi":"3.0.3","paths":{}}`, `{"openapi":"3.1.0","paths":[]}`} {
		if _, err := gateway.New(h.runner, gateway.Config{OpenAPI: gateway.OpenAPIConfig{Mounted: map[string]json.RawMessage{"x": json.RawMessage(bad)}}}); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// The document leaves things out rather than being larger than it may.
func TestOpenAPIBounded(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.shop(t, "1.0.0", "one")
	whole := len(send(t, "GET", h.listen(t, gateway.Config{})+"/v1/openapi.json", "").body)
	at := h.listen(t, gateway.Config{OpenAPI: gateway.OpenAPIConfig{MaxBytes: whole - 100}})
	doc := document(t, at)
	if len(doc.Components.Schemas) != 1 || !strings.Contains(doc.Info.Description, "This is not all") || len(operations(doc)) != 12 {
		t.Errorf("%q %s %q", slices.Sorted(maps.Keys(doc.Components.Schemas)), doc.Info.Description, operations(doc))
	}
	at = h.listen(t, gateway.Config{OpenAPI: gateway.OpenAPIConfig{MaxBytes: 1000}})
	if a := send(t, "GET", at+"/v1/openapi.json", ""); a.status != http.StatusInternalServerError || !strings.Contains(a.body, "even without schemas") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestOpenAPIOff(t *testing.T) {
	t.Parallel()
	h := build(t)
	cfg := gateway.Config{OpenAPI: gateway.OpenAPIConfig{Off: true}}
	at := h.listen(t, cfg)
	for _, path := range []string{"/v1/openapi.json", "/v1/docs", "/v1/docs/docs.js"} {
		if a := send(t, "GET", at+path, ""); a.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if _, err := h.gateway(t, cfg).OpenAPI(); err == nil {
		t.Error("it is described nevertheless")
	}
}
