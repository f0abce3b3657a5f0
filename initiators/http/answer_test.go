package http_test

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"github.com/skybus-io/skybus/bus"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/micro/route"
)

const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

func TestAccept(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{})
	tests := []struct {
		accept []string
		html   bool
	}{
		{nil, false},
		{[]string{""}, false},
		{[]string{"*/*"}, false},
		{[]string{browser}, true},
		{[]string{"text/html"}, true},
		{[]string{"TEXT/HTML; charset=utf-8"}, true},
		{[]string{"application/json"}, false},
		{[]string{"application/json, text/html"}, false},
		{[]string{"text/html, application/json"}, true},
		{[]string{"text/html;q=0.5, application/json"}, false},
		{[]string{"application/json;q=0.5, text/html"}, true},
		{[]string{"application/json;q=0.5", "text/html;q=0.6"}, true},
		{[]string{"text/html;q=0"}, false},
		{[]string{"text/html;q=0, application/json;q=0"}, false},
		{[]string{"text/html;q=abc"}, false},
		{[]string{"text/html;q=-1"}, false},
		{[]string{"application/msgpack,text/html"}, false},
		{[]string{"application/problem+json, text/html"}, false},
		{[]string{"text/plain, text/htmlx, xtext/html"}, false},
		{[]string{",,;;, text/html ,"}, true},
		{[]string{strings.Repeat("a/b,", 1000) + "text/html"}, true},
	}
	for _, tt := range tests {
		for _, path := range []string{"/echo", "/missing"} {
			var headers []string
			for _, v := range tt.accept {
				headers = append(headers, "Accept", v)
			}
			a := post(t, at+path, `{"a":1}`, headers...)
			if got := strings.HasPrefix(a.header.Get("Content-Type"), "text/html"); got != tt.html {
				t.Errorf("%.80q to %s: answered as %s", tt.accept, path, a.header.Get("Content-Type"))
			}
		}
	}
}

// Every code has its status, its page and its problem.
func TestProblems(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{})
	codes := []bus.Code{
		bus.Unknown, bus.InvalidArgument, bus.DeadlineExceeded, bus.NotFound, bus.AlreadyExists, bus.PermissionDenied,
		bus.ResourceExhausted, bus.FailedPrecondition, bus.Aborted, bus.OutOfRange, bus.Unimplemented, bus.Internal, bus.Unavailable,
		bus.DataLoss, bus.Unauthenticated, bus.Canceled,
	}
	for _, code := range codes {
		f := failure{Code: code, Message: "it \"went\"\nwrong", Details: map[string]string{"field": "a"}}
		body, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		a := post(t, at+"/fail", string(body), "X-Request-Id", "id-1")
		want := problem{
			Type: "about:blank", Title: http.StatusText(code.Status()), Status: code.Status(), Code: code, RequestID: "id-1",
			Detail:  `route "fail", step 1 (app.fail): ` + f.Message,
			Details: map[string]string{"field": "a", "route": "fail", "step": "1", "service": "app", "endpoint": "fail"},
		}
		if code == bus.Canceled {
			want.Title = "Client Closed Request"
		}
		if diff := cmp.Diff(want, a.problem(t)); diff != "" {
			t.Errorf("%s: problem (-want +got):\n%s", code, diff)
		}
		if a.status != code.Status() || a.header.Get("Content-Type") != typeProblem || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d as %s, %s", code, a.status, a.header.Get("Content-Type"), a.header.Get("Cache-Control"))
		}
		if retry := a.header.Get("Retry-After"); (retry != "") != (code == bus.Unavailable) {
			t.Errorf("%s: Retry-After %q", code, retry)
		}
		page := post(t, at+"/fail", string(body), "Accept", browser)
		if page.status != code.Status() || !strings.Contains(page.body, "it &#34;went&#34;") || page.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: page %d %s", code, page.status, page.body)
		}
	}
}

// A status of the service's own wins over that of the code.
func TestProblemStatus(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{})
	a := post(t, at+"/fail", `{"code":"failed_precondition","message":"locked","status":423}`)
	if p := a.problem(t); a.status != 423 || p.Status != 423 || p.Title != "Locked" || p.Code != bus.FailedPrecondition {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// A status that is none of HTTP's is an internal error, and no panic.
func TestProblemWildStatus(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{})
	for _, status := range []int{-1, 1, 99, 100, 101, 200, 204, 304, 399, 600, 1000, 99999} {
		for _, accept := range []string{typeJSON, browser} {
			a := post(t, at+"/fail", fmt.Sprintf(`{"code":"internal","message":"wild","status":%d}`, status), "Accept", accept)
			if a.status != http.StatusInternalServerError || !strings.Contains(a.body, "wild") {
				t.Errorf("status %d: answered %d %s", status, a.status, a.body)
			}
		}
	}
}

func TestNobodyServes(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{})
	a := post(t, at+"/nowhere", "{}")
	p := a.problem(t)
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "nobody serves nowhere.get") || p.Details["service"] != "nowhere" || p.Details["route"] != "nowhere" {
		t.Errorf("%d %s", a.status, a.body)
	}
	page := post(t, at+"/nowhere", "{}", "Accept", browser)
	if page.status != http.StatusServiceUnavailable || page.header.Get("Retry-After") == "" || !strings.Contains(page.body, "nobody serves nowhere.get") {
		t.Errorf("%d %s", page.status, page.body)
	}
	if diff := cmp.Diff([]string{"nowhere.get", "", "unavailable"}, cells(t, page.body, "nowhere.get", 4, 2)); diff != "" {
		t.Errorf("hop on the page (-want +got):\n%s", diff)
	}
}

// cells are the texts of the row of a table that begins with first, which has n cells, but for the one called skip.
func cells(t testing.TB, page, first string, n, skip int) []string {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for row := range doc.Descendants() {
		if row.Data != "tr" {
			continue
		}
		var texts []string
		for cell := range row.ChildNodes() {
			if cell.Data == "td" || cell.Data == "th" {
				texts = append(texts, text(cell))
			}
		}
		if len(texts) == n && texts[0] == first {
			return append(texts[:skip:skip], texts[skip+1:]...)
		}
	}
	t.Fatalf("no row %q on the page %s", first, page)
	return nil
}

func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.TrimSpace(b.String())
}

// elements are the names of all elements of a page.
func elements(t testing.TB, page string) map[string]int {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode {
			found[n.Data]++
			for _, a := range n.Attr {
				if strings.HasPrefix(a.Key, "on") {
					found["attribute "+a.Key]++
				}
			}
		}
	}
	return found
}

const attack = `"'><script>alert(1)</script><img src=x onerror=alert(1)>`

// Whatever comes from outside is text on a page.
func TestPageEscapes(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{})
	quoted, err := json.Marshal(attack)
	if err != nil {
		t.Fatal(err)
	}
	form := "application/x-www-form-urlencoded"
	pages := map[string]answer{
		"value":        post(t, at+"/echo", `{"input":`+string(quoted)+`}`, "Accept", browser),
		"field name":   post(t, at+"/echo", `{`+string(quoted)+`:1}`, "Accept", browser),
		"nested":       post(t, at+"/echo", `{"a":[{`+string(quoted)+`:`+string(quoted)+`}]}`, "Accept", browser),
		"no object":    post(t, at+"/echo", string(quoted), "Accept", browser),
		"form":         post(t, at+"/echo", "input=%3Cscript%3Ealert(1)%3C/script%3E", "Accept", browser, "Content-Type", form),
		"MessagePack":  post(t, at+"/echo", encode(t, map[string]any{"a": attack}), "Accept", browser, "Content-Type", typeMsgpack),
		"error":        post(t, at+"/fail", `{"code":"internal","message":`+string(quoted)+`}`, "Accept", browser),
		"code":         post(t, at+"/fail", `{"code":`+string(quoted)+`,"message":"m"}`, "Accept", browser),
		"details":      post(t, at+"/fail", `{"code":"internal","message":"m","details":{`+string(quoted)+`:`+string(quoted)+`}}`, "Accept", browser),
		"path":         post(t, at+"/<script>alert(1)<%2fscript>", "{}", "Accept", browser),
		"request id":   post(t, at+"/echo", "{}", "Accept", browser, "X-Request-Id", attack),
		"content type": post(t, at+"/echo", "{}", "Accept", browser, "Content-Type", "text/<script>alert(1)</script>"),
		"no JSON":      post(t, at+"/echo", attack, "Accept", browser),
	}
	for name, a := range pages {
		if !strings.HasPrefix(a.header.Get("Content-Type"), "text/html; charset=utf-8") {
			t.Errorf("%s: %s", name, a.header.Get("Content-Type"))
		}
		for element := range elements(t, a.body) {
			switch element {
			case "script", "img", "attribute onerror":
				t.Errorf("%s: the page has an element %s:\n%s", name, element, a.body)
			}
		}
		csp := a.header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: the policy %q lacks %s", name, csp, want)
			}
		}
		if strings.Contains(csp, "script-src") || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", name, a.header)
		}
	}
	if a := pages["value"]; !strings.Contains(a.body, "&lt;script&gt;") {
		t.Errorf("the value is not shown: %s", a.body)
	}
}

// What is answered as JSON cannot be taken for a page.
func TestAnswersAreNotSniffed(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{})
	for name, a := range map[string]answer{
		"answer": post(t, at+"/echo", `"<html><script>alert(1)</script>"`), "error": post(t, at+"/missing", "{}"),
		"page": send(t, "GET", at+"/", ""), "no page": send(t, "GET", at+"/x", ""), "method": send(t, "PUT", at+"/echo", ""),
	} {
		if got := a.header.Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("%s: X-Content-Type-Options %q", name, got)
		}
		if a.header.Get("Server") != "" || a.header.Get("X-Powered-By") != "" {
			t.Errorf("%s: headers %v", name, a.header)
		}
	}
	if a := post(t, at+"/echo", `"<script>"`); strings.Contains(a.body, "<script>") && a.header.Get("Content-Type") != typeJSON {
		t.Errorf("%s as %s", a.body, a.header.Get("Content-Type"))
	}
}

func TestAnswerPage(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{})
	a := post(t, at+"/echo", `{"b":9007199254740993,"a":"x","c":1.50}`, "Accept", browser, "X-Request-Id", "id-1")
	for _, want := range []string{"<th>a<td>x", "<th>b<td>9007199254740993", "<th>c<td>1.50", "app.echo", "skybus://default.dev.app/", "Request id-1"} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the page lacks %q:\n%s", want, a.body)
		}
	}
	if i, j := strings.Index(a.body, "<th>a"), strings.Index(a.body, "<th>b"); i > j {
		t.Error("the fields are not in order")
	}
	if a := post(t, at+"/echo", `[1,2]`, "Accept", browser); !strings.Contains(a.body, "<pre>[1,2]</pre>") {
		t.Errorf("what is no object is not shown as it is:\n%s", a.body)
	}
}

func TestAnswerTemplate(t *testing.T) {
	t.Parallel()
	h := build(t)
	page := template.Must(template.New("").Parse(`{{.Route}} {{.Request}} {{.Raw}} {{.Status}} {{.StatusText}} {{range .Fields}}[{{.Name}}={{.Value}}]{{end}}{{with .Error}}{{.Code}}{{end}}{{len .Hops}}`))
	at := h.listen(t, gateway.Config{Answer: page})
	if a := post(t, at+"/echo", `{"a":1}`, "Accept", browser); a.body != `echo {&#34;a&#34;:1} {&#34;a&#34;:1} 200 OK [a=1]1` {
		t.Errorf("%s", a.body)
	}
	if a := post(t, at+"/missing", `{}`, "Accept", browser); a.body != "missing {}  404 Not Found not_found0" {
		t.Errorf("%s", a.body)
	}
	// A template that fails leaves no half of a page.
	broken := h.listen(t, gateway.Config{Answer: template.Must(template.New("").Parse(`<h1>half{{template "nothing"}}`))})
	if a := post(t, broken+"/echo", `{}`, "Accept", browser); a.status != http.StatusInternalServerError || strings.Contains(a.body, "half") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// What optional steps failed with stands in a header of the answer, which is good all the same.
func TestStepErrors(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{})
	body := `{"code":"aborted","message":"not\nnow"}`
	for _, accept := range []string{"*/*", browser} {
		a := post(t, at+"/may", body, "Accept", accept)
		failed, err := route.ParseStepErrors(a.header.Get(route.HeaderStepErrors))
		want := []route.StepError{{Step: "2", Target: "app.fail", Code: bus.Aborted, Message: "aborted: not?now"}}
		if diff := cmp.Diff(want, failed); a.status != http.StatusOK || err != nil || diff != "" {
			t.Errorf("%s: status %d, %v (-want +got):\n%s", accept, a.status, err, diff)
		}
	}
	if a := post(t, at+"/echo", body); a.header.Get(route.HeaderStepErrors) != "" {
		t.Errorf("without errors: %q", a.header.Get(route.HeaderStepErrors))
	}
}
