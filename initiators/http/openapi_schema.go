package http

import (
	"bytes"
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of a schema that is shown.
const (
	maxSchemaDepth   = 32
	maxSchemaText    = 4 << 10 // bytes of a description
	maxSchemaMembers = 1024    // of a list or an object in it
)

// cleanSchema is what is shown of a schema in an instance's record, which anybody can have written: the keywords of JSON Schema 2020-12 whose
// values are of their kinds, so that the result is always valid. What leads elsewhere ($ref, $id, $schema and the like) is left out: it would
// be looked for in the document around it, or on the network. Nil means that nothing is left: any value.
func cleanSchema(raw json.RawMessage) map[string]any {
	if len(raw) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil
	}
	object, _ := v.(map[string]any)
	return cleanObject(object, 0)
}

func cleanObject(schema map[string]any, depth int) map[string]any {
	if depth > maxSchemaDepth {
		return nil
	}
	out := map[string]any{}
	for keyword, v := range schema {
		if clean, ok := cleanKeyword(keyword, v, depth); ok {
			out[keyword] = clean
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// cleanKeyword is the value of a keyword, and whether it is one that is shown.
func cleanKeyword(keyword string, v any, depth int) (any, bool) {
	switch keyword {
	case "type":
		return v, validType(v)
	case "title", "description", "format", "contentEncoding", "contentMediaType":
		s, ok := v.(string)
		return cut(s), ok
	case "pattern":
		s, _ := v.(string)
		_, err := regexp.Compile(s)
		return s, s != "" && err == nil
	case "default", "const":
		return v, true
	case "enum", "examples":
		list, ok := v.([]any)
		return v, ok && len(list) > 0 && len(list) <= maxSchemaMembers
	case "deprecated", "readOnly", "writeOnly", "uniqueItems":
		_, ok := v.(bool)
		return v, ok
	case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum":
		n, ok := v.(json.Number)
		return v, ok && finite(n)
	case "multipleOf":
		n, ok := v.(json.Number)
		return v, ok && finite(n) && positive(n)
	case "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minContains", "maxContains":
		n, ok := v.(json.Number)
		return v, ok && strings.Trim(n.String(), "0123456789") == ""
	case "required":
		return v, uniqueStrings(v)
	}
	return cleanWithin(keyword, v, depth)
}

// cleanWithin is the value of a keyword that holds schemas.
func cleanWithin(keyword string, v any, depth int) (any, bool) {
	switch keyword {
	case "items", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else":
		return cleanAny(v, depth+1)
	case "allOf", "anyOf", "oneOf", "prefixItems":
		list, ok := v.([]any)
		if !ok || len(list) == 0 || len(list) > maxSchemaMembers {
			return nil, false
		}
		out := make([]any, 0, len(list))
		for _, s := range list {
			clean, ok := cleanAny(s, depth+1)
			if !ok {
				return nil, false // without one of them it would say something else
			}
			out = append(out, clean)
		}
		return out, true
	case "properties", "patternProperties", "dependentSchemas":
		members, ok := v.(map[string]any)
		if !ok || len(members) > maxSchemaMembers {
			return nil, false
		}
		out := map[string]any{}
		for name, s := range members {
			if _, err := regexp.Compile(name); err != nil && keyword == "patternProperties" {
				continue
			}
			if clean, ok := cleanAny(s, depth+1); ok {
				out[name] = clean
			}
		}
		return out, true
	}
	return nil, false
}

// cleanAny cleans what is a schema: an object, or true or false.
func cleanAny(v any, depth int) (any, bool) {
	switch v := v.(type) {
	case bool:
		return v, true
	case map[string]any:
		if clean := cleanObject(v, depth); clean != nil {
			return clean, true
		}
		return map[string]any{}, true
	}
	return nil, false
}

func validType(v any) bool {
	known := []string{"null", "boolean", "object", "array", "number", "string", "integer"}
	switch v := v.(type) {
	case string:
		return slices.Contains(known, v)
	case []any:
		for i, t := range v {
			s, ok := t.(string)
			if !ok || !slices.Contains(known, s) || slices.Contains(v[:i], t) {
				return false
			}
		}
		return len(v) > 0
	}
	return false
}

func uniqueStrings(v any) bool {
	list, ok := v.([]any)
	if !ok || len(list) > maxSchemaMembers {
		return false
	}
	seen := map[string]bool{}
	for _, v := range list {
		s, ok := v.(string)
		if !ok || seen[s] {
			return false
		}
		seen[s] = true
	}
	return true
}

func finite(n json.Number) bool {
	f, err := n.Float64()
	return err == nil && !math.IsInf(f, 0)
}

func positive(n json.Number) bool {
	f, _ := n.Float64() // finite looked
	return f > 0
}

// cut is s, not longer than a description may be.
func cut(s string) string {
	if len(s) <= maxSchemaText {
		return s
	}
	s = s[:maxSchemaText]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}

// allOf is the schema of what has to fit all of schemas, of which those that are the same count once. Nil ones say nothing.
func allOf(schemas []map[string]any) map[string]any {
	var all []any
	var seen []string
	for _, s := range schemas {
		if s == nil {
			continue
		}
		text, err := json.Marshal(s)
		if err != nil || slices.Contains(seen, string(text)) {
			continue
		}
		seen = append(seen, string(text))
		all = append(all, s)
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0].(map[string]any)
	}
	return map[string]any{"allOf": all}
}
