package http_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus/bustest"
	gateway "github.com/skybus-io/skybus/initiators/http"
)

// shopEntries are entries of all kinds of targets.
func shopEntries() map[string]string {
	return map[string]string{
		"put":    `{"method":"PUT","path":"/orders/{id}","call":"shop.put","description":"Stores an order.","tags":["orders"],"statuses":{"ok":201,"not_found":410},"idempotency":{"required":true},"max_timeout":"30s","timeout":"5s"}`,
		"get":    `{"method":"GET","path":"/orders/{order}","call":"shop.put","tags":["orders"],"templates":{"text/csv":"{{.Raw}}"}}`,
		"all":    `{"methods":["GET","POST"],"path":"/files/{rest...}","route":"echo"}`,
		"exact":  `{"method":"POST","path":"/exact/{$}","call":"app.echo","async":{"always":true}}`,
		"pub":    `{"method":"POST","path":"/pub/{kind}","publish":"default.dev.pub.{path.kind}.{query.n}"}`,
		"mapped": `{"method":"POST","path":"/mapped/{id}","call":"shop.put","request":{"fields":{"id":"{path.id}","number":"{query.n|int|default:7}","articles":"{body.articles}"},"header":{"X-User":"{header.X-User|optional}"}},"reply":{"fields":{"by":"{body.by}"}}}`,
		"form":   `{"method":"POST","path":"/form","call":"shop.put","request":{"body":"none","fields":{"id":"{form.id}"}}}`,
		"events": `{"method":"GET","path":"/events/{kind}","events":{"subject":"default.dev.pub.{path.kind}"}}`,
		"any":    `{"path":"/any","call":"app.echo"}`,
		"hosted": `{"method":"GET","host":"shop.example.org","path":"/hosted","call":"app.echo"}`,
		"later":  `{"method":"POST","path":"/later","call":"app.echo","async":{}}`,
	}
}

func parameters(op *openapi3.Operation) (all []string) {
	for _, p := range op.Parameters {
		text := p.Value.In + " " + p.Value.Name + " " + p.Value.Schema.Value.Type.Slice()[0]
		if p.Value.Required {
			text += "!"
		}
		all = append(all, text)
	}
	return all
}

// Entries are described with their methods, parameters, bodies, answers.
func TestOpenAPIEntries(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.shop(t, "1.0.0", "one")
	s := h.open(t, gateway.Config{Call: gateway.CallConfig{Off: true}}, shopEntries())
	doc := document(t, s.at)
	var entries []string
	for _, o := range operations(doc) {
		if strings.Count(o, "/") > 1 || slices.Contains([]string{"/form", "/any", "/hosted", "/later"}, o[strings.IndexByte(o, '/'):]) {
			entries = append(entries, o)
		}
	}
	want := []string{
		"DELETE /any", "GET /any", "GET /events/{kind}", "GET /files/{rest}", "GET /hosted", "GET /orders/{order}", "PATCH /any", "POST /any", "POST /exact/",
		"POST /files/{rest}", "POST /form", "POST /later", "POST /mapped/{id}", "POST /pub/{kind}", "PUT /any", "PUT /orders/{order}",
	}
	if diff := cmp.Diff(want, entries); diff != "" {
		t.Error(diff)
	}
	for op, want := range map[*openapi3.Operation][]string{
		doc.Paths.Find("/orders/{order}").Put: {"path order string!", "header Idempotency-Key string!", "header Skybus-Timeout string"},
		doc.Paths.Find("/orders/{order}").Get: {"path order string!", "query due string", "query id string"},
		doc.Paths.Find("/pub/{kind}").Post:    {"path kind string!", "query n string!"},
		doc.Paths.Find("/mapped/{id}").Post:   {"path id string!", "header X-User string", "query n integer"},
		doc.Paths.Find("/events/{kind}").Get:  {"path kind string!", "header Last-Event-ID string"},
		doc.Paths.Find("/later").Post:         {"header Prefer string"},
	} {
		if diff := cmp.Diff(want, parameters(op)); diff != "" {
			t.Errorf("%s: %s", op.OperationID, diff)
		}
	}
	put := doc.Paths.Find("/orders/{order}").Put
	in := put.RequestBody.Value.Content[typeJSON].Schema.Value
	if put.OperationID != "http.put" || put.Description != "Stores an order." || in.Properties["articles"] == nil || in.Properties["id"] != nil || !slices.Equal(put.Tags, []string{"orders"}) {
		t.Errorf("%+v takes %v", put, in.Properties)
	}
	if put.Responses.Value("201") == nil || put.Responses.Value("410") == nil || put.Responses.Value("200") != nil {
		t.Errorf("answers %v", put.Responses.Map())
	}
	if content := doc.Paths.Find("/orders/{order}").Get.Responses.Value("200").Value.Content; content["text/csv"] == nil || content[typeJSON] == nil {
		t.Errorf("%v", content)
	}
	if exact := doc.Paths.Find("/exact/").Post; exact.Responses.Value("202") == nil || exact.Responses.Value("200") != nil {
		t.Errorf("%v", exact.Responses.Map())
	}
	if doc.Paths.Find("/events/{kind}").Get.Responses.Value("200").Value.Content["text/event-stream"] == nil || doc.Paths.Find("/events/{kind}").Get.RequestBody != nil {
		t.Error("events are not described as such")
	}
	if hosted := doc.Paths.Find("/hosted").Get; (*hosted.Servers)[0].URL != "//shop.example.org/" {
		t.Errorf("%+v", hosted.Servers)
	}
	mapped := doc.Paths.Find("/mapped/{id}").Post
	if out := mapped.Responses.Value("200").Value.Content[typeJSON].Schema.Value; len(out.Properties) != 0 {
		t.Errorf("an answer that is made anew has %v", out.Properties)
	}
	form := doc.Paths.Find("/form").Post.RequestBody.Value.Content[typeForm].Schema.Value
	if form.Properties["id"] == nil || !slices.Equal(form.Required, []string{"id"}) {
		t.Errorf("%+v", form)
	}
}

// Of entries for the same path at several hosts or listeners each is told of, though OpenAPI has one operation for all.
func TestOpenAPIElsewhere(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{Listeners: []string{"inner"}}, map[string]string{
		"a": `{"method":"GET","host":"a.example","path":"/orders/{id}","call":"app.echo","description":"Of a."}`,
		"b": `{"method":"GET","host":"b.example","path":"/orders/{order}","call":"app.echo"}`,
		"c": `{"method":"GET","listener":"inner","path":"/orders/{id}","call":"app.echo"}`,
		"d": `{"path":"/one","call":"app.echo"}`,
		"e": `{"method":"GET","path":"/one","call":"app.echo"}`, // takes the place of d
	})
	doc := document(t, s.at)
	want := "Of a.\n\nThe entry b is for the same at b.example.\n\nThe entry c is for the same at any host, at the listener inner."
	if got := doc.Paths.Find("/orders/{id}").Get.Description; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if !strings.Contains(doc.Info.Description, "This is not all: 2 operations") {
		t.Errorf("%q", doc.Info.Description)
	}
}

// Requests to entries and what they are answered fit the document.
func TestOpenAPIEntriesFit(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.shop(t, "1.0.0", "one")
	entries := shopEntries()
	delete(entries, "hosted") // the router of the test knows one host
	s := h.open(t, gateway.Config{}, entries)
	router, err := legacy.NewRouter(document(t, s.at))
	if err != nil {
		t.Fatal(err)
	}
	c := &checked{t, s.at, router}
	c.send("PUT", "/orders/7", `{"number":1}`, 201, "Idempotency-Key", `"k"`)
	c.send("PUT", "/orders/7", `{"number":1}`, 400)
	c.send("PUT", "/orders/7", `{"number":"x"}`, 400, "Idempotency-Key", `"k2"`)
	c.send("GET", "/orders/7?due=2030-01-01T00:00:00Z", "", 200)
	c.send("POST", "/files/a", `{"x":1}`, 200)
	c.send("POST", "/exact/", `{"x":1}`, 202)
	c.send("POST", "/mapped/a", `{"articles":[]}`, 200)
	c.send("POST", "/mapped/a?n=8", `{"articles":[]}`, 200, "X-User", "me")
	c.send("POST", "/mapped/a?n=x", `{"articles":[]}`, 400)
	c.send("POST", "/any", `{}`, 200)
	c.send("POST", "/later", `{}`, 202, "Prefer", "respond-async")
	c.send("POST", "/later", `{}`, 200)
}

// A change of an entry is a change of the document.
func TestOpenAPIFollowsEntries(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, nil)
	at := s.at + "/v1/openapi.json"
	before := send(t, "GET", at, "").header.Get("ETag")
	s.put(t, "new", `{"method":"GET","path":"/new","call":"app.echo"}`)
	bustest.Eventually(t, "the entry", func() bool {
		a := send(t, "GET", at, "")
		return strings.Contains(a.body, `"/new"`) && a.header.Get("ETag") != before
	})
	if _, err := s.store.Delete(t.Context(), "new", 0); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "its end", func() bool { return send(t, "GET", at, "").header.Get("ETag") == before })
}

// What is the gateway's own comes before an entry for all there is, but not before one that names it.
func TestEntriesBesideTheAPI(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.shop(t, "1.0.0", "one")
	s := h.open(t, gateway.Config{}, map[string]string{
		"all": `{"path":"/{rest...}","call":"app.echo","request":{"body":"none","fields":{"all":"yes"}}}`,
		"own": `{"method":"POST","path":"/v1/call/shop/{endpoint}","call":"app.echo","request":{"body":"none","fields":{"own":"yes"}}}`,
	})
	for what, want := range map[string]string{
		"POST /v1/call/shop/put": `{"own":"yes"}`, "POST /v1/call/app/echo": `{}`, "POST /v1/other": `{"all":"yes"}`, "GET /v1/docs": "<!doctype", "GET /v1/services": `{"services"`,
		"GET /x": `{"all":"yes"}`,
	} {
		method, path, _ := strings.Cut(what, " ")
		if a := send(t, method, s.at+path, "{}"); a.status != http.StatusOK || !strings.HasPrefix(a.body, want) {
			t.Errorf("%s: %d %.100s, want %s", what, a.status, a.body, want)
		}
	}
}

// An entry that takes all there is in the form of /{rest...} is served beside others.
func TestEntryForEverything(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{"all": `{"path":"/{rest...}","call":"app.echo"}`})
	s.put(t, "more", `{"method":"GET","path":"/{rest...}","call":"app.nothing"}`)
	if a := post(t, s.at+"/any/thing", `{"a":1}`); a.status != http.StatusOK || len(s.gate.Refused()) != 0 {
		t.Errorf("%d %s, refused %v", a.status, a.body, s.gate.Refused())
	}
}
