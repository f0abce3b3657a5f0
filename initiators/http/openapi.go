package http

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/internal/httpx"
	"github.com/skybus-io/skybus/micro/route"
)

// DefaultMaxDocument bounds the description of the API, in bytes.
const DefaultMaxDocument = 4 << 20

// OpenAPIConfig is about the description of what the gateway serves (/v1/openapi.json) and the page that shows it (/v1/docs). The zero
// value works.
type OpenAPIConfig struct {
	// Off: there are neither of them.
	Off bool
	// Title, Version and Description are what the document says of itself. Empty means "skybus gateway" with the namespace, and "1".
	Title       string
	Version     string
	Description string
	// Mounted are documents of OpenAPI 3.1 that describe what Config.Mux serves, by a name for each. They become part of the gateway's.
	Mounted map[string]json.RawMessage
	// MaxBytes bounds the document, and the list of services. What does not fit is left out: the schemas first, then endpoints and routes. 0 means 4 MiB.
	MaxBytes int
}

func (c OpenAPIConfig) maxBytes() int { return cmp.Or(c.MaxBytes, DefaultMaxDocument) }

// The parts of a document of OpenAPI 3.1.
type (
	apiDocument struct {
		OpenAPI    string                    `json:"openapi"`
		Info       apiInfo                   `json:"info"`
		Servers    []apiServer               `json:"servers"`
		Tags       []apiTag                  `json:"tags"`
		Paths      map[string]map[string]any `json:"paths"`
		Components map[string]map[string]any `json:"components"`
	}
	apiInfo struct {
		Title       string `json:"title"`
		Version     string `json:"version"`
		Description string `json:"description,omitempty"`
	}
	apiServer struct {
		URL string `json:"url"`
	}
	apiTag struct {
		Name        string `json:"name"`
		Description string `json:"description,omitempty"`
	}
	apiOperation struct {
		Tags        []string              `json:"tags"`
		OperationID string                `json:"operationId"`
		Summary     string                `json:"summary,omitempty"`
		Description string                `json:"description,omitempty"`
		Parameters  []any                 `json:"parameters,omitempty"`
		RequestBody *apiBody              `json:"requestBody,omitempty"`
		Responses   map[string]any        `json:"responses"`
		Security    []map[string][]string `json:"security,omitempty"`
		Servers     []apiServer           `json:"servers,omitempty"`
	}
	apiBody struct {
		Description string              `json:"description,omitempty"`
		Content     map[string]apiMedia `json:"content"`
		Required    bool                `json:"required,omitempty"`
	}
	apiMedia struct {
		Schema any `json:"schema"`
	}
	apiResponse struct {
		Description string              `json:"description"`
		Headers     map[string]any      `json:"headers,omitempty"`
		Content     map[string]apiMedia `json:"content,omitempty"`
	}
	apiParameter struct {
		Name        string `json:"name"`
		In          string `json:"in"`
		Description string `json:"description,omitempty"`
		Required    bool   `json:"required,omitempty"`
		Schema      any    `json:"schema"`
		Rest        bool   `json:"x-skybus-rest,omitempty"` // of a parameter in the path that may hold slashes
	}
)

// OpenAPI is the description of what the gateway serves now, as JSON of OpenAPI 3.1: its entries, the routes, and the endpoints that can
// be called. The error is failed_precondition where it is off.
func (g *Gateway) OpenAPI() ([]byte, error) {
	doc, err := g.openAPI()
	if err != nil {
		return nil, err
	}
	return doc.body, nil
}

// Describe is the description that a gateway by cfg, with the routes of runner and these entries, gives of itself. Nothing is served. The entries
// are as [Store.List] has them; those that conflict with others or cannot be read are left out, as gateways do. That a gateway may not have the listeners, the subjects or the
// credentials that an entry asks for is not looked at.
func Describe(runner *route.Runner, entries []Stored, cfg Config) ([]byte, error) {
	for _, name := range cfg.Listeners {
		if err := bus.CheckToken("listener", name); err != nil {
			return nil, bus.Errorf(bus.InvalidArgument, "gateway: Listeners: %w", err)
		}
	}
	cfg.Listeners = listenersOf(entries, cfg.Listeners)
	g, err := newGateway(initiators.Sources{Runner: runner}, cfg)
	if err != nil {
		return nil, err
	}
	g.draw(entries)
	return g.OpenAPI()
}

func (g *Gateway) openAPI() (*rendered, error) {
	if g.cfg.OpenAPI.Off {
		return nil, bus.Errorf(bus.FailedPrecondition, "the gateway is told not to describe its API")
	}
	return g.document.get(g.runner.Client().Registry().Changed, g.tableKey(), g.buildOpenAPI)
}

// tableKey says which entries and routes there are, as they are now.
func (g *Gateway) tableKey() string {
	var key strings.Builder
	fmt.Fprintln(&key, g.Revision())
	names := g.runner.Names()
	slices.Sort(names)
	for _, name := range names {
		stored, _ := g.runner.Route(name) // revision 0 where it cannot be read
		fmt.Fprintf(&key, "%s %d\n", name, stored.Revision)
	}
	return key.String()
}

// buildOpenAPI makes the document, without some of its parts where it is too large with them.
func (g *Gateway) buildOpenAPI() ([]byte, error) {
	limit := g.cfg.OpenAPI.maxBytes()
	for _, room := range []struct {
		schemas    bool
		operations int
	}{{true, maxOperations}, {false, maxOperations}, {false, maxOperations / 8}, {false, maxOperations / 64}} {
		b := newDocBuilder(g, room.schemas, room.operations)
		body, err := json.Marshal(b.build())
		if err != nil {
			return nil, bus.Errorf(bus.Internal, "the description of the API does not encode: %w", err)
		}
		if len(body) < limit {
			return append(body, '\n'), nil
		}
	}
	return nil, bus.Errorf(bus.Internal, "the description of the API has more than %d bytes, even without schemas: there is too much for one document; /v1/services lists what can be called", limit)
}

// title and the like.
func (g *Gateway) apiInfo(left int) apiInfo {
	cfg := g.cfg.OpenAPI
	info := apiInfo{
		Title:       cmp.Or(cfg.Title, "skybus gateway of "+g.runner.Client().Conn().Namespace().String()),
		Version:     cmp.Or(cfg.Version, "1"),
		Description: cfg.Description,
	}
	if left > 0 {
		info.Description = strings.TrimSpace(fmt.Sprintf("%s\n\nThis is not all: %d operations or schemas do not fit, as there are too many, or several for one path.", info.Description, left))
	}
	return info
}

// ref is a reference within the document.
func ref(kind, name string) map[string]string {
	return map[string]string{"$ref": "#/components/" + kind + "/" + name}
}

// sharedComponents are those that operations refer to.
func sharedComponents() map[string]map[string]any {
	problem := func(description string, retry bool) apiResponse {
		r := apiResponse{
			Description: description,
			Headers:     map[string]any{requestIDHeader: ref("headers", requestIDHeader)},
			Content:     map[string]apiMedia{httpx.TypeProblem: {ref("schemas", "Problem")}},
		}
		if retry {
			r.Headers["Retry-After"] = ref("headers", "Retry-After")
		}
		return r
	}
	text := func(description string) map[string]any {
		return map[string]any{"type": "string", "description": description}
	}
	return map[string]map[string]any{
		"schemas": {"Problem": map[string]any{
			"type": "object", "description": "An error (RFC 9457).", "required": []string{"type", "title", "status", "detail", "code"},
			"properties": map[string]any{
				"type": text("A URI, about:blank where the status says all."), "title": text("The status in words."),
				"status":     map[string]any{"type": "integer", "description": "The status of the answer."},
				"detail":     text("What went wrong."),
				"code":       map[string]any{"type": "string", "description": "What kind of error it is.", "enum": errorCodes()},
				"request_id": text("What logs know the request by."),
				"details":    map[string]any{"type": "object", "description": "Facts for programs.", "additionalProperties": map[string]any{"type": "string"}},
				"errors": map[string]any{"type": "array", "items": map[string]any{
					"type": "object", "required": []string{"field", "message"},
					"properties": map[string]any{"field": text("Path of the field that is wrong."), "message": text("What is wrong with it.")},
				}},
			},
		}},
		"responses": {
			"BadRequest": problem("The request is malformed, or the service refuses it.", false), "Unauthenticated": problem("The credential is missing or wrong.", false),
			"PermissionDenied": problem("The credential is not enough.", false), "TooLarge": problem("The body is too large.", false),
			"TooMany": problem("Too many requests.", true), "Unavailable": problem("Nobody serves it now, or everybody has too much to do.", true),
			"DeadlineExceeded": problem("It was not done in time.", false), "Error": problem("Another error.", false),
		},
		"headers": {
			requestIDHeader: map[string]any{"description": "What logs know the request by.", "schema": map[string]string{"type": "string"}},
			"Retry-After":   map[string]any{"description": "Seconds after which to try again.", "schema": map[string]string{"type": "integer"}},
		},
		"parameters": {
			"Version":  apiParameter{Name: "version", In: "query", Description: "Only instances of this version.", Schema: map[string]string{"type": "string"}},
			"Instance": apiParameter{Name: "instance", In: "query", Description: "Only this instance.", Schema: map[string]string{"type": "string"}},
		},
		"securitySchemes": {},
	}
}

// answers are the responses of an operation whose good one has a schema.
func answers(description string, schema any) map[string]any {
	good := apiResponse{
		Description: description,
		Headers:     map[string]any{requestIDHeader: ref("headers", requestIDHeader)},
		Content:     contentOf(schema, typeJSON, typeMessagePack),
	}
	return map[string]any{
		"200": good, "400": ref("responses", "BadRequest"), "413": ref("responses", "TooLarge"), "503": ref("responses", "Unavailable"),
		"504": ref("responses", "DeadlineExceeded"), "default": ref("responses", "Error"),
	}
}

func contentOf(schema any, types ...string) map[string]apiMedia {
	content := map[string]apiMedia{}
	for _, t := range types {
		content[t] = apiMedia{schema}
	}
	return content
}
