package http_test

import (
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	gateway "github.com/skybus-io/skybus/initiators/http"
)

// The page needs nothing from elsewhere, and its policy would let it have nothing.
func TestDocs(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{})
	page := send(t, "GET", at+"/v1/docs", "")
	if page.status != http.StatusOK || page.header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d %v", page.status, page.header)
	}
	policy := page.header.Get("Content-Security-Policy")
	for _, directive := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(policy, directive) {
			t.Errorf("policy %q lacks %s", policy, directive)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
	files := checkMarkup(t, page.body)
	if len(files) != 4 { // one of them is the document
		t.Errorf("it leads to %q", files)
	}
	outside := regexp.MustCompile(`https?://|\bimport\b|\beval\b|innerHTML|outerHTML|insertAdjacentHTML|document\.write|localStorage|sessionStorage|\.cookie`)
	for _, f := range files {
		a := send(t, "GET", at+"/v1/"+f, "")
		if a.status != http.StatusOK || a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("ETag") == "" {
			t.Errorf("%s: %d %v", f, a.status, a.header)
		}
		text := strings.ReplaceAll(a.body, "https://example.org/", "") // an example of a URI
		if f != "openapi.json" && outside.MatchString(text) {
			t.Errorf("%s has %q", f, outside.FindString(text))
		}
		if again := send(t, "GET", at+"/v1/"+f, "", "If-None-Match", a.header.Get("ETag")); again.status != http.StatusNotModified {
			t.Errorf("%s again: %d", f, again.status)
		}
	}
	for _, path := range []string{"/v1/docs/", "/v1/docs/index.html", "/v1/docs/../docs/docs.js", "/v1/docs/%64ocs.js", "/v1/docs/other.js"} {
		if a := send(t, "GET", at+path, ""); a.status == http.StatusOK {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if a := send(t, "POST", at+"/v1/docs", "{}"); a.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", a.status)
	}
}

// checkMarkup finds what a page has that its policy forbids, or that a keyboard or a reader of screens would miss. It returns where it leads.
func checkMarkup(t *testing.T, page string) []string {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var files []string
	ids := map[string]bool{}
	for n := range root.Descendants() {
		if n.Type == html.TextNode && n.Parent.Data != "noscript" && (n.Parent.Data == "script" || n.Parent.Data == "style") && strings.TrimSpace(n.Data) != "" {
			t.Errorf("inline %s", n.Parent.Data)
		}
		for _, a := range n.Attr {
			switch {
			case strings.HasPrefix(a.Key, "on"), a.Key == "style":
				t.Errorf("<%s> has %s", n.Data, a.Key)
			case a.Key == "id" && ids[a.Val]:
				t.Errorf("two elements are called %s", a.Val)
			case a.Key == "id":
				ids[a.Val] = true
			case (a.Key == "src" || a.Key == "href") && !strings.HasPrefix(a.Val, "#") && !seen[a.Val]:
				seen[a.Val] = true
				files = append(files, a.Val)
				if strings.Contains(a.Val, ":") || strings.HasPrefix(a.Val, "/") {
					t.Errorf("it leads to %s", a.Val)
				}
			}
		}
		if n.Data == "input" || n.Data == "select" {
			if n.Parent.Data != "label" {
				t.Errorf("an <%s> without a label", n.Data)
			}
		}
	}
	return files
}

// TestDocsScript runs the tests of the script that has nothing to do with a page, in Node.
func TestDocsScript(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	switch {
	case err != nil && os.Getenv("CI") == "true":
		t.Fatal(err)
	case err != nil:
		t.Skip(err) // there is no Node, which CI has
	}
	cmd := exec.CommandContext(t.Context(), node, "--test", "testdata/openapi.test.mjs")
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
