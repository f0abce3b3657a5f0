package http_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/micro/route"
)

// site is a house whose gateway serves entries.
type site struct {
	*house

	store *gateway.Store
	gate  *gateway.Gateway
	at    string
}

// open makes a gateway with entries, given as JSON by name.
func (h *house) open(t testing.TB, cfg gateway.Config, entries map[string]string) *site {
	t.Helper()
	s := &site{house: h, gate: h.follow(t, cfg)}
	var err error
	if s.store, err = gateway.OpenStore(t.Context(), h.conn, false); err != nil {
		t.Fatal(err)
	}
	for name, text := range entries {
		s.put(t, name, text)
	}
	srv := httptest.NewServer(s.gate)
	t.Cleanup(srv.Close)
	s.at = srv.URL
	return s
}

// follow makes a gateway that follows the entries.
func (h *house) follow(t testing.TB, cfg gateway.Config) *gateway.Gateway {
	t.Helper()
	g, err := gateway.Open(t.Context(), initiators.Sources{Client: h.client, Runner: h.runner}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() }) // has no error to tell
	return g
}

// put stores an entry and waits until the gateway knows it.
func (s *site) put(t testing.TB, name, text string) uint64 {
	t.Helper()
	revision, err := s.store.Put(t.Context(), name, parse(t, text), 0)
	if err != nil {
		t.Fatal(err)
	}
	s.await(t, revision)
	return revision
}

func (s *site) await(t testing.TB, revision uint64) {
	t.Helper()
	bustest.Eventually(t, "the gateway to follow", func() bool { return s.gate.Revision() >= revision })
}

func parse(t testing.TB, text string) gateway.Entry {
	t.Helper()
	e, err := gateway.ParseJSON([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return e
}

// What is wrong with an entry is told with its field.
func TestEntryValidate(t *testing.T) {
	t.Parallel()
	for text, field := range map[string]string{
		`{"path":"/a","call":"a.b"}`:                                       "",
		`{"path":"/a/{id}","method":"GET","host":"a.b","route":"x"}`:       "",
		`{"path":"/a/{rest...}","methods":["PUT","POST"],"route":"x"}`:     "",
		`{"path":"/{$}","call":"a.b","statuses":{"ok":201,"aborted":412}}`: "",
		`{"path":"/","call":"a.b","max_body":"64KiB","codec":"msgpack"}`:   "",
		`{"call":"a.b"}`:                                            "path",
		`{"path":"a","call":"a.b"}`:                                 "path",
		`{"path":"/a b","call":"a.b"}`:                              "path",
		`{"path":"/{","call":"a.b"}`:                                "path",
		`{"path":"/{a}/{a}","call":"a.b"}`:                          "path",
		`{"path":"/x{a}","call":"a.b"}`:                             "path",
		`{"path":"/{a...}/b","call":"a.b"}`:                         "path",
		`{"path":"/a?b","call":"a.b"}`:                              "path",
		`{"path":"/a//b","call":"a.b"}`:                             "path",
		`{"path":"/a/../b","call":"a.b"}`:                           "path",
		`{"path":"/a%2fb","call":"a.b"}`:                            "path",
		`{"path":"/` + strings.Repeat("x", 600) + `","call":"a.b"}`: "path",
		`{"path":"` + strings.Repeat("/{x}", 1) + strings.Repeat("/y", 200) + `/{z}","method":"get","call":"a.b"}`: "method",
		`{"path":"/a","method":"TRACE","call":"a.b"}`:                                                              "method",
		`{"path":"/a","methods":["GET","GET"],"call":"a.b"}`:                                                       "methods[1]",
		`{"path":"/a","method":"GET","methods":["GET"],"call":"a.b"}`:                                              "methods",
		`{"path":"/a","host":"A.b","call":"a.b"}`:                                                                  "host",
		`{"path":"/a","host":"a:80","call":"a.b"}`:                                                                 "host",
		`{"path":"/a","host":"*.b","call":"a.b"}`:                                                                  "host",
		`{"path":"/a","listener":"a b","call":"a.b"}`:                                                              "listener",
		`{"path":"/a"}`:                                                                "target",
		`{"path":"/a","call":"a.b","route":"x"}`:                                       "target",
		`{"path":"/a","call":"a"}`:                                                     "call",
		`{"path":"/a","route":"a.b"}`:                                                  "route",
		`{"path":"/a","publish":"a..b"}`:                                               "publish",
		`{"path":"/a","call":"a.b","request":{"fields":{"a":"{"}}}`:                    "request.fields.a",
		`{"path":"/a","call":"a.b","codec":"xml"}`:                                     "codec",
		`{"path":"/a","call":"a.b","timeout":"2h"}`:                                    "timeout",
		`{"path":"/a","call":"a.b","timeout":"-1s"}`:                                   "timeout",
		`{"path":"/a","call":"a.b","timeout":"2s","max_timeout":"1s"}`:                 "max_timeout",
		`{"path":"/a","call":"a.b","max_body":1000000000}`:                             "max_body",
		`{"path":"/a","call":"a.b","statuses":{"nope":400}}`:                           "statuses.nope",
		`{"path":"/a","call":"a.b","statuses":{"not_found":200}}`:                      "statuses.not_found",
		`{"path":"/a","call":"a.b","statuses":{"ok":404}}`:                             "statuses.ok",
		`{"path":"/a","call":"a.b","headers":{"forward":["Connection"]}}`:              "headers.forward[0]",
		`{"path":"/a","call":"a.b","headers":{"return":["a b"]}}`:                      "headers.return[0]",
		`{"path":"/a","call":"a.b","headers":{"set":{"Skybus-From":"x"}}}`:             "headers.set.Skybus-From",
		`{"path":"/a","call":"a.b","headers":{"set":{"X-A":"a\r\nb"}}}`:                "headers.set.X-A",
		`{"path":"/a","call":"a.b","templates":{"html":"x"}}`:                          "templates[html]",
		`{"path":"/a","call":"a.b","templates":{"text/html":"{{"}}`:                    "templates[text/html]",
		`{"path":"/a","call":"a.b","templates":{"text/html":"<a href={{if .}}"}}`:      "templates[text/html]",
		`{"path":"/a","call":"a.b","templates":{"application/xml":"{{nope}}"}}`:        "templates[application/xml]",
		`{"path":"/a","call":"a.b","tags":[""]}`:                                       "tags[0]",
		`{"path":"/a","call":"a.b","description":"` + strings.Repeat("x", 5000) + `"}`: "description",
	} {
		err := parse(t, text).Validate()
		fe, ok := errors.AsType[*gateway.FieldError](err)
		if (err == nil) != (field == "") || ok && fe.Field != field || err != nil && !ok {
			t.Errorf("%.120s: error %v, want one of field %q", text, err, field)
		}
	}
}

// What is not stored with a request that is answered later cannot be asked for there: it would be accepted, and fail for good.
func TestEntryValidateAsync(t *testing.T) {
	t.Parallel()
	for text, field := range map[string]string{
		`{"path":"/a","call":"a.b","async":{},"request":{"fields":{"a":"{cookie.sid}"}}}`:                             "request.fields.a",
		`{"path":"/a","call":"a.b","async":{},"request":{"header":{"a":"{header.x-api-key}"}}}`:                       "request.header.a",
		`{"path":"/a","stream":"a.{cookie.sid}","async":{"always":true}}`:                                             "stream",
		`{"path":"/a","call":"a.b","async":{},"headers":{"forward":["X-A","cookie"]}}`:                                "headers.forward[1]",
		`{"path":"/a","call":"a.b","async":{},"request":{"fields":{"a":"{header.X-A}","b":"{cookie.sid|optional}"}}}`: "",
		`{"path":"/a","call":"a.b","request":{"fields":{"a":"{cookie.sid}"}},"headers":{"forward":["Cookie"]}}`:       "",
	} {
		err := parse(t, text).Validate()
		if fe, ok := errors.AsType[*gateway.FieldError](err); (err == nil) != (field == "") || ok && fe.Field != field {
			t.Errorf("%s: error %v, want one of field %q", text, err, field)
		}
	}
}

func TestParseJSONRefuses(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		`{"path":"/a","cal":"a.b"}`:                `unknown field "cal"`,
		`{"path":"/a"} x`:                          "after the entry",
		`{"path":7}`:                               "path: want string",
		`{"path":"/a","timeout":7}`:                "timeout",
		`{"path":"/a","timeout":"soon"}`:           "duration",
		`{"path":"/a","headers":{"set":{"a":1}}}`:  "headers.set",
		`{"path":"/a","request":{"fields":["a"]}}`: "request.fields",
		``: "EOF",
	} {
		if _, err := gateway.ParseJSON([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want one that says %q", text, err, says)
		}
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	h := build(t)
	store, err := gateway.OpenStore(t.Context(), h.conn, false)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	first, err := store.Create(ctx, "order", parse(t, `{"method":"GET","path":"/orders/{id}","call":"app.echo"}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := store.Get(ctx, "order")
	if err != nil || got.Revision != first || got.Entry.Path != "/orders/{id}" || got.Entry.Call != "app.echo" || got.Name != "order" {
		t.Errorf("got %+v, %v", got, err)
	}
	for what, tt := range map[string]struct {
		do   func() error
		code bus.Code
		says []string
	}{
		"create again": {func() error { _, err := store.Create(ctx, "order", got.Entry); return err }, bus.AlreadyExists, []string{"order"}},
		"old revision": {func() error { _, err := store.Put(ctx, "order", got.Entry, first+100); return err }, bus.Aborted, []string{"order"}},
		"bad name":     {func() error { _, err := store.Put(ctx, "a.b", got.Entry, 0); return err }, bus.InvalidArgument, []string{"a.b"}},
		"bad entry": {func() error {
			_, err := store.Put(ctx, "bad", parse(t, `{"path":"x","call":"a"}`), 0)
			return err
		}, bus.InvalidArgument, []string{"path", "call"}},
		"conflict": {func() error {
			_, err := store.Put(ctx, "other", parse(t, `{"methods":["GET","POST"],"path":"/orders/{number}","call":"app.echo"}`), 0)
			return err
		}, bus.FailedPrecondition, []string{`"order"`, `"other"`, "/orders/{number}"}},
		"missing":  {func() error { _, err := store.Get(ctx, "nope"); return err }, bus.NotFound, []string{"nope"}},
		"rm":       {func() error { _, err := store.Delete(ctx, "nope", 0); return err }, bus.NotFound, []string{"nope"}},
		"stale rm": {func() error { _, err := store.Delete(ctx, "order", 1<<40); return err }, bus.Aborted, []string{"order"}},
		"at":       {func() error { _, err := store.At(ctx, "order", 999); return err }, bus.NotFound, []string{"999"}},
	} {
		err := tt.do()
		if bus.CodeOf(err) != tt.code {
			t.Errorf("%s: %v, want %s", what, err, tt.code)
		}
		for _, says := range tt.says {
			if err != nil && !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v, want it to say %s", what, err, says)
			}
		}
	}
	gone, err := store.Delete(ctx, "order", 0)
	if err != nil || gone <= first {
		t.Errorf("removed by %d, %v", gone, err)
	}
	if old, err := store.At(ctx, "order", first); err != nil || old.Entry.Path != "/orders/{id}" {
		t.Errorf("%+v, %v", old, err)
	}
	if _, err := store.At(ctx, "order", gone); bus.CodeOf(err) != bus.FailedPrecondition {
		t.Errorf("the removal: %v", err)
	}
}

// What is more specific conflicts with nothing: another method, another host, a longer path.
func TestStoreTakesSpecific(t *testing.T) {
	t.Parallel()
	h := build(t)
	store, err := gateway.OpenStore(t.Context(), h.conn, false)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"order": `{"method":"GET","path":"/orders/{id}","call":"app.echo"}`,
		"post":  `{"method":"POST","path":"/orders/{id}","call":"app.echo"}`, "host": `{"method":"GET","host":"a.example","path":"/orders/{id}","call":"app.echo"}`,
		"new": `{"method":"GET","path":"/orders/new","call":"app.echo"}`, "all": `{"path":"/","call":"app.echo"}`,
	} {
		if _, err := store.Put(t.Context(), name, parse(t, text), 0); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Of two conflicting entries that are stored at the same time one stays, and the other one's writer is told of it.
func TestStoreRace(t *testing.T) {
	t.Parallel()
	h := build(t)
	store, err := gateway.OpenStore(t.Context(), h.conn, false)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 10 {
		failed := make(chan error, 4)
		for i := range 4 {
			go func() {
				_, err := store.Put(context.WithoutCancel(t.Context()), fmt.Sprintf("e%d", i), parse(t, fmt.Sprintf(`{"path":"/r%d/{x}","call":"app.echo"}`, round)), 0)
				failed <- err
			}()
		}
		won := 0
		for range 4 {
			if err := bustest.Receive(t, "a writer", failed); err == nil {
				won++
			} else if bus.CodeOf(err) != bus.FailedPrecondition || bus.AsError(err).Details["conflict"] == "" {
				t.Errorf("round %d: %v", round, err)
			}
		}
		left := 0
		for s, err := range store.List(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if s.Entry.Path == fmt.Sprintf("/r%d/{x}", round) {
				left++
			}
		}
		if won > 1 || left != won {
			t.Errorf("round %d: %d writers succeeded, %d entries are there", round, won, left)
		}
		if won == 0 {
			t.Logf("round %d: all were taken back", round)
		}
	}
}

// raw stores what no store would.
func (h *house) raw(t testing.TB, name, text string) uint64 {
	t.Helper()
	ack, err := h.conn.JetStream().Publish(t.Context(), "$KV."+route.Bucket+"."+h.conn.Namespace().Key("http", name), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// A bad entry takes no other down: it is listed with its reason, whatever is stored as it.
func TestBadEntries(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{"good": `{"methods":["GET","PATCH"],"path":"/good/{id}","call":"app.echo"}`})
	bad := map[string]string{
		"text": `x`, "null": `[]`, "nothing": `{}`, "path": `{"path":"good","call":"app.echo"}`, "target": `{"path":"/x","call":"nope"}`,
		"conflict": `{"method":"GET","path":"/good/{number}","call":"app.echo"}`, "timer": `{"path":"/t","timer":{"after":"1s","target":"call://a.b"}}`,
		"publish": `{"path":"/p","publish":"elsewhere.x"}`, "listener": `{"path":"/l","listener":"inner","call":"app.echo"}`,
		"partly": `{"methods":["PUT","GET"],"path":"/good/{n}","call":"app.echo"}`,
	}
	var last uint64
	for name, text := range bad {
		last = h.raw(t, name, text)
	}
	s.await(t, last)
	refused := s.gate.Refused()
	for name := range bad {
		if refused[name] == nil {
			t.Errorf("%s is served", name)
		}
	}
	if err := refused["conflict"]; err == nil || !strings.Contains(err.Error(), `"good"`) || !strings.Contains(err.Error(), `"conflict"`) {
		t.Errorf("conflict: %v", err)
	}
	if a := send(t, "GET", s.at+"/good/7", ""); a.status != 200 || a.body != `{"id":"7"}` {
		t.Errorf("the good one: %d %s", a.status, a.body)
	}
	if a := send(t, "PUT", s.at+"/good/7", ""); a.status != 405 {
		t.Errorf("what a refused entry would have had: %d %s", a.status, a.body)
	}
	// Where the older one goes, the younger comes into its place.
	gone, err := s.store.Delete(t.Context(), "good", 0)
	if err != nil {
		t.Fatal(err)
	}
	s.await(t, gone)
	after := s.gate.Refused()
	if after["conflict"] != nil && after["partly"] != nil {
		t.Errorf("both are refused: %v, %v", after["conflict"], after["partly"])
	}
	var all []gateway.Stored
	for s, err := range s.store.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	var names []string
	for name := range gateway.Refusals(all) {
		names = append(names, name)
	}
	slices.Sort(names)
	// Without a gateway only what is stored can be judged.
	if len(names) != 6 || !slices.Contains(names, "text") || slices.Contains(names, "publish") {
		t.Errorf("refused by what is stored: %v", names)
	}
}

var _ json.Marshaler = gateway.Bytes(0)
