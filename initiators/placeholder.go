package initiators

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/skybus-io/skybus/bus"
)

// Placeholder is what a template (see [Mapping]) asks for by one name.
type Placeholder struct {
	Name string // as in path.id
	// Type is what its filters make of it: integer, number, boolean, or empty for what it is.
	Type string
	// Optional: it may be missing.
	Optional bool
}

// Placeholders are those of templates by name, each once: optional where it is so in all of them. Templates that are none have none.
func Placeholders(templates ...string) []Placeholder {
	var all []Placeholder
	for _, source := range templates {
		t, err := parseTemplate(source)
		if err != nil {
			continue
		}
		for _, p := range t.parts {
			if p.name == "" {
				continue
			}
			found := p.placeholder()
			if i := slices.IndexFunc(all, func(q Placeholder) bool { return q.Name == p.name }); i >= 0 {
				all[i].Optional = all[i].Optional && found.Optional
				all[i].Type = cmp.Or(all[i].Type, found.Type)
				continue
			}
			all = append(all, found)
		}
	}
	slices.SortFunc(all, func(a, b Placeholder) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (p part) placeholder() Placeholder {
	out := Placeholder{Name: p.name}
	for _, f := range p.filters {
		switch f.name {
		case "int":
			out.Type = "integer"
		case "float":
			out.Type = "number"
		case "bool":
			out.Type = "boolean"
		case "default", "optional":
			out.Optional = true
		}
	}
	return out
}

// Placeholders are those that the request of s is made of: of its subject, its timer, and its mapping.
func (s Spec) Placeholders() []Placeholder {
	var templates []string
	for _, t := range s.templates() {
		templates = append(templates, t)
	}
	return Placeholders(templates...)
}

// CheckPlaceholders finds a placeholder of the request that an initiator never has a value for, and that may not be missing: each piece of traffic would be
// refused. known tells it by its name; {id}, {body} and members of the body are known to all. want is what there is, for people. The error has the code
// invalid_argument and the detail field.
func (s Spec) CheckPlaceholders(known func(name string) bool, want string) error {
	for field, t := range s.templates() {
		for _, p := range Placeholders(t) {
			if p.Optional || p.Name == "id" || p.Name == "body" || strings.HasPrefix(p.Name, "body.") || known(p.Name) {
				continue
			}
			return bus.Errorf(bus.InvalidArgument, "%s: {%s} is never there: want %s", field, p.Name, want).With("field", field)
		}
	}
	return nil
}

// templates are what the request of s is made of, by field, in an order that stays.
func (s Spec) templates() iter.Seq2[string, string] {
	return func(yield func(field, template string) bool) {
		all := [][2]string{{"publish", s.Publish}, {"stream", s.Stream}}
		if t := s.Timer; t != nil {
			all = append(all, [][2]string{{"timer.after", t.After}, {"timer.at", t.At}, {"timer.id", t.ID}, {"timer.target", t.Target}}...)
		}
		if m := s.Request; m != nil {
			for _, name := range slices.Sorted(maps.Keys(m.Fields)) {
				all = append(all, [2]string{"request.fields." + name, m.Fields[name]})
			}
			for _, name := range slices.Sorted(maps.Keys(m.Header)) {
				all = append(all, [2]string{"request.header." + name, m.Header[name]})
			}
		}
		for _, t := range all {
			if !yield(t[0], t[1]) {
				return
			}
		}
	}
}
