package httpapi

import (
	"bytes"
	_ "embed" // for the document
	"net/http"
	"strconv"
)

//go:embed openapi.json
var openAPI []byte

// Document is the OpenAPI document of both APIs, as it is served at /v1/openapi.json. The caller may change it.
func Document() []byte { return bytes.Clone(openAPI) }

// describe answers with the OpenAPI document of both APIs.
func (h *Handler) describe(w http.ResponseWriter, _ *http.Request) error {
	head := w.Header()
	head.Set("Content-Type", typeJSON)
	head.Set("Cache-Control", "no-cache")
	head.Set("Content-Length", strconv.Itoa(len(openAPI)))
	_, _ = w.Write(openAPI) // the client has gone
	return nil
}
