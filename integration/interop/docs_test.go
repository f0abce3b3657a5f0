package interop_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/initiators/http/auth"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

type (
	person struct {
		Name   string   `json:"name" jsonschema:"Who is greeted <b>loudly</b>."`
		Number int64    `json:"number"`
		Tags   []string `json:"tags,omitempty"`
	}
	welcome struct {
		Text   string `json:"text"`
		Number int64  `json:"number"`
	}
)

// docsGateway serves a gateway with the services of a greeter.
func docsGateway(t *testing.T) (url, key string) {
	t.Helper()
	conn := connect(t, bustest.Server(t, bustest.TCP()))
	keys, err := auth.OpenKeys(t.Context(), conn, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, key, err = keys.New(t.Context(), auth.NewKey{}); err != nil {
		t.Fatal(err)
	}
	guard, err := auth.Open(t.Context(), conn, auth.Config{Keys: &auth.KeysConfig{}}, auth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = guard.Close() })
	serveGreeter(t, conn)
	client, err := micro.NewClient(t.Context(), conn, micro.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	bustest.Eventually(t, "the service", func() bool { return client.Registry().Service("greeter") != nil })
	runner, err := route.NewRunner(t.Context(), client, route.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = runner.Close() })
	g, err := gateway.New(runner, gateway.Config{
		Guard: guard, OpenAPI: gateway.OpenAPIConfig{Title: "Greetings", Description: "All <img src=x> of them."},
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(g)
	t.Cleanup(srv.Close)
	return srv.URL, key
}

func serveGreeter(t *testing.T, conn *bus.Conn) {
	t.Helper()
	svc, err := micro.NewService(conn, micro.Config{Name: "greeter", Version: "1.2.3", Description: "says hello"})
	if err != nil {
		t.Fatal(err)
	}
	err = micro.Handle(svc, "hello", func(_ context.Context, p person) (welcome, error) {
		return welcome{"Hello " + p.Name, p.Number}, nil
	}, micro.Description("Greets <b>everybody</b>."))
	if err == nil {
		err = micro.Handle(svc, "shout", func(context.Context, person) (welcome, error) { return welcome{}, nil })
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// pageSeen is what page.js prints.
type pageSeen struct {
	Refused, Title, State, Example, Description, SecretShown, Focus string
	Tags, Paths, Schema, Filtered, Faults                           []string
	Markup, Stored                                                  int
	Good, Chosen, Bad, Broken, Forgotten                            struct{ Status, Headers, Body, Curl string }
}

// TestDocsPage uses the page as a person would: reads, gives a key, fills in forms and sends them.
func TestDocsPage(t *testing.T) {
	t.Parallel()
	dir := packages(t, "docs", "page.js")
	var got pageSeen
	url, key := docsGateway(t)
	if err := json.Unmarshal(node(t, dir, "page.js", url, key), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Faults) > 0 {
		t.Errorf("faults: %q", got.Faults)
	}
	if !strings.Contains(got.Refused, "this needs a credential") || got.Title != "Greetings" || got.State != "2 operations" || !cmp.Equal(got.Tags, []string{"greeter"}) {
		t.Errorf("%q %q %q %q", got.Refused, got.Title, got.State, got.Tags)
	}
	if want := []string{"/v1/call/greeter/hello", "/v1/call/greeter/shout"}; !cmp.Equal(got.Paths, want) {
		t.Errorf("paths %q", got.Paths)
	}
	if got.SecretShown != "false" || got.Stored != 0 || got.Markup != 0 {
		t.Errorf("secret %q, %d stored, %d elements that texts made", got.SecretShown, got.Stored, got.Markup)
	}
	if want := "{\n  \"name\": \"text\",\n  \"number\": 1,\n  \"tags\": [\n    \"text\"\n  ]\n}"; got.Example != want || got.Description != "Greets <b>everybody</b>." {
		t.Errorf("example %s, description %s", got.Example, got.Description)
	}
	for _, name := range []string{"name", "number", "tags", "text"} {
		if !slices.Contains(got.Schema, name) {
			t.Errorf("%q is not shown: %q", name, got.Schema)
		}
	}
	if got.Focus != "filter" || !cmp.Equal(got.Filtered, []string{"op-call.greeter.hello"}) {
		t.Errorf("focus %q, filtered %q", got.Focus, got.Filtered)
	}
	checkAnswers(t, got, key)
}

func checkAnswers(t *testing.T, got pageSeen, key string) {
	t.Helper()
	good := got.Good
	if !strings.HasPrefix(good.Status, "200 OK in ") || good.Body != "{\n  \"text\": \"Hello Ann\",\n  \"number\": 9007199254740993\n}" || !strings.Contains(good.Headers, "x-request-id: ") {
		t.Errorf("%+v", good)
	}
	if !strings.HasPrefix(good.Curl, "curl -X POST ") || strings.Contains(good.Curl, key) || !strings.Contains(good.Curl, `'X-Api-Key: '"$SECRET"`) {
		t.Errorf("command %s", good.Curl)
	}
	if !strings.Contains(got.Chosen.Curl, "?version=1.2.3'") || !strings.HasPrefix(got.Chosen.Status, "200") {
		t.Errorf("%+v", got.Chosen)
	}
	for name, a := range map[string]struct{ answer, status string }{
		"wrong type": {got.Bad.Body, got.Bad.Status}, "no JSON": {got.Broken.Body, got.Broken.Status},
	} {
		if !strings.HasPrefix(a.status, "400 Bad Request in ") || !strings.Contains(a.answer, `"code": "invalid_argument"`) {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if !strings.HasPrefix(got.Forgotten.Status, "401") {
		t.Errorf("%+v", got.Forgotten)
	}
}
