package http_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/kv"
)

// A put is live in every gateway soon, and so is a removal. The bound is generous for machines with much to do; the figure is printed.
func TestLiveLatency(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, nil)
	gates := []*gateway.Gateway{s.gate, h.follow(t, gateway.Config{}), h.follow(t, gateway.Config{})}
	const puts = 200
	var took []time.Duration
	for i := range puts {
		e := parse(t, fmt.Sprintf(`{"path":"/e%d/{id}","call":"app.echo"}`, i))
		begin := time.Now()
		if _, err := s.store.Put(t.Context(), fmt.Sprintf("e%d", i), e, 0); err != nil {
			t.Fatal(err)
		}
		stored := time.Now()
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("/e%d/7", i), nil)
		for _, g := range gates {
			bustest.Eventually(t, "the entry", func() bool {
				w := httptest.NewRecorder()
				g.ServeHTTP(w, req.Clone(t.Context()))
				return w.Code == http.StatusOK
			})
		}
		took = append(took, time.Since(stored))
		_ = begin
	}
	slices.Sort(took)
	p50, p99 := took[puts/2], took[puts*99/100]
	t.Logf("live in 3 gateways after it was stored: p50 %v, p99 %v, max %v of %d puts", p50, p99, took[puts-1], puts)
	if p99 > 2*time.Second {
		t.Errorf("p99 %v", p99)
	}
	gone, err := s.store.Delete(t.Context(), "e7", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range gates {
		bustest.Eventually(t, "the removal", func() bool { return g.Revision() >= gone })
		w := httptest.NewRecorder()
		g.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/e7/7", nil))
		if w.Code != http.StatusNotFound {
			t.Errorf("after its removal: %d", w.Code)
		}
	}
}

// A request in flight finishes by the entry that it began with.
func TestEditInFlight(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{"w": `{"method":"POST","path":"/w","call":"app.wait","statuses":{"ok":202}}`})
	answers := make(chan answer, 1)
	go func() { answers <- post(t, s.at+"/w", `{"a":1}`) }()
	bustest.Eventually(t, "the request", func() bool { return h.waiting.Load() == 1 })
	s.put(t, "w", `{"method":"POST","path":"/w","call":"app.echo"}`)
	if a := post(t, s.at+"/w", `{"b":1}`); a.status != 200 || a.body != `{"b":1}` {
		t.Errorf("the next: %d %s", a.status, a.body)
	}
	h.release()
	if a := bustest.Receive(t, "the first", answers); a.status != 202 || a.body != `{"a":1}` {
		t.Errorf("the first: %d %s", a.status, a.body)
	}
}

// Entries come before routes by their name and before pages, and after what the mux has.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	h := build(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/timer", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "mux") })
	s := h.open(t, gateway.Config{Mux: mux}, map[string]string{
		"timer": `{"path":"/timer","call":"app.echo"}`, "echo": `{"method":"POST","path":"/fail","call":"app.echo"}`, "home": `{"method":"GET","path":"/own/{$}","call":"app.echo"}`,
		"host": `{"host":"a.example","path":"/fail","call":"app.nothing"}`,
	})
	for _, tt := range []struct {
		method, path, host string
		status             int
		body               string
	}{
		{"POST", "/timer", "", 200, "mux"},
		{"POST", "/fail", "", 200, `{"code":"internal"}`}, // not the route
		{"POST", "/echo", "", 200, `{"code":"internal"}`}, // the route
		{"POST", "/fail", "A.Example:80", 200, `{}`},      // the host's
		{"POST", "/fail", "b.example", 200, `{"code"`},    // any other
		{"GET", "/", "", 200, "skybus gateway"},           // the page
		{"GET", "/own/", "", 200, `{}`},
		{"GET", "/own", "", 307, ""},
		{"GET", "/fail", "", 405, ""},
		{"GET", "/a/b", "", 404, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, s.at+tt.path, strings.NewReader(`{"code":"internal"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = tt.host
		resp, err := client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if a := read(t, resp); a.status != tt.status || !strings.Contains(a.body, tt.body) {
			t.Errorf("%s %s of %q: %d %s, want %d %s", tt.method, tt.path, tt.host, a.status, a.body, tt.status, tt.body)
		}
	}
}

// Wait returns when every gateway serves a revision, names those that do not, and forgets those that are gone.
func TestWait(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, nil)
	other := h.follow(t, gateway.Config{})
	revision := s.put(t, "a", `{"path":"/a","call":"app.echo"}`)
	h.raw(t, "bad", "x")
	all, err := gateway.Wait(t.Context(), h.conn, revision+1)
	if err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	for _, r := range all {
		if r.Revision < revision+1 || r.Entries != 1 || r.Refused["bad"] == "" || r.PID == 0 {
			t.Errorf("%+v", r)
		}
	}
	// One that is behind: it lives, and says that it knows less.
	reports, err := kv.Open[gateway.Report](t.Context(), h.conn, gateway.GatewaysBucket, kv.Config{Bind: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reports.Put(t.Context(), h.conn.Namespace().Key("late"), gateway.Report{ID: "late", Host: "far", PID: 7, Revision: revision - 1}, kv.TTL(time.Minute)); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = gateway.Wait(short, h.conn, revision)
	if bus.CodeOf(err) != bus.DeadlineExceeded || !strings.Contains(err.Error(), "late (far, process 7)") || strings.Count(err.Error(), "process") != 1 {
		t.Errorf("error %v, want one that names the late one", err)
	}
	// It catches up.
	waited := make(chan error, 1)
	go func() {
		_, err := gateway.Wait(context.WithoutCancel(t.Context()), h.conn, revision)
		waited <- err
	}()
	if _, err := reports.Put(t.Context(), h.conn.Namespace().Key("late"), gateway.Report{ID: "late", Revision: revision}, kv.TTL(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := bustest.Receive(t, "the wait", waited); err != nil {
		t.Error(err)
	}
	// One that is closed says so.
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if all, err := gateway.Gateways(t.Context(), h.conn); err != nil || len(all) != 2 {
		t.Errorf("%v, %v", all, err)
	}
}

// A removal can be waited for, also at a gateway that was started after it.
func TestWaitForRemoval(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{"a": `{"path":"/a","call":"app.echo"}`})
	gone, err := s.store.Delete(t.Context(), "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	h.follow(t, gateway.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if all, err := gateway.Wait(ctx, h.conn, gone); err != nil || len(all) != 2 {
		t.Errorf("%v, %v", all, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	h := build(t)
	if _, err := gateway.Open(t.Context(), initiators.Sources{}, gateway.Config{}); bus.CodeOf(err) != bus.InvalidArgument {
		t.Errorf("no client: %v", err)
	}
	src := initiators.Sources{Client: h.client, Runner: h.runner}
	for name, cfg := range map[string]gateway.Config{"Listeners": {Listeners: []string{"a b"}}, "MaxConns": {MaxConns: -1}} {
		if _, err := gateway.Open(t.Context(), src, cfg); bus.CodeOf(err) != bus.InvalidArgument || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Entries are at the listener that they name, and nothing else is there.
func TestListeners(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{Listeners: []string{"inner"}}, map[string]string{
		"first": `{"path":"/first","call":"app.echo"}`, "inner": `{"path":"/inner","listener":"inner","call":"app.echo"}`,
		"both": `{"path":"/both","listener":"*","call":"app.echo"}`, "same": `{"path":"/first","listener":"inner","call":"app.nothing"}`,
	})
	inner := httptest.NewServer(s.gate.Handler("inner"))
	t.Cleanup(inner.Close)
	for path, want := range map[string][2]int{"/first": {200, 200}, "/inner": {404, 200}, "/both": {200, 200}, "/echo": {405, 404}, "/": {200, 404}} {
		for i, at := range []string{s.at, inner.URL} {
			if a := send(t, "GET", at+path, ""); a.status != want[i] {
				t.Errorf("%s at listener %d: %d %s, want %d", path, i, a.status, a.body, want[i])
			}
		}
	}
	if a := post(t, inner.URL+"/echo", "{}"); a.status != 404 {
		t.Errorf("a route at the inner one: %d", a.status)
	}
	if _, err := s.store.Put(t.Context(), "clash", parse(t, `{"path":"/inner","listener":"*","call":"app.echo"}`), 0); bus.CodeOf(err) != bus.FailedPrecondition {
		t.Errorf("at all listeners: %v", err)
	}
}

// Explain tells what the gateway does.
func TestExplain(t *testing.T) {
	t.Parallel()
	x := explain(t, "GET", "/orders/7?a=1", "", "")
	if x.Entry != "order" || x.Parameters["id"] != "7" || x.Request == nil || string(x.Request.Body) != `{"a":"1","id":"7"}` || time.Duration(x.Timeout).Round(time.Second) != 3*time.Second || x.Target != "call orders.get" {
		t.Errorf("%+v, %s", x, x.Request.Body)
	}
	whys := map[string]string{}
	for _, o := range x.Others {
		whys[o.Name] = o.Why
	}
	for name, says := range map[string]string{
		"any": "less specific than order", "made": "for PUT", "host": "for the host a.example", "clash": `conflicts with entry "order"`, "inner": "at the listener inner",
	} {
		if !strings.Contains(whys[name], says) {
			t.Errorf("%s: %q, want %q", name, whys[name], says)
		}
	}
	if x := explain(t, "PUT", "/orders/7?n=5", `{"a":1}`, "", "X-A", "v"); x.Entry != "made" || string(x.Request.Body) != `{"a":1,"id":"7","n":5}` || x.Request.Header.Get("X-B") != "7" || x.Request.Header.Get("X-A") != "v" {
		t.Errorf("%+v", x)
	}
	if x := explain(t, "PUT", "/orders/7?n=five", `{"a":1}`, ""); x.Request != nil || x.Status != 400 || !strings.Contains(x.Problem, "query.n") {
		t.Errorf("%+v", x)
	}
	if x := explain(t, "GET", "/orders/7", "", "inner"); x.Entry != "inner" {
		t.Errorf("%+v", x)
	}
	if x := explain(t, "POST", "/getwidgets", "{}", ""); x.Entry != "" || x.Route != "getwidgets" || len(x.Others) != 6 {
		t.Errorf("%+v", x)
	}
	if x := explain(t, "GET", "/orders//7", "", ""); x.Status != 400 {
		t.Errorf("%+v", x)
	}
	if x := explain(t, "GET", "/nowhere/x", "", ""); x.Status != 404 {
		t.Errorf("%+v", x)
	}
	if x := explain(t, "GET", "/orders/7", "", "", "Accept", "image/png"); x.Status != 406 || x.Entry != "order" || x.Request != nil {
		t.Errorf("%+v", x)
	}
	if x := explain(t, "PUT", "/orders/7?n=5", "\x81\xa1a\x01", "", "Content-Type", typeMsgpack); string(x.Request.Body) != `{"a":1,"id":"7","n":5}` {
		t.Errorf("%+v", x)
	}
	if x := explain(t, "POST", "/orders/7/x", "\x81\xa1a\x01", "", "Content-Type", typeMsgpack); x.Request == nil || !bytes.Contains(x.Request.Body, []byte("rest")) {
		t.Errorf("%+v", x)
	}
}

// Entries whose answers are kept, come later or are events are explained as others are, and what is the gateway's own is told as that.
func TestExplainFeatures(t *testing.T) {
	t.Parallel()
	var all []gateway.Stored
	for i, e := range [][2]string{
		{"once", `{"method":"POST","host":"a.example","path":"/once","call":"orders.put","idempotency":{"required":true}}`},
		{"later", `{"method":"POST","host":"a.example","path":"/later","call":"orders.put","async":{"always":true}}`},
		{"heard", `{"method":"GET","host":"a.example","path":"/heard/{id}","events":{"subject":"default.dev.pub.{path.id}"}}`},
		{"called", `{"method":"GET","host":"a.example","path":"/called/{id}","events":{"call":"orders.watch"}}`},
		{"all", `{"host":"a.example","path":"/{rest...}","call":"orders.any"}`},
	} {
		all = append(all, gateway.Stored{Name: e[0], Entry: parse(t, e[1]), Revision: uint64(i + 1)})
	}
	for what, want := range map[string]struct{ entry, body string }{
		"POST /once": {"once", `{"a":1}`}, "POST /later": {"later", `{"a":1}`}, "GET /heard/7": {"heard", ""}, "GET /called/7": {"called", `{"id":"7"}`},
		"POST /v1/call/a/b": {}, "GET /v1/services": {}, "GET /v1/openapi.json": {}, "GET /v1/docs": {}, "GET /v1/requests/x": {}, "POST /v1/other": {"all", `{"a":1,"rest":"v1/other"}`},
	} {
		method, path, _ := strings.Cut(what, " ")
		r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(`{"a":1}`))
		r.Host = "A.example"
		if method == "GET" {
			r.Header.Set("Accept", "text/event-stream")
		}
		x := gateway.Explain(all, r, "")
		body := ""
		if x.Request != nil {
			body = string(x.Request.Body)
		}
		if x.Entry != want.entry || body != want.body || x.Own != (want.entry == "") || x.Problem != "" {
			t.Errorf("%s: %+v, sent %s", what, x, body)
		}
	}
}

// explain is what a gateway with some entries would do with a request.
func explain(t testing.TB, method, url, body, listener string, headers ...string) gateway.Explanation {
	t.Helper()
	var all []gateway.Stored
	for i, e := range [][2]string{
		{"order", `{"method":"GET","path":"/orders/{id}","call":"orders.get","timeout":"3s"}`},
		{"any", `{"path":"/orders/{rest...}","route":"any"}`},
		{"made", `{"method":"PUT","path":"/orders/{id}","call":"orders.put","headers":{"forward":["X-A"]},"request":{"fields":{"n":"{query.n|int}"},"header":{"X-B":"{path.id}"}}}`},
		{"host", `{"method":"GET","host":"a.example","path":"/orders/{id}","call":"orders.get"}`},
		{"clash", `{"method":"GET","path":"/orders/{n}","call":"orders.get"}`},
		{"inner", `{"path":"/orders/{id}","listener":"inner","call":"orders.get"}`},
	} {
		all = append(all, gateway.Stored{Name: e[0], Entry: parse(t, e[1]), Revision: uint64(i + 1)})
	}
	r := httptest.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	r.Header.Set("X-Request-Id", "r1")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return gateway.Explain(all, r, listener)
}
