//go:build unix

package integration_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/auth"
	"github.com/skybus-io/skybus/initiators"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// gatewayOf opens a gateway and serves it until the test ends.
func gatewayOf(t *testing.T, conn *bus.Conn) (*gateway.Gateway, string) {
	t.Helper()
	client := newClient(t, conn, micro.ClientConfig{Name: "gateway"})
	runner, err := route.NewRunner(t.Context(), client, route.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = runner.Close() })
	g, err := gateway.Open(t.Context(), initiators.Sources{Client: client, Runner: runner}, gateway.Config{})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(g)
	t.Cleanup(srv.Close)
	t.Cleanup(func() { _ = g.Close() }) // before the server waits for its handlers
	return g, srv.URL
}

// putEntries stores entries given as JSON by name.
func putEntries(t *testing.T, conn *bus.Conn, entries map[string]string) {
	t.Helper()
	store, err := gateway.OpenStore(t.Context(), conn, false)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range entries {
		e, err := gateway.ParseJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Put(t.Context(), name, e, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// askHTTP sends a request with headers given as pairs, and returns the answer with its body.
func askHTTP(t *testing.T, method, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// TestGatewayUnderRole serves keys, answers later and events with nothing but the rights of a gateway, which an admin made room for.
func TestGatewayUnderRole(t *testing.T) {
	t.Parallel()
	s := startSecured(t)
	admin := s.admin(t, "shop.prod")
	serveTickets(t, s.service(t, "orders"), "orders", "o1", make(chan string, 16))
	entries := map[string]string{
		"once":   `{"method":"POST","path":"/once","call":"orders.check","idempotency":{}}`,
		"later":  `{"method":"POST","path":"/later","call":"orders.check","async":{}}`,
		"events": `{"method":"GET","path":"/events/{id}","events":{"subject":"shop.prod.pub.orders.{path.id}"}}`,
		"stored": `{"method":"GET","path":"/stored","events":{"stream":"ORDERS","subject":"shop.prod.pub.orders.>","start":"all"}}`,
		"other":  `{"method":"GET","path":"/other","events":{"stream":"OTHER","subject":"shop.prod.pub.other.>"}}`,
	}
	putEntries(t, admin, entries)
	makeRoom(t, admin)
	if err := admin.JetStream().DeleteStream(t.Context(), "KV_"+gateway.AnswersBucket); err != nil {
		t.Fatal(err)
	}
	conn := s.login(t, auth.UserConfig{Role: auth.Gateway, App: "shop", Env: "prod", Streams: []string{"ORDERS"}}, "shop.prod")
	poor, at := gatewayOf(t, s.part(t, auth.Gateway))
	if resp, text := askHTTP(t, http.MethodPost, at+"/once", "{}", "Idempotency-Key", "k"); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("without the bucket: %s %s", resp.Status, text)
	}
	_ = poor.Close()              // it wants to work on what is answered later
	putEntries(t, admin, entries) // which makes the bucket

	_, at = gatewayOf(t, conn)
	for _, replayed := range []string{"", "true"} {
		resp, text := askHTTP(t, http.MethodPost, at+"/once", `{"text":"a"}`, "Idempotency-Key", "k")
		if resp.StatusCode != http.StatusOK || !strings.Contains(text, `"a"`) || resp.Header.Get("Idempotency-Replayed") != replayed {
			t.Errorf("%s %s %v", resp.Status, text, resp.Header)
		}
	}
	resp, text := askHTTP(t, http.MethodPost, at+"/later", `{"text":"b"}`, "Prefer", "respond-async")
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("%s %s", resp.Status, text)
	}
	location := at + resp.Header.Get("Location")
	eventually(t, patience, "the answer", func() bool {
		var st struct{ State string }
		resp, text := askHTTP(t, http.MethodGet, location, "")
		if resp.StatusCode != http.StatusOK || json.Unmarshal([]byte(text), &st) != nil {
			t.Fatalf("%s %s", resp.Status, text)
		}
		return st.State == "done"
	})
	if _, err := admin.JetStream().Publish(t.Context(), "shop.prod.pub.orders.7", []byte("stored")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/events/7": "later", "/stored": "stored"} {
		if got := firstEvent(t, at+path, func() error { return admin.NATS().Publish("shop.prod.pub.orders.7", []byte("later")) }); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	harmless(t, conn)
	if resp, text := askHTTP(t, http.MethodGet, at+"/other", ""); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a stream that it was not given: %s %s", resp.Status, text)
	}
	refusedToFollow(t, s.part(t, auth.Gateway), gateway.AnswersBucket, "shop.dev.>")
	refusedToWrite(t, s.part(t, auth.Gateway), gateway.AnswersBucket, "shop.dev.once.a.b")
	denied(t, "a client reads answers", func(ctx context.Context) error {
		_, err := kv.Open[[]byte](ctx, s.client(t), gateway.AnswersBucket, kv.Config{Bind: true})
		return err
	})
}

// makeRoom makes what else a gateway binds to.
func makeRoom(t *testing.T, admin *bus.Conn) {
	t.Helper()
	if _, err := kv.Open[gateway.Report](t.Context(), admin, gateway.GatewaysBucket, kv.Config{}); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []jetstream.StreamConfig{
		{Name: "ORDERS", Subjects: []string{"shop.prod.pub.orders.>"}},
		{Name: "OTHER", Subjects: []string{"shop.prod.pub.other.>"}},
	} {
		if _, err := admin.OpenStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
}

// firstEvent is the data of the first event at url, after publish has been called once the client listens.
func firstEvent(t *testing.T, url string, publish func() error) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s %s", resp.Status, text)
	}
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	for in := bufio.NewScanner(resp.Body); in.Scan(); {
		if data, ok := strings.CutPrefix(in.Text(), "data: "); ok {
			return data
		}
	}
	t.Fatal("no event came")
	return ""
}
