package http_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	gateway "github.com/skybus-io/skybus/initiators/http"

	"github.com/skybus-io/skybus/bus/bustest"
)

// rawPath sends a request whose target is written as it is, and returns the answer.
func (s *site) rawPath(t testing.TB, method, target string, headers ...string) answer {
	t.Helper()
	c := (&served{addr: strings.TrimPrefix(s.at, "http://")}).dial(t)
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	lines := append([]string{method + " " + target + " HTTP/1.1", "Host: localhost", "Connection: close"}, headers...)
	if _, err := io.WriteString(c, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%.60q: %v", target, err)
	}
	return read(t, resp)
}

// A path that could be read in two ways reaches no entry, least of all another one than it says; a parameter is what stands in its place.
func TestHostilePaths(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{
		"item": `{"path":"/item/{id}","call":"app.echo"}`, "admin": `{"path":"/admin/{rest...}","call":"app.fail","request":{"body":"none","fields":{"code":"never"}}}`,
	})
	for target, want := range map[string]string{
		"/item/7":                            `{"id":"7"}`,
		"/item/a%20b":                        `{"id":"a b"}`,
		"/item/%3Cb%3E":                      `{"id":"<b>"}`,
		"/item/*":                            `{"id":"*"}`,
		"/item/a;b=c":                        `{"id":"a;b=c"}`,
		"/item/%C3%A4":                       `{"id":"ä"}`,
		"/item/%ff":                          "400 or utf8",
		"/item/..%2fadmin":                   "400",
		"/item/%2e%2e/admin/x":               "400",
		"/item/../admin/x":                   "400",
		"/item/./7":                          "400",
		"//item/7":                           "400",
		"/item//7":                           "400",
		"/item/%2e%2e":                       "400",
		"/item/a%2fb":                        "400",
		"/item/a%5cb":                        "400",
		`/item/a\b`:                          "400",
		"/item/%00":                          "400",
		"/item/a%0d%0aX:y":                   "400",
		"/item/%252e%252e":                   "400",
		"/item/%c0%ae":                       "400",
		"/item/7/8":                          "404",
		"/item/":                             "404",
		"/ITEM/7":                            "404",
		"/item/" + strings.Repeat("x", 5000): `{"id":"` + strings.Repeat("x", 5000) + `"}`,
		"/item/7?id=8":                       `{"id":"7"}`,
		"/item/7?%zz":                        "400",
		"http://elsewhere/item/7":            "421 or 200",
		"*":                                  "400",
		"item/7":                             "400",
	} {
		a := s.rawPath(t, "GET", target)
		switch {
		case want == "421 or 200": // by the listener's address; never fetched from elsewhere
			if a.status != 200 && a.status != 421 {
				t.Errorf("%.60s: %d %.200s", target, a.status, a.body)
			}
		case want == "400 or utf8":
			if a.status != 400 && !json.Valid([]byte(a.body)) {
				t.Errorf("%.60s: %d %.200s", target, a.status, a.body)
			}
		case strings.HasPrefix(want, "{"):
			if a.status != 200 || a.body != want {
				t.Errorf("%.60s: %d %.200s, want %.200s", target, a.status, a.body, want)
			}
		case fmt.Sprint(a.status) != want:
			t.Errorf("%.60s: %d %.200s, want %s", target, a.status, a.body, want)
		}
	}
	for _, method := range []string{"TRACE", "CONNECT", "PROPFIND", "get"} {
		if a := s.rawPath(t, method, "/item/7"); a.status != 405 {
			t.Errorf("%s: %d", method, a.status)
		}
	}
}

// What comes from a path never makes a subject of more, or of less, than one token.
func TestHostileSubjects(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{"pub": `{"path":"/pub/{t}","publish":"default.dev.pub.{path.t}.end"}`})
	heard := make(chan *nats.Msg, 100)
	sub, err := h.conn.NATS().ChanSubscribe("default.dev.pub.>", heard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() }) // the connection is closed after
	for _, token := range []string{"a.b", "*", "%3E", "a%20b", "%24JS", "..", "%09", "%7f", strings.Repeat("x", 65), strings.Repeat("x", 5000), "%C3%A4", "a%0d%0aPUB"} {
		if a := s.rawPath(t, "POST", "/pub/"+token, "Content-Length: 0"); a.status != 400 {
			t.Errorf("%.40s: %d %.200s", token, a.status, a.body)
		}
	}
	if a := s.rawPath(t, "POST", "/pub/good", "Content-Length: 0"); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if m := bustest.Receive(t, "the message", heard); m.Subject != "default.dev.pub.good.end" {
		t.Errorf("published on %q", m.Subject)
	}
	if h.conn.NATS().Stats().Reconnects != 0 {
		t.Error("the connection was lost")
	}
}

// Whatever comes, the gateway knows what it does with it: an entry gets a request that is JSON, or there is a status of an error.
func FuzzExplain(f *testing.F) {
	f.Add("GET /item/7?a=1 HTTP/1.1\r\nHost: x\r\n\r\n")
	f.Add("POST /item/%2e%2e HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	f.Add("PUT /m/x/y?n=1&n=2&%zz HTTP/1.1\r\nHost: A.b:80\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=b")
	f.Add("POST /f HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 60\r\n\r\n--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b--\r\n")
	f.Add("POST /f HTTP/1.1\r\nHost: x\r\nContent-Type: application/msgpack\r\nAccept: text/html;q=0.1, */*;q=0\r\nContent-Length: 2\r\n\r\n\x81\xa1")
	f.Add("GET http://x/item//7 HTTP/1.0\r\nCookie: c=\"\r\nSkybus-Timeout: 1h\r\n\r\n")
	entries := []gateway.Stored{}
	for i, text := range []string{
		`{"path":"/item/{id}","call":"a.b"}`, `{"path":"/f","call":"a.b","codec":"json","max_body":1000}`, `{"path":"/v/{rest...}","host":"a.b","route":"r"}`,
		`{"path":"/m/{a}/{b}","call":"a.b","request":{"fields":{"x.y":"{path.a}","n":"{query.n|int|optional}","c":"{cookie.c|optional}","h":"{header.X|default:0}","f":"{form.a|optional}","v":"{body.a.b|optional}"},"header":{"X-A":"{query.h|default:}"}}}`,
	} {
		entries = append(entries, gateway.Stored{Name: fmt.Sprint("e", i), Entry: parse(f, text), Revision: uint64(i + 1)})
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			t.Skip() // no server would have read it as a request
		}
		x := gateway.Explain(entries, r.WithContext(t.Context()), "")
		switch {
		case x.Request != nil && (x.Entry == "" || !json.Valid(orEmpty(x.Request.Body)) || x.Request.ContentType != typeJSON && x.Request.ContentType != typeMsgpack):
			t.Fatalf("%q: %+v", text, x)
		case x.Request == nil && x.Route == "" && (x.Status < 300 || x.Status > 599 || x.Problem == ""):
			t.Fatalf("%q: %+v", text, x)
		case x.Entry == "e0" && strings.Contains(x.Parameters["id"], "/"):
			t.Fatalf("%q: the parameter is %q", text, x.Parameters["id"])
		}
	})
}

func orEmpty(body []byte) []byte {
	if len(body) == 0 {
		return []byte("{}")
	}
	return body
}

// Nothing that a template prints gets out of where it stands.
func FuzzTemplateEscapes(f *testing.F) {
	h := build(f)
	s := h.open(f, gateway.Config{}, map[string]string{"t": `{"method":"POST","path":"/t","call":"app.echo","templates":{
		"application/xml":"<a b=\"{{.Response.v}}\">{{.Response.v}}{{with .Response.v}}<i>{{.}}</i>{{end}}</a>","application/vnd.t+json":"{\"v\":{{.Response.v}},\"w\":[{{.Response.v | printf \"%s!\"}}]}"}}`})
	for _, seed := range []string{"", "x", `"><script>`, "]]>", "&amp;", "\"\\\n", "{{.}}", "a'b", "\u2028", "<!--"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, v string) {
		v = strings.ToValidUTF8(v, "")
		body, err := json.Marshal(map[string]string{"v": v})
		if err != nil {
			t.Skip() // JSON cannot say it
		}
		ask := func(accept string) []byte {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/t", bytes.NewReader(body))
			r.Header.Set("Accept", accept)
			w := httptest.NewRecorder()
			s.gate.ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			return w.Body.Bytes()
		}
		var doc struct {
			XMLName xml.Name `xml:"a"`
			B       string   `xml:"b,attr"`
			Text    string   `xml:",chardata"`
			Inner   []string `xml:"i"`
		}
		if out := ask("application/xml"); xml.Unmarshal(out, &doc) != nil || len(doc.Inner) > 1 {
			t.Fatalf("%q makes %s", v, out)
		}
		var object struct {
			V string   `json:"v"`
			W []string `json:"w"`
		}
		if out := ask("application/vnd.t+json"); json.Unmarshal(out, &object) != nil || object.V != v || len(object.W) != 1 || object.W[0] != v+"!" {
			t.Fatalf("%q makes %s", v, out)
		}
	})
}
