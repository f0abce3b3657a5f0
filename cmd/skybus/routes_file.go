package main

import (
	"errors"

	"github.com/goccy/go-yaml/ast"

	"github.com/skybus-io/skybus/micro/route"
)

// parseRoute reads a route from YAML, of which JSON is a part. All mistakes are told, each with its line and field.
func parseRoute(file string, data []byte) (route.Route, error) {
	f := routeFile{yamlFile: yamlFile{what: "route"}}
	var r route.Route
	if body := f.read(data); body != nil {
		r = f.route(body)
	}
	if len(f.mistakes) == 0 {
		f.validate(r)
	}
	return r, f.err(file)
}

// routeFile is a file with a route.
type routeFile struct{ yamlFile }

func (f *routeFile) route(body ast.Node) (r route.Route) {
	f.fields("", body, map[string]func(string, ast.Node){
		"description": func(path string, n ast.Node) { r.Description = f.text(path, n) },
		"steps":       func(path string, n ast.Node) { r.Steps = f.steps(path, n) },
	})
	return r
}

func (f *routeFile) steps(path string, n ast.Node) []route.Step {
	var steps []route.Step
	f.list(path, n, "steps", func(path string, n ast.Node) { steps = append(steps, f.step(path, n)) })
	return steps
}

func (f *routeFile) step(path string, n ast.Node) (s route.Step) {
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
	return s
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
