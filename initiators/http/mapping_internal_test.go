package http

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
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
// path, and fields of the entry, are those of the path, also as a service in Go reads them, or the request is refused.
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
		{"/a/x?Id=1&iD=2", `{"ID":"third"}`},
		{"/b/x?re\u017ft=1", `{"re\u017ft":null}`},
		{"/c/x?\u017fKU=1", `{"u\u017fer":{"sKu":"y"},"user":{"\u017f\u212au":"y","SKU":[],"name":"z"}}`},
		{"/c/x", "{\"\u017fku\":1,\"u\u017fer\":{\"s\u212au\":\"y\"}}"},
		{"/c/x", `{"user":[{"sku":"y"}],"USER":null}`},
	} {
		f.Add(s[0], []byte(s[1]))
	}
	var sent initiators.Request
	g := mappingGateway(f, noteTarget{&sent})
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

// mappingGateway has entries with names in their paths.
func mappingGateway(t testing.TB, target initiators.Target) *Gateway {
	t.Helper()
	g, err := newGateway(initiators.Sources{}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	g.resolve = func(initiators.Spec) (initiators.Target, error) { return target, nil }
	all := map[string]Stored{}
	for i, path := range []string{"/a/{id}", "/b/{rest...}", "/c/{sku}"} {
		name := fmt.Sprint("e", i)
		spec := initiators.Spec{Call: "app.echo"}
		if i == 2 {
			spec.Request = &initiators.Mapping{Fields: initiators.Fields{"user.sku": "{path.sku}"}}
		}
		all[name] = Stored{Name: name, Revision: uint64(i + 1), Entry: Entry{Path: path, Spec: spec}}
	}
	g.table.Store(g.compile(all, nil))
	if n := len(g.Refused()); n > 0 {
		t.Fatalf("%v", g.Refused())
	}
	return g
}

// asService is what services in Go read of what they are sent.
type asService struct {
	ID   json.RawMessage `json:"id"`
	Rest json.RawMessage `json:"rest"`
	SKU  json.RawMessage `json:"sku"`
	User struct {
		SKU json.RawMessage `json:"sku"`
	} `json:"user"`
}

func checkMapped(t *testing.T, u *url.URL, sent initiators.Request) {
	t.Helper()
	var object map[string]json.RawMessage
	var read asService
	if sent.ContentType != typeJSON || json.Unmarshal(sent.Body, &object) != nil {
		t.Fatalf("%q: sent is %s %q", u, sent.ContentType, sent.Body)
	}
	err := json.Unmarshal(sent.Body, &read)
	path := u.EscapedPath()
	members := map[string][]json.RawMessage{"/a/": {object["id"], read.ID}, "/b/": {object["rest"], read.Rest}, "/c/": {object["sku"], read.SKU, read.User.SKU}}[path[:3]]
	if path[:3] != "/c/" {
		err = nil // the member user is the client's
	}
	value, bad := url.PathUnescape(path[3:])
	if err = errors.Join(err, bad); err != nil {
		t.Fatalf("%q: %v in %s", u, err, sent.Body)
	}
	for i, member := range members {
		var got string
		if err := json.Unmarshal(member, &got); err != nil || utf8.ValidString(value) && got != value {
			t.Errorf("%q: member %d is %s, want %q; sent is %s", u, i, member, value, sent.Body)
		}
	}
}
