package initiators

import (
	"cmp"
	"slices"
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
	templates := []string{s.Publish, s.Stream}
	if t := s.Timer; t != nil {
		templates = append(templates, t.After, t.At, t.ID, t.Target)
	}
	if m := s.Request; m != nil {
		for _, of := range []map[string]string{m.Fields, m.Header} {
			for _, t := range of {
				templates = append(templates, t)
			}
		}
	}
	return Placeholders(templates...)
}
