package initiators

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/skybus-io/skybus/bus"
)

const maxTemplate = 1024

// template is a text with placeholders: {name}, {name|filter|filter}, and constants: {=2}; {{ and }} are braces.
type template struct {
	source string
	parts  []part
}

// part is a text, or a placeholder where name is set.
type part struct {
	text     string
	constant bool // the text is JSON, which stays what it is where it is all of a template
	name     string
	filters  []filter
}

type filter struct{ name, arg string }

func parseTemplate(source string) (template, error) {
	t := template{source: source}
	if len(source) > maxTemplate {
		return t, fmt.Errorf("has %d characters, at most %d are allowed", len(source), maxTemplate)
	}
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			t.parts = append(t.parts, part{text: text.String()})
			text.Reset()
		}
	}
	for rest := source; rest != ""; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			text.WriteString(rest)
			break
		}
		text.WriteString(rest[:i])
		brace := rest[i]
		rest = rest[i+1:]
		switch {
		case strings.HasPrefix(rest, string(brace)):
			text.WriteByte(brace)
			rest = rest[1:]
			continue
		case brace == '}':
			return t, fmt.Errorf("%.80q has a } that closes nothing (write }} for one)", source)
		}
		if constant, ok := strings.CutPrefix(rest, "="); ok {
			p, behind, err := parseConstant(constant)
			if err != nil {
				return t, err
			}
			flush()
			t.parts = append(t.parts, p)
			rest = behind
			continue
		}
		end := strings.IndexByte(rest, '}')
		if end < 0 {
			return t, fmt.Errorf("%.80q has a { that is not closed (write {{ for one)", source)
		}
		p, err := parsePlaceholder(rest[:end])
		if err != nil {
			return t, err
		}
		flush()
		t.parts = append(t.parts, p)
		rest = rest[end+1:]
	}
	flush()
	return t, nil
}

func parsePlaceholder(s string) (part, error) {
	name, rest, more := strings.Cut(s, "|")
	p := part{name: strings.TrimSpace(name)}
	if p.name == "" || strings.ContainsAny(p.name, "{ \t\r\n") {
		return p, fmt.Errorf("placeholder {%.80s}: want a name such as path.id", s)
	}
	for more {
		var one string
		one, rest, more = strings.Cut(rest, "|")
		f := filter{}
		f.name, f.arg, _ = strings.Cut(strings.TrimSpace(one), ":")
		switch f.name {
		case "int", "float", "bool", "json", "lower", "upper", "trim", "base64", "optional":
			if f.arg != "" {
				return p, fmt.Errorf("placeholder {%.80s}: filter %s takes no value", s, f.name)
			}
		case "default":
		default:
			return p, fmt.Errorf("placeholder {%.80s}: there is no filter %.40q: want int, float, bool, json, lower, upper, trim, base64, optional or default:VALUE", s, f.name)
		}
		p.filters = append(p.filters, f)
	}
	return p, nil
}

// literal is the text before the first placeholder, and whether that is all.
func (t template) literal() (string, bool) {
	switch {
	case len(t.parts) == 0:
		return "", true
	case t.parts[0].name != "":
		return "", false
	}
	return t.parts[0].text, len(t.parts) == 1
}

// text is the template with what its placeholders stand for. Check, unless nil, sees each of those values.
func (t template) text(values lookup, check func(name, value string) error) (string, bool, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.name == "" {
			b.WriteString(p.text)
			continue
		}
		v, ok, err := p.value(values)
		if err != nil || !ok {
			return "", false, err
		}
		s := plain(v)
		if check != nil {
			if err := check(p.name, s); err != nil {
				return "", false, err
			}
		}
		b.WriteString(s)
	}
	return b.String(), true, nil
}

// isConstant tells whether a constant is all of the template.
func (t template) isConstant() bool { return len(t.parts) == 1 && t.parts[0].constant }

// value is as text, but keeps the type of a placeholder, or a constant, that is all of the template.
func (t template) value(values lookup) (any, bool, error) {
	if t.isConstant() {
		return json.RawMessage(t.parts[0].text), true, nil
	}
	if len(t.parts) == 1 && t.parts[0].name != "" {
		return t.parts[0].value(values)
	}
	return t.text(values, nil)
}

func plain(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.RawMessage:
		return string(v)
	}
	return fmt.Sprint(v)
}

// lookup is what placeholders stand for: a string, or a json.RawMessage.
type lookup func(name string) (any, bool)

// value is what p stands for; false leaves out what it is for.
func (p part) value(values lookup) (any, bool, error) {
	v, ok := values(p.name)
	fault := "is missing"
	if ok && !isText(v) && !p.takesBytes() {
		ok, fault = false, "is not UTF-8: {"+p.name+"|base64} would be"
	}
	optional := false
	for _, f := range p.filters {
		switch {
		case f.name == "default" && (!ok || v == ""):
			v, ok = f.arg, true
		case f.name == "optional":
			optional = true
		}
	}
	if !ok {
		if optional {
			return nil, false, nil
		}
		return nil, false, bus.Errorf(bus.InvalidArgument, "%s %s", p.name, fault).With("field", p.name)
	}
	for _, f := range p.filters {
		var err error
		if v, err = f.apply(v); err != nil {
			return nil, false, bus.Errorf(bus.InvalidArgument, "%s: %w", p.name, err).With("field", p.name)
		}
	}
	return v, true, nil
}

// isText tells whether a value can stand in JSON as it is.
func isText(v any) bool {
	s, ok := v.(string)
	return !ok || utf8.ValidString(s)
}

// takesBytes tells whether the first filter that does something to a value takes any bytes.
func (p part) takesBytes() bool {
	i := slices.IndexFunc(p.filters, func(f filter) bool { return f.name != "default" && f.name != "optional" })
	return i >= 0 && p.filters[i].name == "base64"
}

func (f filter) apply(v any) (any, error) {
	s := plain(v)
	switch f.name {
	case "int":
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%.40q: want a whole number", s)
		}
		return n, nil
	case "float":
		n := json.Number(s)
		if _, err := n.Float64(); err != nil || !json.Valid([]byte(s)) {
			return nil, fmt.Errorf("%.40q: want a number", s)
		}
		return n, nil
	case "bool":
		b, err := strconv.ParseBool(s)
		if err != nil {
			return nil, fmt.Errorf("%.40q: want true or false", s)
		}
		return b, nil
	case "json":
		if !json.Valid([]byte(s)) {
			return nil, fmt.Errorf("%.40q: want JSON", s)
		}
		return json.RawMessage(s), nil
	case "lower":
		return strings.ToLower(s), nil
	case "upper":
		return strings.ToUpper(s), nil
	case "trim":
		return strings.TrimSpace(s), nil
	case "base64":
		return base64.StdEncoding.EncodeToString([]byte(s)), nil
	}
	return v, nil
}
