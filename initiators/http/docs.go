package http

import (
	"embed"
	"path"
	"strings"

	"github.com/skybus-io/skybus/bus"
)

const docsPath = "/v1/docs"

// docsPolicy lets the page load its own files and talk to its own origin, and nothing else.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

//go:embed docs/index.html docs/docs.css docs/docs.js docs/openapi.js
var docsFiles embed.FS

// docsFile is the file that a path is for, empty for others.
func docsFile(urlPath string) string {
	if urlPath == docsPath {
		return "docs/index.html"
	}
	name, ok := strings.CutPrefix(urlPath, docsPath+"/")
	if !ok {
		return ""
	}
	switch name {
	case "docs.css", "docs.js", "openapi.js":
		return "docs/" + name
	}
	return ""
}

// docsPage is the page, or one of its files.
func docsPage(x *exchange) (*rendered, error) {
	name := docsFile(x.request.URL.EscapedPath())
	body, err := docsFiles.ReadFile(name)
	if err != nil { // it is built in
		return nil, bus.Errorf(bus.Internal, "the page is not there: %w", err)
	}
	h := x.Header()
	h.Set("Content-Security-Policy", docsPolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	return newRendered(docsType(name), body), nil
}

func docsType(name string) string {
	switch path.Ext(name) {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	}
	return "text/html; charset=utf-8"
}
