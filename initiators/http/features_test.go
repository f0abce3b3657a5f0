package http_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus/bustest"
	gateway "github.com/skybus-io/skybus/initiators/http"
)

// serveAnother is a second gateway with the same entries.
func (h *house) serveAnother(t testing.TB) string {
	t.Helper()
	srv := httptest.NewServer(h.follow(t, gateway.Config{}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// An entry with keys does a write once, at any gateway, and gives its target a key.
func TestEntryIdempotency(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{
		"pay":  `{"method":"POST","path":"/pay/{id}","call":"app.echo","idempotency":{"ttl":"1h","required":true,"max_answer":"1KiB"},"statuses":{"ok":201}}`,
		"fail": `{"method":"POST","path":"/fail","call":"app.fail","idempotency":{},"statuses":{"aborted":418}}`,
	})
	other := h.serveAnother(t)
	first := post(t, s.at+"/pay/7?a=1", `{"n":1}`, "Idempotency-Key", "k", "X-Request-Id", "one")
	again := post(t, other+"/pay/7?a=1", `{"n":1}`, "Idempotency-Key", "k", "X-Request-Id", "two")
	if first.status != 201 || first.body != `{"a":"1","id":"7","n":1}` || first.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("first %d %s %v", first.status, first.body, first.header)
	}
	if again.status != 201 || again.body != first.body || again.header.Get("Idempotency-Replayed") != "true" || again.header.Get("X-Request-Id") != "two" ||
		again.header.Get("Content-Type") != typeJSON {
		t.Errorf("again %d %s %v", again.status, again.body, again.header)
	}
	if n := h.calls.Load(); n != 1 {
		t.Errorf("%d calls", n)
	}
	for name, tt := range map[string]struct {
		path, body string
		headers    []string
		status     int
	}{
		"no key":       {"/pay/7", "{}", nil, 400},
		"another body": {"/pay/7?a=1", `{"n":2}`, []string{"Idempotency-Key", "k"}, 422},
		"large body":   {"/pay/7", `"` + strings.Repeat("x", 2<<20) + `"`, []string{"Idempotency-Key", "l"}, 413},
		"bad body":     {"/pay/7", `{`, []string{"Idempotency-Key", "b"}, 400},
	} {
		if a := post(t, s.at+tt.path, tt.body, tt.headers...); a.status != tt.status || a.problem(t).RequestID == "" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	failure := `{"code":"aborted","message":"no","details":{"a":"b"}}`
	for i, replayed := range []string{"", "true"} {
		a := post(t, s.at+"/fail", failure, "Idempotency-Key", "k")
		if a.status != 418 || a.header.Get("Content-Type") != typeProblem || a.problem(t).Details["a"] != "b" || a.header.Get("Idempotency-Replayed") != replayed {
			t.Errorf("error %d: %d %s %v", i, a.status, a.body, a.header)
		}
	}
}

// A client that goes does not end a request with a key.
func TestEntryIdempotencyClientGone(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{"slow": `{"method":"POST","path":"/slow","call":"app.wait","idempotency":{}}`})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.at+"/slow", strings.NewReader(`{"s":1}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", "k")
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if resp, err := client(t).Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
	bustest.Eventually(t, "the request", func() bool { return h.waiting.Load() == 1 })
	cancel()
	bustest.Receive(t, "the end of the request", gone)
	h.release()
	if a := post(t, h.serveAnother(t)+"/slow", `{"s":1}`, "Idempotency-Key", "k"); a.status != 200 || a.body != `{"s":1}` || a.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%d %s %v", a.status, a.body, a.header)
	}
}

// The key reaches what the target of an entry is.
func TestEntryKeyOfTarget(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{
		"pub":   `{"method":"POST","path":"/pub","publish":"default.dev.pub.a","idempotency":{}}`,
		"other": `{"method":"POST","path":"/other","publish":"default.dev.pub.a","idempotency":{}}`,
		"later": `{"method":"POST","path":"/later","publish":"default.dev.pub.a","idempotency":{},"async":{}}`,
	})
	heard := make(chan *nats.Msg, 10)
	if _, err := h.conn.NATS().ChanSubscribe("default.dev.pub.a", heard); err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for _, path := range []string{"/pub", "/pub", "/other", "/later", "/later"} {
		if a := post(t, s.at+path, `{}`, "Idempotency-Key", "k", "Prefer", "respond-async"); a.status != 200 && a.status != 202 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	for range 3 {
		m := bustest.Receive(t, "a message", heard)
		keys[m.Header.Get(nats.MsgIdHdr)] = true
	}
	if len(keys) != 3 || keys[""] || keys["k"] {
		t.Errorf("keys %v", keys)
	}
}

// What is answered later is answered as it would have been, by whichever gateway.
func TestEntryAsync(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{
		"report": `{"method":"POST","path":"/reports/{id}","call":"app.wait","timeout":"100ms","async":{"keep":"1h","timeout":"1m"},"idempotency":{},
			"request":{"fields":{"id":"{path.id}","q":"{query.q}","h":"{header.X-A}"}},"statuses":{"ok":201},"templates":{"text/csv":"{{.Response.id}};{{.Response.h}}"}}`,
		"fail": `{"method":"POST","path":"/fail","call":"app.fail","async":{"always":true}}`,
	})
	other := h.serveAnother(t)
	ask := func() answer {
		return post(t, s.at+"/reports/7?q=x", "n=1", "Content-Type", typeForm, "X-A", "v", "Accept", "text/csv", "Prefer", "respond-async", "Idempotency-Key", "k")
	}
	a := ask()
	location := a.header.Get("Location")
	if a.status != http.StatusAccepted || !strings.HasPrefix(location, "/v1/requests/") || a.header.Get("Preference-Applied") != "respond-async" || a.header.Get("X-Request-Id") == "" {
		t.Fatalf("%d %s %v", a.status, a.body, a.header)
	}
	if again := ask(); again.status != http.StatusAccepted || again.header.Get("Location") != location || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("again: %d %s %v", again.status, again.body, again.header)
	}
	type state struct {
		State  string `json:"state"`
		Answer struct {
			Status int             `json:"status"`
			Type   string          `json:"type"`
			Body   json.RawMessage `json:"body"`
		} `json:"answer"`
	}
	look := func(location string) (st state) {
		a := send(t, http.MethodGet, other+location, "")
		if a.status != 200 || json.Unmarshal([]byte(a.body), &st) != nil {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return st
	}
	if st := look(location); st.State != "pending" {
		t.Errorf("%+v", st)
	}
	time.AfterFunc(300*time.Millisecond, h.release) // longer than the time of who waits
	bustest.Eventually(t, "the answer", func() bool { return look(location).State != "pending" })
	if st := look(location); st.State != "done" || st.Answer.Status != 201 || st.Answer.Type != "text/csv; charset=utf-8" || string(st.Answer.Body) != `"7;v"` {
		t.Errorf("%+v %s", st, st.Answer.Body)
	}
	if raw := send(t, http.MethodGet, s.at+location+"/answer", ""); raw.status != 201 || raw.body != "7;v" {
		t.Errorf("%d %s", raw.status, raw.body)
	}
	failed := post(t, s.at+"/fail", `{"code":"not_found","message":"no"}`).header.Get("Location")
	bustest.Eventually(t, "the error", func() bool { return look(failed).State != "pending" })
	if st := look(failed); st.State != "failed" || st.Answer.Status != 404 || st.Answer.Type != typeProblem {
		t.Errorf("%+v", st)
	}
	if a := post(t, s.at+location, ""); a.status != 405 || a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %v", a.status, a.header)
	}
	if a := send(t, http.MethodGet, s.at+"/v1/requests/nothing", ""); a.status != 404 || a.problem(t).Status != 404 {
		t.Errorf("nothing: %d %s", a.status, a.body)
	}
}

// An entry with events holds none of the places of requests, and is live as others are.
func TestEntryEvents(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{MaxInFlight: 1}, map[string]string{
		"events": `{"method":"GET","path":"/events/{id}","events":{"subject":"default.dev.pub.{path.id}.>","name":"subject","heartbeat":"5s"}}`,
		"secret": `{"method":"GET","path":"/secret","events":{"subject":"default.dev.svc.>"}}`,
		"echo":   `{"method":"POST","path":"/e","call":"app.echo"}`,
	})
	if err := s.gate.Refused()["secret"]; err == nil || !strings.Contains(err.Error(), "default.dev.pub.") {
		t.Errorf("events of services: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var streams []*bufio.Reader
	for range 3 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.at+"/events/7", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/event-stream")
		resp, err := client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("X-Request-Id") == "" {
			t.Fatalf("%s %v", resp.Status, resp.Header)
		}
		streams = append(streams, bufio.NewReader(resp.Body))
	}
	if err := h.conn.NATS().Publish("default.dev.pub.7.paid", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, in := range streams {
		var text strings.Builder
		for !strings.HasSuffix(text.String(), "data: x\n\n") {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("%q, %v", text.String(), err)
			}
			text.WriteString(line)
		}
		if text.String() != "retry: 2000\n\nevent: paid\ndata: x\n\n" {
			t.Errorf("%q", text.String())
		}
	}
	if a := post(t, s.at+"/e", `{}`); a.status != 200 {
		t.Errorf("another request: %d %s", a.status, a.body)
	}
	var figures strings.Builder
	if err := s.gate.WriteMetrics(&figures); err != nil || !strings.Contains(figures.String(), "\nskybus_http_event_subscribers 3\n") ||
		!strings.Contains(figures.String(), "\nskybus_http_events_total 3\n") || !strings.Contains(figures.String(), `skybus_http_kept_total{what="replayed"} 0`) {
		t.Errorf("figures %s, %v", figures.String(), err)
	}
	if a := send(t, http.MethodGet, s.at+"/events/*", ""); a.status != 400 {
		t.Errorf("a wildcard: %d %s", a.status, a.body)
	}
	if a := send(t, http.MethodGet, s.at+"/events/7", "", "Accept", typeJSON); a.status != 406 {
		t.Errorf("as JSON: %d %s", a.status, a.body)
	}
}

func TestEntryNamesTarget(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"path":"/a","call":"a.b"}`:                            "call a.b",
		`{"path":"/a","events":{"call":"a.b"}}`:                 "events of call a.b",
		`{"path":"/a","events":{"subject":"a.>"}}`:              "events of a.>",
		`{"path":"/a","events":{"subject":"a.>","stream":"S"}}`: "events of stream S a.>",
	} {
		if got := parse(t, text).String(); got != want {
			t.Errorf("%s sends to %q, want %q", text, got, want)
		}
	}
}

func TestFeatureFields(t *testing.T) {
	t.Parallel()
	for field, text := range map[string]string{
		"":                   `{"path":"/a","events":{"call":"app.watch"},"request":{"body":"none","fields":{"id":"{query.id}"}}}`,
		"events":             `{"path":"/a","call":"a.b","events":{"subject":"a"}}`,
		"events.subject":     `{"path":"/a","events":{}}`,
		"events.heartbeat":   `{"path":"/a","events":{"subject":"a","heartbeat":"1ms"}}`,
		"request":            `{"path":"/a","events":{"subject":"a"},"request":{"body":"none"}}`,
		"request.body":       `{"path":"/a","events":{"call":"a.b"},"request":{"body":"x"}}`,
		"async.keep":         `{"path":"/a","call":"a.b","async":{"keep":"1s"}}`,
		"idempotency.ttl":    `{"path":"/a","call":"a.b","idempotency":{"ttl":"1s"}}`,
		"events with others": `{"path":"/a","events":{"subject":"a"},"async":{}}`,
	} {
		err := parse(t, text).Validate()
		if field == "" && err != nil || field != "" && (err == nil || !strings.HasPrefix(err.Error(), strings.Fields(field)[0]+":")) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// Pages that an entry lets in may read the answer that comes later, too.
func TestEntryAsyncCORS(t *testing.T) {
	t.Parallel()
	const page, evil = "https://app.example.org", "https://evil.example.org"
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{
		"shared": `{"method":"POST","path":"/shared","call":"app.echo","async":{"always":true},"cors":{"origins":["` + page + `"]}}`,
		"own":    `{"method":"POST","path":"/own","call":"app.echo","async":{"always":true}}`,
	})
	for _, tt := range []struct {
		path, origin, allowed string
		preflight             int
	}{{"/shared", page, page, 204}, {"/shared", evil, "", 204}, {"/own", page, "", 405}} {
		a := post(t, s.at+tt.path, "{}")
		if a.status != 202 {
			t.Fatalf("%s: %d %s", tt.path, a.status, a.body)
		}
		location := s.at + a.header.Get("Location")
		if a := send(t, "GET", location, "", "Origin", tt.origin); a.status != 200 || a.header.Get("Access-Control-Allow-Origin") != tt.allowed {
			t.Errorf("%s for %s: %d %q", tt.path, tt.origin, a.status, a.header.Get("Access-Control-Allow-Origin"))
		}
		a = send(t, "OPTIONS", location, "", "Origin", tt.origin, "Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "authorization")
		if a.status != tt.preflight || a.header.Get("Access-Control-Allow-Origin") != tt.allowed {
			t.Errorf("preflight of %s for %s: %d %q", tt.path, tt.origin, a.status, a.header.Get("Access-Control-Allow-Origin"))
		}
	}
	if a := send(t, "OPTIONS", s.at+"/v1/requests/unknown", "", "Origin", page, "Access-Control-Request-Method", "GET"); a.status != 404 {
		t.Errorf("preflight of what there is not: %d", a.status)
	}
}

// A client has so many requests that wait for their answers, at all gateways together; others are not concerned, and what was answered makes room.
func TestEntryAsyncPending(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{TrustedProxies: []string{"127.0.0.0/8"}}, map[string]string{
		"wait":  `{"method":"POST","path":"/wait","call":"app.wait","async":{"always":true,"max_pending":2,"timeout":"1m"},"idempotency":{}}`,
		"other": `{"method":"POST","path":"/other","call":"app.wait","async":{"always":true,"max_pending":2,"timeout":"1m"}}`,
	})
	another := h.serveAnother(t)
	for _, at := range []string{s.at, another} {
		if a := post(t, at+"/wait", "{}"); a.status != 202 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	for _, at := range []string{s.at, another} {
		a := post(t, at+"/wait", "{}", "Idempotency-Key", "k")
		if a.status != 429 || a.header.Get("Retry-After") == "" || a.problem(t).Details["limit"] != "pending" {
			t.Errorf("one too many: %d %v %s", a.status, a.header, a.body)
		}
	}
	for path, fields := range map[string][]string{"/wait": {"X-Forwarded-For", "192.0.2.1"}, "/other": nil} {
		if a := post(t, s.at+path, "{}", fields...); a.status != 202 {
			t.Errorf("%s %v: %d %s", path, fields, a.status, a.body)
		}
	}
	var figures strings.Builder
	if err := s.gate.WriteMetrics(&figures); err != nil || !strings.Contains(figures.String(), "skybus_http_limited_total{limit=\"pending\"} 1\n") {
		t.Errorf("%v: no figure in\n%s", err, figures.String())
	}
	h.release()
	bustest.Eventually(t, "room", func() bool { return post(t, s.at+"/wait", "{}", "Idempotency-Key", "k").status == 202 })
}
