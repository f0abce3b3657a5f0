package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"

	"github.com/skybus-io/skybus/micro/route"
)

// parseRoute reads a route from YAML, of which JSON is a part. Mistakes are told with line and field.
func parseRoute(file string, data []byte) (route.Route, error) {
	var r route.Route
	if err := yaml.UnmarshalWithOptions(data, &r, yaml.Strict()); err != nil {
		return r, withHint(fmt.Errorf("%s: %s", file, yamlError(err)), "`skybus routes put --help` shows what a route looks like")
	}
	err := r.Validate()
	if err == nil {
		return r, nil
	}
	return r, withHint(fmt.Errorf("%s: %s", file, strings.Join(located(data, err), "; ")), "`skybus routes put --help` shows what a route looks like")
}

// yamlError is a mistake in one line, with its place in front.
func yamlError(err error) string {
	if e, ok := errors.AsType[yaml.Error](err); ok && e.GetToken() != nil {
		pos := e.GetToken().Position
		return fmt.Sprintf("line %d, column %d: %s", pos.Line, pos.Column, e.GetMessage())
	}
	return err.Error()
}

// located puts in front of each mistake the line of its field.
func located(data []byte, err error) []string {
	var all []string
	for _, fe := range fieldErrors(err) {
		text := fe.Error()
		if line := lineOf(data, fe.Field); line > 0 {
			text = fmt.Sprintf("line %d: %s", line, text)
		}
		all = append(all, text)
	}
	if len(all) == 0 {
		all = append(all, err.Error())
	}
	return all
}

func fieldErrors(err error) []*route.FieldError {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*route.FieldError
		for _, e := range joined.Unwrap() {
			all = append(all, fieldErrors(e)...)
		}
		return all
	}
	if fe, ok := errors.AsType[*route.FieldError](err); ok {
		return []*route.FieldError{fe}
	}
	return nil
}

// lineOf is the line of a field, or of the nearest one around it that is there; 0 when none is.
func lineOf(data []byte, field string) int {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return 0
	}
	for field != "" {
		path, err := yaml.PathString("$." + field)
		if err != nil {
			return 0
		}
		if node, err := path.FilterFile(file); err == nil && node != nil {
			return node.GetToken().Position.Line
		}
		field = field[:max(0, strings.LastIndexByte(field, '.'))]
	}
	return 0
}
