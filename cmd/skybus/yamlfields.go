package main

import (
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Fields of files that go straight into a value. Those of a mirror's file have their own, as mirrorFile is no yamlFile to a type parameter.

func textInto[T ~string](f *yamlFile, v *T) field {
	return func(path string, n ast.Node) { *v = T(f.text(path, n)) }
}

func flagInto(f *yamlFile, v *bool) field {
	return func(path string, n ast.Node) { *v, _ = f.boolean(path, n) }
}

// countInto is for numbers from 1 on, where 0 would mean the default.
func countInto(f *yamlFile, v *int) field {
	return func(path string, n ast.Node) {
		number, ok := f.integer(path, n)
		if ok && number < 1 {
			f.mistake(lineOf(n), path, "%d: want 1 or more", number)
			return
		}
		*v = number
	}
}

// timeInto is for durations above 0, where 0 would mean the default.
func timeInto(f *yamlFile, v *time.Duration) field {
	return func(path string, n ast.Node) {
		before := len(f.mistakes)
		*v = f.duration(path, n)
		if _, null := f.value(n).(*ast.NullNode); *v <= 0 && !null && len(f.mistakes) == before {
			f.mistake(lineOf(n), path, "want a duration above 0, such as 500ms or 10s")
		}
	}
}

func sizeInto(f *yamlFile, v *int) field {
	return func(path string, n ast.Node) { *v = int(f.size(path, n)) }
}

// section is fields within a field, which may be left empty.
func (f *yamlFile) section(known map[string]field) field {
	return func(path string, n ast.Node) {
		if _, null := f.value(n).(*ast.NullNode); !null {
			f.fields(path, n, known)
		}
	}
}

// textMap is text by names of the user's own.
func (f *yamlFile) textMap(path string, n ast.Node) map[string]string {
	object, ok := f.value(n).(ast.MapNode)
	if !ok {
		if _, null := f.value(n).(*ast.NullNode); !null {
			f.mistake(lineOf(n), path, "want names, each with a text")
		}
		return nil
	}
	all := map[string]string{}
	for fields := object.MapRange(); fields.Next(); {
		name := fields.Key().GetToken().Value
		f.lines[path+"."+name] = lineOf(fields.Key())
		all[name] = f.text(path+"."+name, fields.Value())
	}
	return all
}

// pairs are texts by names, for a flag of NAME=VALUE: a map, or NAME=VALUE alone or in a list.
func (f *yamlFile) pairs(path string, n ast.Node) map[string]any {
	all := map[string]any{}
	add := func(at string, name, value string, line int) {
		if _, there := all[name]; there {
			f.mistake(line, at, "%s is there already", name)
		}
		f.lines[path+"."+name] = line
		all[name] = value
	}
	one := func(at string, n ast.Node) {
		name, value, ok := strings.Cut(f.text(at, n), "=")
		if !ok {
			f.mistake(lineOf(n), at, "want NAME=VALUE, or names with their values")
			return
		}
		add(at, name, value, lineOf(n))
	}
	switch v := f.value(n).(type) {
	case *ast.NullNode:
	case ast.MapNode:
		for fields := v.MapRange(); fields.Next(); {
			name := fields.Key().GetToken().Value
			add(path+"."+name, name, f.text(path+"."+name, fields.Value()), lineOf(fields.Key()))
		}
	case *ast.SequenceNode:
		f.list(path, n, "NAME=VALUE", one)
	default:
		one(path, n)
	}
	return all
}
