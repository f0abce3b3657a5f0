package main

import (
	"encoding/json"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
)

// target reads what an initiator sends to, as all files have it.
func (f *yamlFile) target(s *initiators.Spec) field {
	mapping := func(m **initiators.Mapping) field {
		return func(path string, n ast.Node) {
			*m = &initiators.Mapping{}
			f.section(map[string]field{
				"body":   textInto(f, &(*m).Body),
				"fields": func(path string, n ast.Node) { (*m).Fields = f.mappedFields(path, n) },
				"header": func(path string, n ast.Node) { (*m).Header = f.textMap(path, n) },
			})(path, n)
		}
	}
	return f.section(map[string]field{
		"call":    textInto(f, &s.Call),
		"route":   textInto(f, &s.Route),
		"publish": textInto(f, &s.Publish),
		"stream":  textInto(f, &s.Stream),
		"timer": func(path string, n ast.Node) {
			s.Timer = &initiators.TimerSpec{}
			f.section(map[string]field{
				"after": textInto(f, &s.Timer.After), "at": textInto(f, &s.Timer.At), "id": textInto(f, &s.Timer.ID), "target": textInto(f, &s.Timer.Target),
			})(path, n)
		},
		"request": mapping(&s.Request),
		"reply":   mapping(&s.Reply),
	})
}

// mappedFields are templates by their paths, and constants of whatever type.
func (f *yamlFile) mappedFields(path string, n ast.Node) (fields initiators.Fields) {
	_, null := f.value(n).(*ast.NullNode)
	if _, ok := f.value(n).(ast.MapNode); !ok && !null {
		f.mistake(lineOf(n), path, "want names, each with a text or another value")
		return nil
	}
	data, err := json.Marshal(f.plain(path, n))
	if err == nil {
		err = json.Unmarshal(data, &fields)
	}
	if err != nil {
		f.mistake(lineOf(n), path, "%v", err)
	}
	return fields
}

// checkTarget tells what is wrong with a target at path.
func (f *yamlFile) checkTarget(path string, s initiators.Spec, known func(name string) bool, want string) {
	err := s.Validate()
	if err == nil {
		err = s.CheckPlaceholders(known, want)
	}
	if err == nil {
		return
	}
	at := path
	if name := bus.AsError(err).Details["field"]; name != "" && name != "target" {
		at += "." + name
	}
	text := message(err)
	for _, own := range []string{at[len(path):], "target"} { // how the specification speaks of it
		text = strings.TrimPrefix(text, strings.TrimPrefix(own, ".")+": ")
	}
	f.mistake(f.lineOf(at), at, "%s", strings.TrimPrefix(text, "target "))
}
