package http

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/skybus-io/skybus/initiators"
)

// noteTarget is a target that notes what it is sent.
type noteTarget struct{ sent *initiators.Request }

func (r noteTarget) Send(_ context.Context, req initiators.Request) (initiators.Reply, error) {
	*r.sent = req
	return initiators.Reply{ContentType: typeJSON, Body: []byte("{}")}, nil
}

// Whatever path, query and body a request has as it comes over the wire, the target of an entry is sent one JSON object, whose members of the
// path are those of the path, or the request is refused.
func FuzzEntryMapping(f *testing.F) {
	for _, s := range [][2]string{
		{"/a/x", `{"n":1}`},
		{"/a/x?id=other&q=1&q=2", `{"id":"third"}`},
		{"/a/%2e%2e", `{}`},
		{"/a/x%2fy", ``},
		{"/a/%00", `{`},
		{"/a/%ff?%zz", `[1]`},
		{"/a/a b", `{}`},
		{"/a//x", `{}`},
		{"/a/../b/x", `{}`},
		{"/b/x/y/z", `{"rest":{"a":1e400}}`},
		{"/b/", `{"rest":null}`},
		{"/a/x?__proto__=1", `{"a":"\ud800"}`},
		{"http://localhost/a/x", `{}`},
		{"*", ``},
		{"/a/x#y", `{}`},
		{"/a/ä", "\xef\xbb\xbf{}"},
		{"/a/x?a=%0d%0ab", `{"id":12345678901234567890}`},
	} {
		f.Add(s[0], []byte(s[1]))
	}
	g, err := newGateway(initiators.Sources{}, Config{})
	if err != nil {
		f.Fatal(err)
	}
	var sent initiators.Request
	g.resolve = func(initiators.Spec) (initiators.Target, error) { return noteTarget{&sent}, nil }
	all := map[string]Stored{}
	for i, path := range []string{"/a/{id}", "/b/{rest...}"} {
		name := fmt.Sprint("e", i)
		all[name] = Stored{Name: name, Revision: uint64(i + 1), Entry: Entry{Path: path, Spec: initiators.Spec{Call: "app.echo"}}}
	}
	g.table.Store(g.compile(all, nil))
	if n := len(g.Refused()); n > 0 {
		f.Fatalf("%v", g.Refused())
	}
	f.Fuzz(func(t *testing.T, target string, body []byte) {
		head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", target, len(body))
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head + string(body))))
		if err != nil || req.Method != http.MethodPost || req.Host != "localhost" || g.table.Load().entryAt("", req) == nil {
			return
		}
		sent = initiators.Request{}
		w := httptest.NewRecorder()
		g.ServeHTTP(w, req)
		if w.Code != http.StatusOK {
			if w.Code != http.StatusTemporaryRedirect && (w.Code < 400 || w.Code >= 500) || sent.Body != nil {
				t.Errorf("%q %q: %d %s, sent %q", target, body, w.Code, w.Body, sent.Body)
			}
			return
		}
		checkMapped(t, req.URL, sent)
	})
}

func checkMapped(t *testing.T, u *url.URL, sent initiators.Request) {
	t.Helper()
	var object map[string]json.RawMessage
	if sent.ContentType != typeJSON || json.Unmarshal(sent.Body, &object) != nil {
		t.Fatalf("%q: sent is %s %q", u, sent.ContentType, sent.Body)
	}
	member, value := "id", strings.TrimPrefix(u.EscapedPath(), "/a/")
	if rest, ok := strings.CutPrefix(u.EscapedPath(), "/b/"); ok {
		member, value = "rest", rest
	}
	value, err := url.PathUnescape(value)
	var got string
	if err != nil || json.Unmarshal(object[member], &got) != nil || utf8.ValidString(value) && got != value {
		t.Errorf("%q: %s is %s, want %q", u, member, object[member], value)
	}
}
