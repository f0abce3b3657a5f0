package http

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/skybus-io/skybus/bus"
)

const componentsRef = "#/components/"

// checkMounted tells whether documents can be taken in.
func checkMounted(documents map[string]json.RawMessage) error {
	for _, name := range slices.Sorted(maps.Keys(documents)) {
		if err := bus.CheckToken("name", name); err != nil {
			return bus.Errorf(bus.InvalidArgument, "gateway: OpenAPI.Mounted: %s", bus.AsError(err).Message)
		}
		if _, err := parseMounted(documents[name]); err != nil {
			return bus.Errorf(bus.InvalidArgument, "gateway: OpenAPI.Mounted: %q: %w", name, err)
		}
	}
	return nil
}

// mountedDocument is a document of OpenAPI 3.1 of somebody else.
type mountedDocument struct {
	OpenAPI    string                    `json:"openapi"`
	Tags       []apiTag                  `json:"tags"`
	Paths      map[string]map[string]any `json:"paths"`
	Components map[string]map[string]any `json:"components"`
	Security   []map[string][]string     `json:"security"`
}

func parseMounted(raw json.RawMessage) (doc mountedDocument, err error) {
	if err := json.Unmarshal(raw, &doc); err != nil {
		return doc, err
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		return doc, bus.Errorf(bus.InvalidArgument, "its version is %.20q: want OpenAPI 3.1", doc.OpenAPI)
	}
	return doc, nil
}

// mounted takes in the documents of what Config.Mux serves. Their components and operations are called after them, so that no names are the same.
func (b *docBuilder) mounted() {
	documents := b.g.cfg.OpenAPI.Mounted
	for _, name := range slices.Sorted(maps.Keys(documents)) {
		doc, err := parseMounted(documents[name])
		if err != nil {
			continue // New has refused it
		}
		r := renamer{name + "."}
		for kind, components := range doc.Components {
			if b.doc.Components[kind] == nil {
				b.doc.Components[kind] = map[string]any{}
			}
			for component, v := range components {
				b.doc.Components[kind][r.prefix+component] = r.rename(v)
			}
		}
		for path, item := range doc.Paths {
			b.doc.Paths[path] = r.item(item, doc.Security)
		}
		for _, tag := range doc.Tags {
			b.tag(tag)
		}
	}
}

// renamer renames what a document refers to.
type renamer struct{ prefix string }

// item is the operations of a path; security is that of its document.
func (r renamer) item(item map[string]any, security []map[string][]string) map[string]any {
	out := make(map[string]any, len(item))
	for key, v := range item {
		v = r.rename(v)
		if op, ok := v.(map[string]any); ok && isMethod(key) {
			if id, ok := op["operationId"].(string); ok {
				op["operationId"] = r.prefix + id
			}
			if _, ok := op["security"]; ok {
				op["security"] = r.requirements(op["security"])
			} else if security != nil {
				op["security"] = r.requirements(security)
			}
		}
		out[key] = v
	}
	return out
}

func isMethod(key string) bool {
	return slices.Contains([]string{
		http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodOptions, http.MethodHead, http.MethodPatch, http.MethodTrace,
	}, strings.ToUpper(key))
}

// requirements are security requirements, whose schemes are components.
func (r renamer) requirements(v any) []map[string]any {
	raw, _ := json.Marshal(v) // it was JSON
	var list []map[string]any
	_ = json.Unmarshal(raw, &list) // what is none requires nothing anybody could give
	out := make([]map[string]any, 0, len(list))
	for _, all := range list {
		renamed := map[string]any{}
		for scheme, scopes := range all {
			renamed[r.prefix+scheme] = scopes
		}
		out = append(out, renamed)
	}
	return out
}

// rename is v with references to components of their new names. It shares nothing with v.
func (r renamer) rename(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, inner := range v {
			out[key] = r.rename(inner)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, inner := range v {
			out[i] = r.rename(inner)
		}
		return out
	case string:
		rest, ok := strings.CutPrefix(v, componentsRef)
		if kind, name, more := strings.Cut(rest, "/"); ok && more {
			return componentsRef + kind + "/" + r.prefix + name
		}
	}
	return v
}
