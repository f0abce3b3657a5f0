package initiators

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/msgjson"
)

// What a Mapping does with the body that came from outside.
const (
	BodyPass  = "pass"  // it is the request, as it is
	BodyMerge = "merge" // it and what else came is merged into one JSON object
	BodyNone  = "none"  // it is left out
)

// Limits of a mapping.
const (
	MaxFields = 256
	maxDepth  = 16
)

const (
	typeJSON        = "application/json"
	typeMessagePack = "application/msgpack"
)

// Mapping makes a request of what came from outside, or an answer of a reply.
//
// Fields and Header are templates. A placeholder stands for something that came: {path.id}, {query.q}, {header.X-User}, {form.a},
// {remote}, {line}, {record.price}, {file}, {offset}, {claim.sub}; each initiator tells which it has. Every one has {body}, the body as a
// string, {body.a.b}, a member of a JSON body, and {id}, the request id. In the mapping of a reply, {body} is the reply's.
// {{ and }} are braces. Filters follow after bars: {query.n|int}, float, bool, json, lower, upper, trim, base64, default:VALUE, and optional,
// which leaves the field out where there is no value; otherwise a missing value is an error with the code invalid_argument. What is not UTF-8 is
// missing too, unless base64, which takes any bytes, comes first. A template
// that is one placeholder keeps its type; {body.a} is whatever JSON it was, all else is a string. Constants of other types are {=2}, {=true} and so on (see [Fields]).
type Mapping struct {
	// Body is [BodyPass], [BodyMerge] or [BodyNone]. Empty means pass without Fields, else merge. What is merged has to be a JSON object
	// or MessagePack map, or empty; it becomes JSON. Of members with the same name those of the path count before those of the body, and these before those of
	// the query; Fields count before all, also a field that is left out. As decoders of JSON such as Go's take a name that differs in the case of its letters for the
	// same, so does this, between what the path or Fields have and what a client has sent.
	Body string `json:"body,omitempty"`
	// Fields are members of the JSON object that is made, by path: "user.id" is the member id of the member user. At most [MaxFields].
	Fields Fields `json:"fields,omitempty"`
	// Header are headers, within the limits of [bus.CheckHeader].
	Header map[string]string `json:"header,omitempty"`
}

// Validate finds what is wrong with m. The errors have the code invalid_argument and the detail field.
func (m Mapping) Validate() error {
	_, err := m.compile()
	return err
}

// mapping is a Mapping, parsed.
type mapping struct {
	body   string
	fields []field
	owned  *owned // by fields
	header []field
}

type field struct {
	path  []string
	value template
}

func (m Mapping) compile() (*mapping, error) {
	out := &mapping{body: m.Body, owned: newOwned()}
	switch m.Body {
	case "":
		out.body = BodyPass
		if len(m.Fields) > 0 {
			out.body = BodyMerge
		}
	case BodyPass:
		if len(m.Fields) > 0 {
			return nil, invalid("body", "pass leaves no room for fields: want merge or none")
		}
	case BodyMerge, BodyNone:
	default:
		return nil, invalid("body", "%.40q: want %s, %s or %s", m.Body, BodyPass, BodyMerge, BodyNone)
	}
	if len(m.Fields) > MaxFields {
		return nil, invalid("fields", "%d of them: at most %d are allowed", len(m.Fields), MaxFields)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Fields)) {
		path := strings.Split(name, ".")
		if slices.Contains(path, "") || len(path) > maxDepth {
			return nil, invalid("fields", "%.80q: want names with dots between, at most %d", name, maxDepth)
		}
		t, err := parseTemplate(m.Fields[name])
		if err != nil {
			return nil, invalid("fields."+name, "%w", err)
		}
		out.fields = append(out.fields, field{path, t})
		out.owned.add(path)
	}
	names := nats.Header{}
	for _, name := range slices.Sorted(maps.Keys(m.Header)) {
		names[name] = []string{""}
		t, err := parseTemplate(m.Header[name])
		if err != nil {
			return nil, invalid("header."+name, "%w", err)
		}
		out.header = append(out.header, field{[]string{name}, t})
	}
	if err := bus.CheckHeader(names); err != nil {
		return nil, invalid("header", "%w", err)
	}
	return out, nil
}

// apply makes a body and headers. Members is what is merged beside the body: low counts less than the body, high more.
func (m *mapping) apply(contentType string, body []byte, values lookup, members func() (low, high map[string]any)) (string, []byte, nats.Header, error) {
	header, err := m.headers(values)
	if err != nil {
		return "", nil, nil, err
	}
	if m.body == BodyPass {
		return contentType, body, header, nil
	}
	object := map[string]any{}
	if m.body == BodyMerge {
		var low, high map[string]any
		if members != nil {
			low, high = members()
		}
		own, err := bodyObject(contentType, body)
		if err != nil {
			return "", nil, nil, err
		}
		maps.Copy(object, low)
		maps.Copy(object, own)
		ownedBy(high).clear(object)
		maps.Copy(object, high)
		m.owned.clear(object)
	} else if len(m.fields) == 0 {
		return "", nil, header, nil
	}
	for _, f := range m.fields {
		v, ok, err := f.value.value(values)
		if err != nil {
			return "", nil, nil, err
		}
		if ok {
			set(object, f.path, v)
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(object); err != nil {
		return "", nil, nil, bus.Errorf(bus.InvalidArgument, "the request cannot be made: %w", err)
	}
	return typeJSON, bytes.TrimSuffix(b.Bytes(), []byte("\n")), header, nil
}

func (m *mapping) headers(values lookup) (nats.Header, error) {
	if len(m.header) == 0 {
		return nil, nil
	}
	header := nats.Header{}
	for _, f := range m.header {
		v, ok, err := f.value.text(values, nil)
		if err != nil {
			return nil, err
		}
		if ok {
			header[f.path[0]] = []string{v}
		}
	}
	return header, bus.CheckHeader(header)
}

// bodyObject is a body as the members of an object. Values of JSON stay as they were written.
func bodyObject(contentType string, body []byte) (map[string]any, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return map[string]any{}, nil
	}
	if contentType == typeMessagePack {
		text, err := msgjson.ToJSON(body)
		if err != nil {
			return nil, bus.Errorf(bus.InvalidArgument, "the body has no place in JSON: %w", err)
		}
		body = text
	}
	object := members(json.RawMessage(body))
	if object == nil {
		return nil, bus.Errorf(bus.InvalidArgument, "the body is no JSON object")
	}
	if len(object) != countMembers(body) {
		return nil, bus.Errorf(bus.InvalidArgument, "the body has two members of one name")
	}
	return object, nil
}

// set puts v at a path of object. What is in the way and no object is replaced.
func set(object map[string]any, path []string, v any) {
	for _, name := range path[:len(path)-1] {
		next := members(object[name])
		if next == nil {
			next = map[string]any{}
		}
		object[name] = next
		object = next
	}
	object[path[len(path)-1]] = v
}

// members are those of a value that is an object; nil where it is none.
func members(v any) map[string]any {
	switch v := v.(type) {
	case map[string]any:
		return v
	case json.RawMessage:
		var raw map[string]json.RawMessage
		if json.Unmarshal(v, &raw) != nil || raw == nil {
			return nil
		}
		object := make(map[string]any, len(raw))
		for name, inner := range raw {
			object[name] = inner
		}
		return object
	}
	return nil
}

// countMembers counts those of a valid JSON object, each as often as it is there.
func countMembers(object []byte) (n int) {
	depth, text := 0, false
	for i := 0; i < len(object); i++ {
		switch c := object[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		case c == ':' && depth == 1:
			n++
		}
	}
	return n
}

// member is a member of a JSON object, by path; strings are strings, all else is as it was written.
func member(object map[string]json.RawMessage, path []string) (any, bool) {
	for len(path) > 1 {
		var inner map[string]json.RawMessage
		if json.Unmarshal(object[path[0]], &inner) != nil {
			return nil, false
		}
		object, path = inner, path[1:]
	}
	v, ok := object[path[0]]
	if !ok || !msgjson.Text(v) {
		return nil, false
	}
	var s string
	if json.Unmarshal(v, &s) == nil && string(v) != "null" {
		return s, true
	}
	return v, true
}

// topMembers are the members of a body; none of one that is no object.
func topMembers(contentType string, body []byte) map[string]json.RawMessage {
	if contentType == typeMessagePack {
		text, err := msgjson.ToJSON(body)
		if err != nil {
			return nil
		}
		body = text
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return nil
	}
	return members
}

// bodyValues adds {body}, {body.a.b} and {id} to what an initiator knows. The body is parsed once, however many placeholders there are.
func bodyValues(id, contentType string, body []byte, more lookup) lookup {
	members := sync.OnceValue(func() map[string]json.RawMessage { return topMembers(contentType, body) })
	return func(name string) (any, bool) {
		rest, ok := strings.CutPrefix(name, "body")
		switch {
		case ok && rest == "":
			return string(body), true
		case ok && rest[0] == '.':
			return member(members(), strings.Split(rest[1:], "."))
		case name == "id":
			return id, id != ""
		case more == nil:
			return nil, false
		}
		return more(name)
	}
}

func invalid(field, format string, args ...any) *bus.Error {
	for i, arg := range args {
		if e, ok := arg.(*bus.Error); ok {
			args[i] = errors.New(e.Message) // its code is ours
		}
	}
	e := bus.Errorf(bus.InvalidArgument, field+": "+format, args...)
	return e.With("field", field)
}
