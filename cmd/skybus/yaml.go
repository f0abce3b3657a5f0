package main

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
)

// yamlOf is JSON text as block YAML, with the same names and order. Library encoders write strings such as .inf, --- and
// control characters without quotes, and what is printed here may come from anyone.
func yamlOf(text string) (string, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	v, err := readTree(dec)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	writeYAML(&b, v, "")
	return b.String(), nil
}

// yamlObject keeps the order of its members.
type yamlObject []yamlMember

type yamlMember struct {
	name  string
	value any
}

func readTree(dec *json.Decoder) (any, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		return readObject(dec)
	case json.Delim('['):
		return readArray(dec)
	}
	return token, nil
}

func readObject(dec *json.Decoder) (any, error) {
	object := yamlObject{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		value, err := readTree(dec)
		if err != nil {
			return nil, err
		}
		text, _ := name.(string) // the decoder takes nothing else for a name
		object = append(object, yamlMember{text, value})
	}
	_, err := dec.Token()
	return object, err
}

func readArray(dec *json.Decoder) (any, error) {
	array := []any{}
	for dec.More() {
		value, err := readTree(dec)
		if err != nil {
			return nil, err
		}
		array = append(array, value)
	}
	_, err := dec.Token()
	return array, err
}

// writeYAML writes v where a line has been begun; indent is for the lines that follow.
func writeYAML(b *strings.Builder, v any, indent string) {
	switch v := v.(type) {
	case yamlObject:
		if len(v) > 0 {
			writeMembers(b, v, indent)
			return
		}
		b.WriteString("{}\n")
	case []any:
		if len(v) > 0 {
			writeItems(b, v, indent)
			return
		}
		b.WriteString("[]\n")
	default:
		b.WriteString(yamlScalar(v) + "\n")
	}
}

func writeMembers(b *strings.Builder, object yamlObject, indent string) {
	for i, m := range object {
		if i > 0 {
			b.WriteString(indent)
		}
		b.WriteString(yamlScalar(m.name) + ":")
		if inner, ok := isBlock(m.value); ok {
			b.WriteString("\n" + indent + inner)
			writeYAML(b, m.value, indent+inner)
			continue
		}
		b.WriteString(" ")
		writeYAML(b, m.value, indent)
	}
}

func writeItems(b *strings.Builder, array []any, indent string) {
	for i, item := range array {
		if i > 0 {
			b.WriteString(indent)
		}
		b.WriteString("- ")
		writeYAML(b, item, indent+"  ")
	}
}

// isBlock tells whether v takes lines of its own after a name, and how far they move in.
func isBlock(v any) (inner string, ok bool) {
	switch v := v.(type) {
	case yamlObject:
		return "  ", len(v) > 0
	case []any:
		return "", len(v) > 0
	}
	return "", false
}

func yamlScalar(v any) string {
	switch v := v.(type) {
	case string:
		if plainYAML.MatchString(v) && !reservedYAML.MatchString(v) {
			return v
		}
		return strconv.Quote(v) // all its escapes are YAML's too
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	return "null"
}

// What needs no quotes by any version of YAML, and the words that have a meaning in one of them.
var (
	plainYAML    = regexp.MustCompile(`^[A-Za-z_/](?:[\w./@+-]|:[\w./@-]| [\w./@+])*$`)
	reservedYAML = regexp.MustCompile(`^(?i:true|false|yes|no|on|off|null|y|n)$`)
)
