package http_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"

	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/micro"
)

// What is no good request for a typed endpoint, by whatever door it comes, is refused (400) by who can tell, without being handled; what can be
// read in one way only comes there as it was written.
func TestHostileBodies(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.shop(t, "1.0.0", "one")
	at := h.listen(t, gateway.Config{})
	const deep = 100_000
	for name, tt := range map[string]struct {
		contentType, body string
		status            int
		id                string // of the order that is handled
		number            int64
	}{
		"64 bits":            {typeJSON, `{"id":"a","number":-9223372036854775808}`, 200, "a", -9223372036854775808},
		"65 bits":            {typeJSON, `{"number":9223372036854775808}`, 400, "", 0},
		"1e400":              {typeJSON, `{"number":1e400}`, 400, "", 0},
		"1e2":                {typeJSON, `{"number":1e2}`, 400, "", 0},
		"a name twice":       {typeJSON, `{"id":"a","id":"b"}`, 200, "b", 0}, // as encoding/json has it, and nobody before reads it otherwise
		"BOM":                {typeJSON, "\xef\xbb\xbf{}", 400, "", 0},
		"garbage after it":   {typeJSON, `{}]`, 400, "", 0},
		"NUL after it":       {typeJSON, "{}\x00", 400, "", 0},
		"depth":              {typeJSON, strings.Repeat(`{"a":`, deep) + "1" + strings.Repeat("}", deep), 400, "", 0},
		"depth of lists":     {typeJSON, strings.Repeat("[", deep), 400, "", 0},
		"bad UTF-8":          {typeJSON, "{\"id\":\"\xff\"}", 200, "\ufffd", 0},
		"half a surrogate":   {typeJSON, `{"id":"\ud800"}`, 200, "\ufffd", 0},
		"NaN":                {typeJSON, `{"number":NaN}`, 400, "", 0},
		"a comment":          {typeJSON, `{}/**/`, 400, "", 0},
		"UTF-16":             {typeJSON, "\xff\xfe{\x00}\x00", 400, "", 0},
		"a list":             {typeJSON, `[]`, 400, "", 0},
		"array of 2^32":      {typeMsgpack, "\xdd\xff\xff\xff\xff", 400, "", 0},
		"map of 2^32":        {typeMsgpack, "\xdf\xff\xff\xff\xff", 400, "", 0},
		"text of 2^32":       {typeMsgpack, "\x81\xa2id\xdb\xff\xff\xff\xff", 400, "", 0},
		"MessagePack depth":  {typeMsgpack, strings.Repeat("\x91", deep) + "\x01", 400, "", 0},
		"its wrong type":     {typeMsgpack, "\x81\xa6number\xa1x", 400, "", 0},
		"its trailing bytes": {typeMsgpack, "\x80\x80", 400, "", 0},
		"its NaN for a name": {typeMsgpack, "\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01", 400, "", 0},
		"its extension":      {typeMsgpack, "\x81\xa2id\xc7\x01\x05x", 400, "", 0},
		"cut short":          {typeMsgpack, "\x81", 400, "", 0},
		"a form's NUL":       {typeForm, "id=%00", 200, "\x00", 0},
	} {
		t.Run(name, func(t *testing.T) { // not parallel: they count calls
			before := h.calls.Load()
			a := post(t, at+"/v1/call/shop/put", tt.body, "Content-Type", tt.contentType)
			if a.status != tt.status || len(a.body) > 2000 {
				t.Errorf("%d %.300s, want %d", a.status, a.body, tt.status)
			}
			handled := h.calls.Load() - before
			if tt.status != http.StatusOK {
				if handled != 0 {
					t.Errorf("it was handled")
				}
				return
			}
			if got := decode[receipt](t, a).Order; handled != 1 || got.ID != tt.id || got.Number != tt.number {
				t.Errorf("%d handled, with %q and %d", handled, got.ID, got.Number)
			}
		})
	}
}

// A small body that announces much makes nobody allocate it.
func TestHostileBodiesAreCheap(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.shop(t, "1.0.0", "one")
	g := h.gateway(t, gateway.Config{})
	send := func(body string) {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/call/shop/put", strings.NewReader(body))
		req.Header.Set("Content-Type", typeMsgpack)
		w := httptest.NewRecorder()
		g.ServeHTTP(w, req)
		if w.Code != http.StatusBadRequest {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	send("\x81")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		send("\xdd\xff\xff\xff\xff")
		send("\x81\xa2id\xdb\xff\xff\xff\xff")
	}
	runtime.ReadMemStats(&after)
	if total := after.TotalAlloc - before.TotalAlloc; total > 1<<30 { // others allocate too; once would be 4 GiB
		t.Errorf("%d MiB were allocated", total>>20)
	}
}

// What clients say in headers of NATS's, of skybus's and of proxies does not become what services are told.
func TestHostileHeaders(t *testing.T) {
	t.Parallel()
	h := build(t)
	var told sync.Map
	h.shop(t, "1.0.0", "one", func(s *micro.Service) error {
		return micro.Handle(s, "told", func(ctx context.Context, _ order) (order, error) {
			for name, v := range micro.RequestHeader(ctx) {
				told.Store(name, fmt.Sprint(v))
			}
			info := micro.Info(ctx)
			told.Store("from", info.Caller)
			told.Store("attempt", fmt.Sprint(info.Attempt))
			return order{}, nil
		})
	})
	s := h.run(t)
	answers := s.raw(t, request("/v1/call/shop/told", strings.Join([]string{
		"Nats-Msg-Id: x", "Nats-Service-Error: x", "Nats-Service-Error-Code: 500", "Nats-Expected-Stream: X", "Skybus-From: skybus://default.dev.boss/1", "Skybus-Attempt: 77",
		"Skybus-One-Way: 1", "Skybus-Error-Code: ok", "skybus-prior: 2", "X-Forwarded-For: 10.0.0.1", "X-Real-Ip: 10.0.0.1", "Reply-To: default.dev.svc.shop.purge", "Connection: X-Request-Id",
		"X-User: root", "Authorization: Bearer x", "Cookie: a=b", "Content-Length: 2", "",
	}, "\r\n"), "{}"), 1, false)
	if len(answers) != 1 || answers[0].status != http.StatusOK {
		t.Fatalf("%+v", answers)
	}
	for name, v := range told.Range {
		switch name {
		case "attempt":
			if v != "1" {
				t.Errorf("attempt %v", v)
			}
		case "from":
			if !strings.HasPrefix(v.(string), "skybus://default.dev.gateway/") {
				t.Errorf("from %v", v)
			}
		default:
			t.Errorf("the service is told %v: %v", name, v)
		}
	}
}

// Credentials and bodies are in no log, at whatever level, and in no answer to somebody else's mistake.
func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.shop(t, "1.0.0", "one")
	var log logBook
	at := h.listen(t, gateway.Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))})
	const canary = "canary5ecret"
	headers := []string{"Authorization", "Bearer " + canary, "Cookie", "session=" + canary, "X-Api-Key", canary, "Proxy-Authorization", "Basic " + canary, "Skybus-Token", canary}
	for _, what := range []struct{ method, path, body string }{
		{"POST", "/v1/call/shop/put", `{"id":"` + canary + `"`}, // no JSON
		{"POST", "/v1/call/shop/put", `{"number":"` + canary + `"}`},
		{"POST", "/v1/call/app/fail", `{"code":"internal","message":"broken"}`},
		{"POST", "/v1/call/nobody/here", `"` + canary + `"`},
		{"POST", "/v1/call/shop/none", `"` + canary + `"`},
		{"POST", "/nowhere", `{"a":"` + canary + `"}`},
		{"PUT", "/echo", canary},
		{"GET", "/v1/services", ""},
		{"GET", "/v1/openapi.json", ""},
		{"GET", "/v1/docs", ""},
	} {
		a := send(t, what.method, at+what.path, what.body, headers...)
		if strings.Contains(a.body, canary) || strings.Contains(fmt.Sprint(a.header), canary) {
			t.Errorf("%v: %d %s %v", what, a.status, a.body, a.header)
		}
	}
	if text := log.String(); strings.Contains(text, canary) {
		t.Errorf("the log has it:\n%s", text)
	}
}

// logBook is a log that can be read while it is written.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
