package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	gateway "github.com/skybus-io/skybus/initiators/http"
)

type httpExplainCmd struct {
	Method   string   `arg:"" help:"Method of the request."`
	URL      string   `arg:"" name:"url" help:"Its path and query, with or without a host."`
	Header   []string `short:"H" sep:"none" help:"A header of the request, as in \"Accept: text/html\"." placeholder:"NAME: VALUE" env:"-"`
	Data     string   `short:"d" help:"Its body, @FILE to read it from a file, or - from standard input." placeholder:"BODY" env:"-"`
	Listener string   `help:"Name of the listener where it comes in. Default: the first one." placeholder:"NAME" env:"-"`
	File     string   `short:"f" help:"Go by the entries of this file instead of those that are stored." placeholder:"FILE" env:"-"`
}

// Help is shown below the usage.
func (*httpExplainCmd) Help() string {
	return `Who sends it, and how often, is not asked: auth and limits are left out.

Examples:

    skybus http explain GET '/orders/17?verbose=1'
    skybus http explain POST http://shop.example.org/orders -d '{"item":"x"}' -H 'Accept: text/html'
    skybus http explain GET /orders/17 -f gateway.yaml -o json`
}

// Run explains what would become of a request.
func (c *httpExplainCmd) Run(ctx context.Context, app *App) error {
	req, err := c.request(ctx, app)
	if err != nil {
		return err
	}
	if c.File != "" {
		data, err := app.readFile(ctx, c.File)
		if err != nil {
			return err
		}
		wanted, err := parseEntries(fileName(c.File), data)
		if err != nil {
			return err
		}
		var all []gateway.Stored
		for i, w := range wanted {
			all = append(all, gateway.Stored{Name: w.name, Entry: w.entry, Revision: uint64(i + 1)})
		}
		return app.printRequest(gateway.Explain(all, req, c.Listener))
	}
	return entryDocs().with(ctx, app, true, func(ctx context.Context, _ *bus.Conn, store *gateway.Store) error {
		all, err := app.entries(ctx, store)
		if err != nil {
			return err
		}
		return app.printRequest(gateway.Explain(all, req, c.Listener))
	})
}

// request is the request as a gateway would see it.
func (c *httpExplainCmd) request(ctx context.Context, app *App) (*http.Request, error) {
	u, err := url.Parse(c.URL)
	if err != nil || !strings.HasPrefix(u.Path, "/") {
		return nil, usagef("URL %.80q: want a path such as /orders/17?verbose=1", c.URL)
	}
	var body []byte
	if c.Data != "" {
		if body, err = app.input(ctx, c.Data); err != nil {
			return nil, err
		}
	}
	if u.Host == "" {
		u.Scheme, u.Host = "http", "localhost"
	}
	req, err := http.NewRequestWithContext(ctx, c.Method, u.String(), strings.NewReader(string(body)))
	if err != nil {
		return nil, usagef("%v", err)
	}
	req.RequestURI = u.RequestURI()
	req.URL.Scheme, req.URL.Host = "", ""
	req.RemoteAddr = "127.0.0.1:1"
	for _, h := range c.Header {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return nil, usagef("--header %.80q: want NAME: VALUE", h)
		}
		req.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	return req, nil
}

func (a *App) printRequest(x gateway.Explanation) error {
	if a.Output != formatTable {
		return encode(a.stdout, a.Output, x)
	}
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-11s %s\n", name, value)
		}
	}
	fmt.Fprintf(&b, "%s %s\n", x.Method, x.URL)
	switch {
	case x.Own:
		line("answered by", "the gateway itself")
	case x.Entry != "":
		line("entry", fmt.Sprintf("%s, revision %d", x.Entry, x.Revision))
		line("matches", x.Pattern)
		line("sends to", x.Target)
		line("within", time.Duration(x.Timeout).String())
	case x.Route != "":
		line("route", x.Route+", where there is one of that name")
	default:
		line("entry", "none")
	}
	for _, name := range slices.Sorted(maps.Keys(x.Parameters)) {
		line("{"+name+"}", x.Parameters[name])
	}
	if x.Problem != "" {
		line("answer", fmt.Sprintf("%d %s: %s", x.Status, http.StatusText(x.Status), x.Problem))
	}
	if r := x.Request; r != nil {
		line("request", fmt.Sprintf("%s, %d bytes", r.ContentType, r.Size))
		line("body", bodyText(r))
		for _, name := range slices.Sorted(maps.Keys(r.Header)) {
			line(name, strings.Join(r.Header[name], ", "))
		}
	}
	if len(x.Others) > 0 {
		b.WriteString("others:\n")
	}
	for _, o := range x.Others {
		fmt.Fprintf(&b, "  %-11s %s: %s\n", o.Name, o.Pattern, o.Why)
	}
	_, err := fmt.Fprint(a.stdout, printable(b.String()))
	return err
}

func bodyText(r *gateway.ExplainedRequest) string {
	if len(r.Body) == 0 {
		return r.Text
	}
	var text strings.Builder
	if encodeJSON(&text, r.Body, "") != nil {
		return string(r.Body)
	}
	return strings.TrimSuffix(text.String(), "\n")
}
