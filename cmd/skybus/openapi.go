package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// maxDocument is how much is read of a gateway's description, several times what gateways give by default.
const maxDocument = 64 << 20

type openAPICmd struct {
	From      string `help:"Ask this gateway. Default: make it of what is on the bus." placeholder:"URL" env:"-"`
	TokenFile string `help:"File with a token or API key for the gateway, which goes along as a Bearer token." placeholder:"FILE" env:"-"`
	NoCall    bool   `help:"Leave out /v1/call, as a gateway with --no-call does." env:"-"`
}

// Help is shown below the usage.
func (*openAPICmd) Help() string {
	return `It is OpenAPI 3.1, of all that a gateway serves: entries, endpoints by their names, and routes. It is printed as JSON, or with -o yaml as YAML.
Which credentials a gateway takes, and what else it serves at its address, only that gateway knows: ask it with --from.

Examples:

    skybus openapi > openapi.json
    skybus openapi -o yaml --no-call
    skybus openapi --from https://api.example.org --token-file key`
}

// Validate finds the mistakes that need no look at anything.
func (c *openAPICmd) Validate() error {
	switch {
	case c.From == "" && c.TokenFile != "":
		return errors.New("--token-file goes with --from")
	case c.From == "":
		return nil
	case c.NoCall:
		return errors.New("--no-call is for what is made of the bus: with --from the gateway decides")
	}
	if u, err := url.Parse(c.From); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
		return fmt.Errorf("--from %q: want a URL such as http://127.0.0.1:8080", c.From)
	}
	return nil
}

// Run prints the description.
func (c *openAPICmd) Run(ctx context.Context, app *App) error {
	ctx, cancel := app.withTimeout(ctx)
	defer cancel()
	get := c.make
	if c.From != "" {
		get = c.ask
	}
	doc, err := get(ctx, app)
	if err != nil {
		return err
	}
	if app.Output == formatTable {
		return encode(app.stdout, formatJSON, json.RawMessage(doc))
	}
	return encode(app.stdout, app.Output, json.RawMessage(doc))
}

// make makes it as a gateway here would.
func (c *openAPICmd) make(ctx context.Context, app *App) ([]byte, error) {
	conn, err := app.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // it was only read from
	client, err := micro.NewClient(ctx, conn, micro.ClientConfig{Name: "cli", Settings: micro.NoSettings{}})
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }()
	runner, err := route.NewRunner(ctx, client, route.Config{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = runner.Close() }()
	var entries []gateway.Stored
	store, err := gateway.OpenStore(ctx, conn, true)
	if err == nil {
		entries, err = app.entries(ctx, store)
	}
	if err != nil && !errors.Is(err, kv.ErrNoBucket) { // without a bucket there are none
		return nil, err
	}
	return gateway.Describe(runner, entries, gateway.Config{Call: gateway.CallConfig{Off: c.NoCall}})
}

// ask asks a gateway.
func (c *openAPICmd) ask(ctx context.Context, app *App) ([]byte, error) {
	tokens, err := readTokens(c.TokenFile)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.From, "/")+"/v1/openapi.json", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if len(tokens) > 0 {
		req.Header.Set("Authorization", "Bearer "+tokens[0])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, withHint(err, "--from names a gateway, such as http://127.0.0.1:8080")
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		var problem struct{ Detail string }
		_ = json.Unmarshal(body, &problem) // the status says the most of it
		return nil, withHint(fmt.Errorf("%s answers %s %s", c.From, resp.Status, problem.Detail), "--token-file names a file with a token or API key")
	case len(body) > maxDocument:
		return nil, fmt.Errorf("the description has more than %d bytes", maxDocument)
	case !json.Valid(body):
		return nil, fmt.Errorf("%s answers with what is no JSON: %.60q", c.From, body)
	}
	app.log.DebugContext(ctx, "description read", "from", c.From, "bytes", len(body))
	return body, nil
}
