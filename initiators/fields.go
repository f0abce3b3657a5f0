package initiators

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Fields are members of a JSON object, by path, and the templates that they are made of (see [Mapping]). In JSON a member may also be a constant of another type than
// text: {"version": 2, "live": true, "note": null}, and a list or an object whose texts have no placeholders. As a template it is {=JSON}, such as {=2}.
type Fields map[string]string

const constantBegin = "{="

// MarshalJSON writes constants as what they are.
func (f Fields) MarshalJSON() ([]byte, error) {
	if f == nil {
		return []byte("null"), nil
	}
	members := make(map[string]any, len(f))
	for name, source := range f {
		members[name] = source
		if !strings.HasPrefix(source, constantBegin) {
			continue
		}
		if t, err := parseTemplate(source); err == nil && t.isConstant() {
			members[name] = json.RawMessage(t.parts[0].text)
		}
	}
	return json.Marshal(members)
}

// UnmarshalJSON reads templates and constants. What is wrong with one of them [Mapping.Validate] tells.
func (f *Fields) UnmarshalJSON(data []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil || members == nil {
		return err
	}
	all := make(Fields, len(members))
	for name, raw := range members {
		text := constantBegin + string(raw) + "}"
		if raw[0] == '"' {
			if err := json.Unmarshal(raw, &text); err != nil {
				return err
			}
		}
		all[name] = text
	}
	*f = all
	return nil
}

// parseConstant reads what follows {= up to its brace, and returns what is behind that.
func parseConstant(s string) (p part, rest string, err error) {
	dec := json.NewDecoder(strings.NewReader(s))
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return p, "", fmt.Errorf("constant {=%.80s: want JSON, as in {=2} or {=true}", s)
	}
	rest, closed := strings.CutPrefix(strings.TrimLeft(s[dec.InputOffset():], " "), "}")
	if !closed {
		return p, "", fmt.Errorf("constant {=%.80s: want one JSON value and }", s)
	}
	if c := raw[0]; (c == '{' || c == '[') && hasBraces(raw) {
		return p, "", fmt.Errorf("constant %.80s: texts in a list or an object are no templates: want none with { or } in them, or members by their paths, as in order.id", raw)
	}
	return part{text: string(raw), constant: true}, rest, nil
}

// hasBraces tells whether a text in a JSON value has a brace in it.
func hasBraces(raw json.RawMessage) bool {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return false
	}
	var in func(v any) bool
	in = func(v any) bool {
		switch v := v.(type) {
		case string:
			return strings.ContainsAny(v, "{}")
		case []any:
			if slices.ContainsFunc(v, in) {
				return true
			}
		case map[string]any:
			for _, member := range v {
				if in(member) {
					return true
				}
			}
		}
		return false
	}
	return in(v)
}
