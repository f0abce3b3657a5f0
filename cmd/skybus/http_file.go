package main

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	gateway "github.com/skybus-io/skybus/initiators/http"
)

// parseEntry reads an entry from YAML, of which JSON is a part. All mistakes are told, each with its line and field.
func parseEntry(file string, data []byte) (gateway.Entry, error) {
	f := entryFile{yamlFile: yamlFile{what: "entry"}}
	var e gateway.Entry
	if body := f.read(data); body != nil {
		e = f.entry("", body)
	}
	return e, f.err(file)
}

// namedEntry is an entry of a file with several.
type namedEntry struct {
	name  string
	entry gateway.Entry
}

// parseEntries reads the entries of a gateway's file, in its order.
func parseEntries(file string, data []byte) ([]namedEntry, error) {
	f := entryFile{yamlFile: yamlFile{what: "gateway"}}
	var all []namedEntry
	if body := f.read(data); body != nil {
		f.fields("", body, map[string]func(string, ast.Node){
			"entries": func(path string, n ast.Node) { all = f.entries(path, n) },
		})
	}
	return all, f.err(file)
}

// entryFile is a file with entries.
type entryFile struct{ yamlFile }

// entries are those of a map from names.
func (f *entryFile) entries(path string, n ast.Node) []namedEntry {
	object, ok := f.value(n).(ast.MapNode)
	if !ok {
		if _, null := f.value(n).(*ast.NullNode); !null {
			f.mistake(lineOf(n), path, "want entries by their names, as in order: {path: /orders/{id}, call: orders.get}")
		}
		return nil
	}
	var all []namedEntry
	for fields := object.MapRange(); fields.Next(); {
		name := fields.Key().GetToken().Value
		at := path + "." + name
		f.lines[at] = lineOf(fields.Key())
		if err := bus.CheckToken("entry", name); err != nil {
			f.mistake(f.lines[at], path, "%s", message(err))
		}
		if slices.ContainsFunc(all, func(e namedEntry) bool { return e.name == name }) {
			f.mistake(f.lines[at], at, "is there already")
		}
		all = append(all, namedEntry{name, f.entry(at, fields.Value())})
	}
	f.conflicts(path, all)
	return all
}

// conflicts tells which entries could not be stored beside others of the file. Those that have mistakes of their own are left out.
func (f *entryFile) conflicts(path string, all []namedEntry) {
	var sound []namedEntry
	var entries []gateway.Entry
	for _, e := range all {
		if e.entry.Path != "" {
			sound, entries = append(sound, e), append(entries, e.entry)
		}
	}
	for _, c := range gateway.Conflicts(entries) {
		at := path + "." + sound[c.Later].name
		f.mistake(f.lines[at], at, "conflicts with entry %q: %v", sound[c.Earlier].name, c.Why)
	}
}

// entry reads and validates one entry.
func (f *entryFile) entry(path string, n ast.Node) gateway.Entry {
	before := len(f.mistakes)
	v := f.decode(path, n, reflect.TypeFor[gateway.Entry]())
	if len(f.mistakes) > before {
		return gateway.Entry{}
	}
	data, err := json.Marshal(v)
	if err != nil {
		f.mistake(lineOf(n), path, "%v", err)
		return gateway.Entry{}
	}
	e, err := gateway.ParseJSON(data)
	if err == nil {
		err = e.Validate()
	}
	errs := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs = joined.Unwrap()
	}
	for _, err := range errs {
		if fe, ok := errors.AsType[*gateway.FieldError](err); ok {
			at := strings.TrimPrefix(path+"."+fe.Field, ".")
			f.mistake(f.lineOf(at), at, "%v", fe.Err)
		} else if err != nil {
			f.mistake(lineOf(n), path, "%v", err)
		}
	}
	if err != nil {
		return gateway.Entry{}
	}
	return e
}

// decode makes of n what JSON for a t is made of. What t has no field for, and what has another shape, is a mistake with its line.
func (f *entryFile) decode(path string, n ast.Node, t reflect.Type) any {
	if _, null := f.value(n).(*ast.NullNode); null || n == nil {
		return nil
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[initiators.Fields]():
		return f.mappedFields(path, n)
	case reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()):
		return f.plain(path, n)
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return f.text(path, n)
	}
	switch t.Kind() {
	case reflect.Struct:
		return f.decodeStruct(path, n, t)
	case reflect.Map:
		return f.decodeMap(path, n, t.Elem())
	case reflect.Slice:
		list := []any{}
		f.list(path, n, "values", func(path string, n ast.Node) { list = append(list, f.decode(path, n, t.Elem())) })
		return list
	case reflect.Bool:
		v, _ := f.boolean(path, n)
		return v
	case reflect.String:
		return f.text(path, n)
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint64:
		v, _ := f.integer(path, n)
		return v
	default:
		return f.plain(path, n)
	}
}

func (f *entryFile) decodeStruct(path string, n ast.Node, t reflect.Type) any {
	object := map[string]any{}
	known := map[string]func(string, ast.Node){}
	for _, field := range jsonFields(t) {
		known[field.name] = func(path string, n ast.Node) {
			if v := f.decode(path, n, field.typ); v != nil {
				object[field.name] = v
			}
		}
	}
	f.fields(path, n, known)
	return object
}

func (f *entryFile) decodeMap(path string, n ast.Node, elem reflect.Type) any {
	object := map[string]any{}
	fields, ok := f.value(n).(ast.MapNode)
	if !ok {
		f.mistake(lineOf(n), path, "want names with values")
		return object
	}
	for each := fields.MapRange(); each.Next(); {
		name := each.Key().GetToken().Value
		at := path + "." + name
		f.lines[at] = lineOf(each.Key())
		object[name] = f.decode(at, each.Value(), elem)
	}
	return object
}

// plain is a value of whatever type it has by itself.
func (f *yamlFile) plain(path string, n ast.Node) any {
	switch v := f.value(n).(type) {
	case *ast.NullNode:
		return nil
	case *ast.BoolNode:
		return v.Value
	case *ast.IntegerNode, *ast.FloatNode:
		if text := v.GetToken().Value; json.Valid([]byte(text)) {
			return json.Number(text)
		}
		return f.text(path, n)
	case *ast.SequenceNode:
		list := []any{}
		for i, item := range v.Values {
			list = append(list, f.plain(fmt.Sprintf("%s[%d]", path, i), item))
		}
		return list
	case ast.MapNode:
		object := map[string]any{}
		for each := v.MapRange(); each.Next(); {
			name := each.Key().GetToken().Value
			f.lines[path+"."+name] = lineOf(each.Key())
			object[name] = f.plain(path+"."+name, each.Value())
		}
		return object
	}
	return f.text(path, n)
}

// jsonField is a field as JSON has it.
type jsonField struct {
	name string
	typ  reflect.Type
}

// jsonFields are the fields of a struct, those of embedded ones among them.
func jsonFields(t reflect.Type) []jsonField {
	var all []jsonField
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name == "-":
		case field.Anonymous && name == "":
			all = append(all, jsonFields(field.Type)...)
		case field.IsExported() && name != "":
			all = append(all, jsonField{name, field.Type})
		}
	}
	return all
}
