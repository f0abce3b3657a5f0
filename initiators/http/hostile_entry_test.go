package http_test

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	gateway "github.com/skybus-io/skybus/initiators/http"

	"github.com/skybus-io/skybus/bus/bustest"
)

// runEntries is run with a gateway that serves entries.
func (h *house) runEntries(t testing.TB, entries map[string]string) *served {
	t.Helper()
	g := h.open(t, gateway.Config{}, entries).gate
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	s := &served{l.Addr().String(), cancel, make(chan error, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.done <- g.Serve(ctx, l)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return s
}

// What is no token of a subject is published nowhere, whatever it is called in a path, a query or a header; what is one goes where it says.
func TestHostileTokens(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{
		"path":   `{"method":"POST","path":"/pub/{kind}","publish":"default.dev.pub.{path.kind}"}`,
		"rest":   `{"method":"POST","path":"/rest/{kind...}","publish":"default.dev.pub.{path.kind}"}`,
		"query":  `{"method":"POST","path":"/query","publish":"default.dev.pub.{query.kind}"}`,
		"header": `{"method":"POST","path":"/header","publish":"default.dev.pub.{header.Kind}"}`,
	})
	heard := make(chan *nats.Msg, 100)
	for _, subject := range []string{"default.dev.pub.>", "default.dev.ctl.>", "x"} {
		if _, err := h.conn.NATS().ChanSubscribe(subject, heard); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{
		"a b", "*", ">", "..", ".", "", "a.b", "a.>", "a\r\nPUB x 0\r\n", "a\x00b", "a\tb", "größe", "\xff", strings.Repeat("x", 300), strings.Repeat("x", 5000), "a/b", `a\b`,
	} {
		escaped := strings.ReplaceAll(url.PathEscape(bad), "/", "%2F")
		for _, path := range []string{"/pub/" + escaped, "/rest/" + escaped, "/query?kind=" + url.QueryEscape(bad)} {
			u, err := url.Parse(s.at)
			if err != nil {
				t.Fatal(err)
			}
			u.Opaque = "//" + u.Host + path
			req := &http.Request{Method: http.MethodPost, URL: u, Host: u.Host, Header: http.Header{}}
			if a := post2(t, req.WithContext(t.Context()), "{}"); a.status < 400 || a.status >= 500 || len(a.body) > 1000 {
				t.Errorf("%.60q: %d %.200s", path, a.status, a.body)
			}
		}
		if strings.ContainsAny(bad, "\r\n\x00") || bad == "" {
			continue // no header can have it
		}
		if a := post(t, s.at+"/header", "{}", "Kind", bad); a.status < 400 || a.status >= 500 {
			t.Errorf("header %.60q: %d %.200s", bad, a.status, a.body)
		}
	}
	for _, good := range []string{"/pub/new", "/rest/new", "/query?kind=new"} {
		if a := post(t, s.at+good, "{}"); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", good, a.status, a.body)
		}
		if m := bustest.Receive(t, "what was published", heard); m.Subject != "default.dev.pub.new" {
			t.Errorf("%s goes to %s", good, m.Subject)
		}
	}
	if err := h.conn.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	for len(heard) > 0 {
		t.Errorf("something went to %s", (<-heard).Subject)
	}
	if h.conn.NATS().Stats().Reconnects != 0 {
		t.Error("the connection was lost")
	}
}

// Nothing that the client says in a header becomes another header of the target's, and what none can carry is refused.
func TestHostileForwardedHeaders(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.runEntries(t, map[string]string{
		"seen": `{"method":"POST","path":"/seen","call":"app.seen","headers":{"forward":["X-Note"]},"request":{"header":{"X-Query":"{query.q|optional}"}}}`,
	})
	for name, tt := range map[string]struct {
		target, header string
		status         int
	}{
		"plain":        {"/seen", "X-Note: a b", 200},
		"folded":       {"/seen", "X-Note: a\r\n Nats-Msg-Id: x", 200},
		"control":      {"/seen", "X-Note: a\x01b", 400},
		"DEL":          {"/seen", "X-Note: a\x7fb", 400},
		"line in it":   {"/seen?q=a%0d%0aNats-Msg-Id:%20x", "", 400},
		"NUL":          {"/seen?q=a%00", "", 400},
		"not UTF-8":    {"/seen?q=%ff", "", 400},
		"too long":     {"/seen", "X-Note: " + strings.Repeat("x", 14<<10), 400},
		"name of ours": {"/seen", "Skybus-From: x", 200},
	} {
		extra := tt.header + "\r\nContent-Length: 2\r\n"
		if tt.header == "" {
			extra = "Content-Length: 2\r\n"
		}
		answers := s.raw(t, request(tt.target, extra, "{}"), 1, false)
		if len(answers) != 1 || answers[0].status != tt.status {
			t.Errorf("%s: %+v, want %d", name, answers, tt.status)
			continue
		}
		if body := answers[0].body; strings.Contains(body, `"Nats-Msg-Id"`) || strings.Contains(body, `"Skybus-From":["x"]`) {
			t.Errorf("%s: the target was told %s", name, body)
		}
	}
	if h.conn.NATS().Stats().Reconnects != 0 {
		t.Error("the connection was lost")
	}
}
