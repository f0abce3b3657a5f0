package micro

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/skybus-io/skybus/micro/registry"
)

// Bounds of a schema. What is larger is left out: it is for people and tools that look on, and calls go without.
const (
	maxSchema      = 8 << 10 // bytes
	maxSchemaTypes = 1024    // types within types, each as often as it is met
)

// schemaOf is the JSON schema (draft 2020-12) of the JSON that values of t are read from or written as: of a request, in which
// every field may be missing and is its zero value then, or of a response, in which those that are always written are
// required. Fields that t does not have are ignored, so they are allowed. It is nil for bytes as they are, for types that say
// nothing, that contain themselves or that are no JSON, and for what is too large.
func schemaOf(t reflect.Type, request bool) json.RawMessage {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || isBytes(t) {
		return nil
	}
	w := schemaWalk{known: map[reflect.Type]*jsonschema.Schema{}, inside: map[reflect.Type]bool{}}
	if !w.visit(t) {
		return nil
	}
	schema, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: w.known})
	if err != nil {
		return nil
	}
	loosen(schema, request)
	data, err := json.Marshal(schema)
	if err != nil || len(data) > maxSchema || string(data) == "true" {
		return nil
	}
	return data
}

func isBytes(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

// schemaWalk looks at a type before its schema is made: for what encoding/json writes in another way than the kind of the
// type says, and for what would have no end.
type schemaWalk struct {
	known  map[reflect.Type]*jsonschema.Schema
	inside map[reflect.Type]bool
	types  int
}

// visit tells whether t can be described.
func (w *schemaWalk) visit(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	w.types++
	if w.types > maxSchemaTypes || w.inside[t] {
		return false
	}
	if s := ownSchema(t); s != nil {
		w.known[t] = s
		return true
	}
	w.inside[t] = true
	defer delete(w.inside, t)
	switch t.Kind() {
	case reflect.Slice, reflect.Array, reflect.Map:
		return w.visit(t.Elem())
	case reflect.Struct:
		for f := range t.Fields() {
			if !w.visitField(f) {
				return false
			}
		}
		return true
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return false
	default:
		return true
	}
}

func (w *schemaWalk) visitField(f reflect.StructField) bool {
	tag := f.Tag.Get("json")
	name, options, _ := strings.Cut(tag, ",")
	switch {
	case f.Anonymous && tag != "":
		return false // its fields are taken for the struct's own
	case f.Anonymous:
		return w.visit(f.Type)
	case !f.IsExported() || tag == "-":
		return true
	case slices.Contains(strings.Split(options, ","), "string") || name == "-":
		return false
	}
	return w.visit(f.Type)
}

// ownSchema is the schema of a type that has a way of its own to be written, nil for others.
func ownSchema(t reflect.Type) *jsonschema.Schema {
	is := func(interfaces ...reflect.Type) bool {
		return slices.ContainsFunc(interfaces, reflect.PointerTo(t).Implements)
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		return &jsonschema.Schema{Type: "string", Format: "date-time"}
	case is(reflect.TypeFor[json.Marshaler](), reflect.TypeFor[json.Unmarshaler]()):
		return &jsonschema.Schema{} // whatever it makes of itself
	case is(reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler]()):
		return &jsonschema.Schema{Type: "string"}
	case isBytes(t):
		return &jsonschema.Schema{Types: []string{"null", "string"}, ContentEncoding: "base64"}
	}
	return nil
}

// loosen makes a schema as codecs are: see [schemaOf].
func loosen(s *jsonschema.Schema, request bool) {
	if s == nil {
		return
	}
	if request {
		s.Required = nil
	}
	if slices.Equal(s.Types, []string{"null"}) {
		s.Types = nil // a pointer to what may be anything
	}
	if a := s.AdditionalProperties; a != nil && a.Not != nil {
		s.AdditionalProperties = nil
	}
	loosen(s.AdditionalProperties, request)
	loosen(s.Items, request)
	for _, p := range s.Properties {
		loosen(p, request)
	}
}

// endpointRecords are endpoints as the instance's record tells of them, with their schemas as far as there is room.
func (s *Service) endpointRecords(eps []*endpoint) []registry.Endpoint {
	room := maxEndpointsSize
	for _, e := range eps {
		room -= e.size
	}
	records := make([]registry.Endpoint, 0, len(eps))
	left := 0
	for _, e := range eps {
		r := e.record()
		if room >= e.schemaSize {
			room -= e.schemaSize
			r.Request, r.Response = e.requestSchema, e.responseSchema
		} else {
			left++
		}
		records = append(records, r)
	}
	if left > 0 {
		s.schemasLeft.Do(func() {
			s.log.Warn("the schemas of some endpoints do not fit into the record of the instance", "left_out", left, "endpoints", len(eps))
		})
	}
	return records
}
