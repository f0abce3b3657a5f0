package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/route"
)

const byteOrderMark = "\ufeff" // some editors begin a file with it

// parseRoute reads a route from YAML, of which JSON is a part. All mistakes are told, each with its line and field.
func parseRoute(file string, data []byte) (route.Route, error) {
	var f routeFile
	r := f.route(data)
	if len(f.mistakes) == 0 {
		f.validate(r)
	}
	switch len(f.mistakes) {
	case 0:
		return r, nil
	case 1:
		return r, bus.Errorf(bus.InvalidArgument, "%s: %s", file, f.mistakes[0])
	}
	return r, bus.Errorf(bus.InvalidArgument, "%s: %d mistakes:\n  %s", file, len(f.mistakes), strings.Join(f.mistakes, "\n  "))
}

// routeFile is a file with a route. It is read from its tree and not by reflection: a decoder knows neither the field that
// it cannot fill nor words for what it wanted.
type routeFile struct {
	lines    map[string]int      // of fields, by path
	anchors  map[string]ast.Node // by name
	mistakes []string
}

func (f *routeFile) mistake(line int, path, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if path != "" {
		text = path + ": " + text
	}
	if line > 0 {
		text = fmt.Sprintf("line %d: %s", line, text)
	}
	f.mistakes = append(f.mistakes, text)
}

func (f *routeFile) route(data []byte) route.Route {
	var r route.Route
	f.lines, f.anchors = map[string]int{}, map[string]ast.Node{}
	body := f.body(data)
	if body == nil {
		return r
	}
	ast.Walk(f, body)
	f.fields("", body, map[string]func(string, ast.Node){
		"description": func(path string, n ast.Node) { r.Description = f.text(path, n) },
		"steps":       func(path string, n ast.Node) { r.Steps = f.steps(path, n) },
	})
	return r
}

// body is the only document of the file.
func (f *routeFile) body(data []byte) ast.Node {
	tree, err := parser.ParseBytes(bytes.TrimPrefix(data, []byte(byteOrderMark)), 0)
	if e, ok := errors.AsType[yaml.Error](err); ok && e.GetToken() != nil {
		at := e.GetToken().Position
		f.mistake(0, "", "line %d, column %d: %s", at.Line, at.Column, e.GetMessage())
		return nil
	} else if err != nil {
		f.mistake(0, "", "%v", err)
		return nil
	}
	var body ast.Node
	for _, doc := range tree.Docs {
		switch {
		case doc.Body == nil, doc.Body.Type() == ast.CommentType, doc.Body.Type() == ast.DirectiveType:
		case body != nil:
			f.mistake(lineOf(doc.Body), "", "there is something after the route: want one route a file")
			return nil
		default:
			body = doc.Body
		}
	}
	if body == nil {
		f.mistake(0, "", "it is empty: want a route")
	}
	return body
}

// Visit collects the anchors.
func (f *routeFile) Visit(n ast.Node) ast.Visitor {
	if a, ok := n.(*ast.AnchorNode); ok {
		f.anchors[a.Name.GetToken().Value] = a.Value
	}
	return f
}

func (f *routeFile) steps(path string, n ast.Node) []route.Step {
	list, ok := f.value(n).(*ast.SequenceNode)
	if !ok {
		if _, null := f.value(n).(*ast.NullNode); !null {
			f.mistake(lineOf(n), path, "want a list of steps, each beginning with a dash")
		}
		return nil
	}
	steps := make([]route.Step, len(list.Values))
	for i, item := range list.Values {
		f.step(fmt.Sprintf("%s[%d]", path, i), item, &steps[i])
	}
	return steps
}

func (f *routeFile) step(path string, n ast.Node, s *route.Step) {
	f.lines[path] = lineOf(n)
	f.fields(path, n, map[string]func(string, ast.Node){
		"service":  func(path string, n ast.Node) { s.Service = f.text(path, n) },
		"endpoint": func(path string, n ast.Node) { s.Endpoint = f.text(path, n) },
		"route":    func(path string, n ast.Node) { s.Route = f.text(path, n) },
		"version":  func(path string, n ast.Node) { s.Version = f.text(path, n) },
		"async":    func(path string, n ast.Node) { s.Async, _ = f.boolean(path, n) },
		"retry":    func(path string, n ast.Node) { s.Retry, _ = f.boolean(path, n) },
		"required": func(path string, n ast.Node) {
			if v, ok := f.boolean(path, n); ok {
				s.Required = &v
			}
		},
		"timeout": func(path string, n ast.Node) {
			if text := f.text(path, n); text != "" {
				if err := s.Timeout.UnmarshalText([]byte(text)); err != nil {
					f.mistake(lineOf(n), path, "%v", err)
				}
			}
		},
	})
}

// fields gives the value of each field of n to the function of its name.
func (f *routeFile) fields(path string, n ast.Node, known map[string]func(path string, n ast.Node)) {
	object, ok := f.value(n).(ast.MapNode)
	if !ok {
		f.mistake(lineOf(n), path, "want fields, one of them %s", oneOf(known))
		return
	}
	for fields := object.MapRange(); fields.Next(); {
		name := fields.Key().GetToken().Value
		at := strings.TrimPrefix(path+"."+name, ".")
		line := lineOf(fields.Key())
		f.lines[at] = line
		if read, ok := known[name]; ok {
			read(at, fields.Value())
		} else {
			f.mistake(line, at, "unknown field: want %s", oneOf(known))
		}
	}
}

func (f *routeFile) text(path string, n ast.Node) string {
	switch v := f.value(n).(type) {
	case *ast.NullNode:
		return ""
	case *ast.StringNode:
		return v.Value
	case *ast.LiteralNode:
		return v.Value.Value
	case ast.ScalarNode:
		return v.GetToken().Value // as it was written: 1.10 is not 1.1
	}
	f.mistake(lineOf(n), path, "want text")
	return ""
}

// boolean is not ok for a mistake and for null.
func (f *routeFile) boolean(path string, n ast.Node) (v, ok bool) {
	switch v := f.value(n).(type) {
	case *ast.NullNode:
		return false, false
	case *ast.BoolNode:
		return v.Value, true
	}
	f.mistake(lineOf(n), path, "want true or false")
	return false, false
}

// value is what n stands for.
func (f *routeFile) value(n ast.Node) ast.Node {
	for range 8 { // an alias may lead to an alias, and to itself
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
		case *ast.TagNode:
			n = v.Value
		case *ast.AliasNode:
			n = f.anchors[v.Value.GetToken().Value]
		default:
			return n
		}
	}
	return nil
}

// validate finds what is wrong with a route that can be read.
func (f *routeFile) validate(r route.Route) {
	err := r.Validate()
	errs := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs = joined.Unwrap()
	}
	for _, err := range errs {
		if fe, ok := errors.AsType[*route.FieldError](err); ok {
			f.mistake(f.lineOf(fe.Field), fe.Field, "%v", fe.Err)
		} else if err != nil {
			f.mistake(0, "", "%v", err)
		}
	}
}

// lineOf is the line of a field, or of what it is missing in.
func (f *routeFile) lineOf(path string) int {
	for path != "" {
		if line, ok := f.lines[path]; ok {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 0
}

func lineOf(n ast.Node) int {
	if n == nil || n.GetToken() == nil {
		return 0
	}
	return n.GetToken().Position.Line
}

func oneOf[T any](known map[string]T) string {
	return strings.Join(slices.Sorted(maps.Keys(known)), ", ")
}
