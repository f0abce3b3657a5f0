package http_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsmicro "github.com/nats-io/nats.go/micro"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/initiators/http/auth"
	"github.com/skybus-io/skybus/micro"
)

// Any endpoint is called by its name, with what codecs there are, with no configuration at all.
func TestCall(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.shop(t, "1.0.0", "one")
	at := h.listen(t, gateway.Config{}) + "/v1/call/shop/put"
	want := receipt{"one", "1.0.0", order{ID: "a", Number: 9007199254740993, Articles: []article{{"hat", 1.5}}}}
	const asJSON = `{"id":"a","number":9007199254740993,"articles":[{"name":"hat","price":1.5}]}`
	for _, test := range []struct{ contentType, body, answers string }{
		{"", asJSON, typeJSON},
		{typeJSON, asJSON, typeJSON},
		{"application/json; charset=utf-8", asJSON, typeJSON},
		{typeForm, asJSON, typeJSON}, // as curl -d sends it
		{typeMsgpack, encode(t, want.Order), typeMsgpack},
	} {
		a := post(t, at, test.body, "Content-Type", test.contentType, "X-Request-Id", "mine")
		if got := decode[receipt](t, a); a.status != http.StatusOK || a.header.Get("Content-Type") != test.answers || !cmp.Equal(got, want) {
			t.Errorf("%s: %d %s", test.contentType, a.status, a.body)
		}
		if id := a.header.Get("X-Request-Id"); id != "mine" || h.lastID.Load() != "mine" || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("request id %q, the service has %v; headers %v", id, h.lastID.Load(), a.header)
		}
	}
	if a := post(t, at, "id=x", "Content-Type", typeForm); decode[receipt](t, a).Order.ID != "x" {
		t.Errorf("a form: %d %s", a.status, a.body)
	}
	if a := post(t, at, ""); a.status != http.StatusOK {
		t.Errorf("no body: %d %s", a.status, a.body)
	}
	if a := post(t, at, asJSON, "Accept", "text/html"); a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		t.Errorf("for a browser: %d %s", a.status, a.body)
	}
}

// The version and the instance are chosen by the query or by headers.
func TestCallChooses(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.shop(t, "1.0.0", "one")
	h.shop(t, "1.0.0", "uno")
	h.shop(t, "2.0.0-rc.1+b", "two")
	off := h.shop(t, "3.0.0", "three")
	if err := off.SetRegistered(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	at := h.listen(t, gateway.Config{}) + "/v1/call/shop/put"
	for _, test := range []struct {
		query   string
		headers []string
		by      string // empty means any of version 1.0.0
		status  int
	}{
		{"?version=1.0.0", nil, "", 200},
		{"", []string{"Skybus-Version", "1.0.0"}, "", 200},
		{"?version=2.0.0-rc.1%2Bb", nil, "two", 200},
		{"?version=2.0.0-rc.1%2Bb", []string{"Skybus-Version", "2.0.0-rc.1+b"}, "two", 200},
		{"?instance=one", nil, "one", 200},
		{"", []string{"Skybus-Instance", "uno"}, "uno", 200},
		{"?instance=three", nil, "three", 200}, // takes what is sent to it by name
		{"?instance=one&version=1.0.0", nil, "one", 200},
		{"?version=9.0.0", nil, "", 503},
		{"?instance=nobody", nil, "", 503},
		{"?instance=one&version=2.0.0-rc.1%2Bb", nil, "", 503},
		{"?version=1.0", nil, "", 400},
		{"?version=*", nil, "", 400},
		{"?instance=a.b", nil, "", 400},
		{"?instance=>", nil, "", 400},
		{"?instance=" + strings.Repeat("x", 65), nil, "", 400},
		{"?version=1.0.0&version=2.0.0", nil, "", 400},
		{"?instance=one", []string{"Skybus-Instance", "uno"}, "", 400},
		{"", []string{"Skybus-Instance", "one", "Skybus-Instance", "uno"}, "", 400},
		{"?vresion=1.0.0", nil, "", 400},
		{"?version=%zz", nil, "", 400},
		{"?a;b", nil, "", 400},
	} {
		a := post(t, at+test.query, `{}`, test.headers...)
		if a.status != test.status {
			t.Errorf("%s %q: %d %s, want %d", test.query, test.headers, a.status, a.body, test.status)
			continue
		}
		if a.status != http.StatusOK {
			if a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "1" {
				t.Errorf("%s: headers %v", test.query, a.header)
			}
			continue
		}
		if r := decode[receipt](t, a); test.by != "" && r.By != test.by || test.by == "" && r.Version != "1.0.0" {
			t.Errorf("%s %q: answered by %s %s", test.query, test.headers, r.By, r.Version)
		}
	}
}

// Nobody outside can tell an internal endpoint from one that is not there. On the bus it is called as any other.
func TestCallInternal(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.shop(t, "1.0.0", "one")
	at := h.listen(t, gateway.Config{})
	want := post(t, at+"/v1/call/shop/nothing", "{}", "X-Request-Id", "x").body
	for _, query := range []string{"", "?version=1.0.0", "?instance=one"} {
		a := post(t, at+"/v1/call/shop/purge"+query, "{}", "X-Request-Id", "x")
		if a.status != http.StatusNotFound || strings.ReplaceAll(a.body, "purge", "nothing") != want {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
	if h.calls.Load() != 0 {
		t.Error("it was called")
	}
	if _, err := micro.Call[receipt](t.Context(), h.client, "shop.purge", order{}); err != nil {
		t.Error(err)
	}
	if a := post(t, at+"/v1/call/shop/tail", "{}"); a.status != http.StatusNotImplemented {
		t.Errorf("a stream: %d %s", a.status, a.body)
	}
}

func TestCallFails(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.shop(t, "1.0.0", "one")
	at := h.listen(t, gateway.Config{Timeout: 2 * time.Second})
	for _, test := range []struct {
		path, body string
		status     int
		code       bus.Code
	}{
		{"app/fail", `{"code":"not_found","message":"no"}`, 404, bus.NotFound},
		{"app/fail", `{"code":"resource_exhausted","message":"no"}`, 429, bus.ResourceExhausted},
		{"app/fail", `{"code":"invalid_argument","message":"no","status":422}`, 422, bus.InvalidArgument},
		{"app/wait", `{}`, 504, bus.DeadlineExceeded},
		{"shop/put", `{"id":7}`, 400, bus.InvalidArgument},
		{"shop/put", `{"number":1e400}`, 400, bus.InvalidArgument},
		{"shop/put", `{"number":9223372036854775808}`, 400, bus.InvalidArgument},
		{"shop/put", `[]`, 400, bus.InvalidArgument},
		{"nobody/get", `{}`, 503, bus.Unavailable},
		{"shop/nothing", `{}`, 404, bus.NotFound},
		{"", `{}`, 400, bus.InvalidArgument},
		{"shop", `{}`, 400, bus.InvalidArgument},
		{"shop/", `{}`, 400, bus.InvalidArgument},
		{"/put", `{}`, 400, bus.InvalidArgument},
		{"shop/put/", `{}`, 400, bus.InvalidArgument},
		{"shop/put/more", `{}`, 400, bus.InvalidArgument},
		{"shop.put", `{}`, 400, bus.InvalidArgument},
		{"shop/p.ut", `{}`, 400, bus.InvalidArgument},
		{"shop/%70ut", `{}`, 400, bus.InvalidArgument},
		{"shop%2fput", `{}`, 400, bus.InvalidArgument},
		{"*/put", `{}`, 400, bus.InvalidArgument},
		{"shop/>", `{}`, 400, bus.InvalidArgument},
		{strings.Repeat("x", 5000) + "/put", `{}`, 400, bus.InvalidArgument},
		{"shop/" + strings.Repeat("x", 5000), `{}`, 400, bus.InvalidArgument},
	} {
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		u.Opaque = "//" + u.Host + "/v1/call/" + test.path // as it is
		req := &http.Request{Method: http.MethodPost, URL: u, Host: u.Host, Header: http.Header{}, Body: http.NoBody}
		req = req.WithContext(t.Context())
		a := post2(t, req, test.body)
		if p := a.problem(t); a.status != test.status || p.Code != test.code || len(a.body) > 1000 {
			t.Errorf("%.40s %s: %d %s, want %d", test.path, test.body, a.status, a.body, test.status)
		}
	}
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		if a := send(t, method, at+"/v1/call/shop/put", "{}"); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "POST" {
			t.Errorf("%s: %d %v", method, a.status, a.header)
		}
	}
	if a := post(t, at+"/v1/call/shop/put", "{}", "Sec-Fetch-Site", "cross-site"); a.status != http.StatusForbidden {
		t.Errorf("another site's page: %d %s", a.status, a.body)
	}
	if h.calls.Load() != 0 {
		t.Errorf("shop was called %d times", h.calls.Load())
	}
	if s := h.conn.NATS().Stats(); s.Reconnects != 0 || !h.conn.NATS().IsConnected() {
		t.Error("the connection was lost")
	}
}

// post2 sends a request whose address is as it is, with a body.
func post2(t testing.TB, req *http.Request, body string) answer {
	t.Helper()
	req.Body, req.ContentLength = http.NoBody, 0
	if body != "" {
		r, err := http.NewRequestWithContext(req.Context(), req.Method, "http://unused", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Body, req.ContentLength = r.Body, r.ContentLength
	}
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, resp)
}

// Services of other libraries are called too, unless they say that an endpoint is internal.
func TestCallForeign(t *testing.T) {
	t.Parallel()
	h := build(t)
	svc, err := natsmicro.AddService(h.conn.NATS(), natsmicro.Config{Name: "sums", Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Stop() }) // with the connection
	for _, err := range []error{
		svc.AddEndpoint("echo", natsmicro.HandlerFunc(func(r natsmicro.Request) { _ = r.Respond(r.Data()) }), natsmicro.WithEndpointSubject("sums.echo")),
		svc.AddEndpoint("text", natsmicro.HandlerFunc(func(r natsmicro.Request) { _ = r.Respond([]byte("<b>hi</b>")) }), natsmicro.WithEndpointSubject("sums.text")),
		svc.AddEndpoint("purge", natsmicro.HandlerFunc(func(r natsmicro.Request) { _ = r.Respond(nil) }), natsmicro.WithEndpointSubject("sums.purge"),
			natsmicro.WithEndpointMetadata(map[string]string{micro.MetadataInternal: "true"})),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	at := h.listen(t, gateway.Config{})
	bustest.Eventually(t, "the service", func() bool { return post(t, at+"/v1/call/sums/echo", `{}`).status == http.StatusOK })
	if a := post(t, at+"/v1/call/sums/echo", `{"a":[1]}`); a.body != `{"a":[1]}` || a.header.Get("Content-Type") != typeJSON {
		t.Errorf("%d %s %v", a.status, a.body, a.header)
	}
	if a := post(t, at+"/v1/call/sums/echo", encode(t, map[string]int{"a": 1}), "Content-Type", typeMsgpack); a.body != encode(t, map[string]int{"a": 1}) || a.header.Get("Content-Type") != typeMsgpack {
		t.Errorf("%d %s %v", a.status, a.body, a.header)
	}
	if a := post(t, at+"/v1/call/sums/text", `{}`); a.body != "<b>hi</b>" || a.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%d %s %v", a.status, a.body, a.header)
	}
	for _, endpoint := range []string{"purge", "none"} {
		if a := post(t, at+"/v1/call/sums/"+endpoint, `{}`); a.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", endpoint, a.status, a.body)
		}
	}
}

func TestCallOff(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.shop(t, "1.0.0", "one")
	at := h.listen(t, gateway.Config{Call: gateway.CallConfig{Off: true}})
	if a := post(t, at+"/v1/call/shop/put", "{}"); a.status != http.StatusBadRequest || h.calls.Load() != 0 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := send(t, "GET", at+"/v1/services", ""); a.status != http.StatusNotFound {
		t.Errorf("services: %d %s", a.status, a.body)
	}
	if a := send(t, "GET", at+"/v1/openapi.json", ""); strings.Contains(a.body, "/v1/call") || !strings.Contains(a.body, `"/echo"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := post(t, at+"/echo", "{}"); a.status != http.StatusOK {
		t.Errorf("a route: %d %s", a.status, a.body)
	}
}

// What tells of endpoints, and the endpoints, are for who may call; the page is for everybody, and asks for a credential.
func TestCallAuth(t *testing.T) {
	t.Parallel()
	s, key := guarded(t, gateway.Config{Call: gateway.CallConfig{Auth: &auth.Policy{Scopes: []string{"call"}}}}, nil)
	s.shop(t, "1.0.0", "one")
	may, mayNot := key("call"), key("other")
	for _, what := range []struct{ method, path string }{
		{"POST", "/v1/call/shop/put"}, {"POST", "/v1/call/shop/purge"}, {"POST", "/v1/call/nobody/get"}, {"GET", "/v1/services"}, {"GET", "/v1/services?service=x"}, {"GET", "/v1/openapi.json"},
	} {
		if a := send(t, what.method, s.at+what.path, "{}"); a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%v: %d %s", what, a.status, a.body)
		}
		if a := send(t, what.method, s.at+what.path, "{}", "X-Api-Key", mayNot); a.status != http.StatusForbidden {
			t.Errorf("%v: %d %s", what, a.status, a.body)
		}
	}
	if s.calls.Load() != 0 {
		t.Error("it was called")
	}
	for _, what := range []struct{ method, path string }{{"POST", "/v1/call/shop/put"}, {"GET", "/v1/services"}, {"GET", "/v1/openapi.json"}, {"GET", "/v1/docs"}} {
		if a := send(t, what.method, s.at+what.path, "{}", "Authorization", "Bearer "+may); a.status != http.StatusOK {
			t.Errorf("%v: %d %s", what, a.status, a.body)
		}
	}
	for _, path := range []string{"/v1/docs", "/v1/docs/docs.js"} {
		if a := send(t, "GET", s.at+path, ""); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if a := post(t, s.at+"/echo", "{}", "X-Api-Key", mayNot); a.status != http.StatusOK {
		t.Errorf("a route: %d %s", a.status, a.body)
	}
	// The service is told who it is.
	if a := post(t, s.at+"/v1/call/app/seen", "{}", "X-Api-Key", may, "X-User", "root"); a.status != http.StatusOK || strings.Contains(a.body, "root") || !strings.Contains(a.body, "X-User") || strings.Contains(a.body, may) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// Calls may be for everybody where all else is not, but ask for nothing that nobody can give.
func TestCallAnonymous(t *testing.T) {
	t.Parallel()
	s, _ := guarded(t, gateway.Config{Call: gateway.CallConfig{Auth: &auth.Policy{Anonymous: true}}}, nil)
	if a := post(t, s.at+"/v1/call/app/echo", "{}"); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := post(t, s.at+"/echo", "{}"); a.status != http.StatusUnauthorized {
		t.Errorf("a route: %d %s", a.status, a.body)
	}
	if _, err := gateway.New(s.runner, gateway.Config{Call: gateway.CallConfig{Auth: &auth.Policy{}}}); err == nil {
		t.Error("a policy without a guard is taken")
	}
	if _, err := gateway.New(s.runner, gateway.Config{Call: gateway.CallConfig{Auth: &auth.Policy{Anonymous: true, Scopes: []string{"x"}}}}); err == nil {
		t.Error("a policy that makes no sense is taken")
	}
}
