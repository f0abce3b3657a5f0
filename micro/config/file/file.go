// Package file reads configuration from a file skybus.yaml, as a layer below the bucket:
//
//	all:
//	  log.level: info
//	services:
//	  shop:
//	    client:
//	      timeout: {retry: 500ms, total: 5s}
//	    versions:
//	      1.3.0:
//	        log.level: debug
//
// What is set for a version of a service wins over what is set for the service, and that over what is set for all. A key is
// written with dots, or as mappings inside each other, or both; a mapping is also a value itself, an object, so that
// client.timeout above is {"retry": "500ms", "total": "5s"}. "versions" directly below a service is no key.
//
// A file for `skybus up -f` has the same in its section config, and its other sections are not looked at:
//
//	http: 127.0.0.1:8080
//	config:
//	  all:
//	    log.level: info
//
// It is a package of its own so that a program without such a file links no YAML.
package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/goccy/go-yaml"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/config"
)

// MaxFile is the size of the largest file, in bytes.
const MaxFile = 1 << 20

const (
	versions        = "versions"
	platformSection = "config"
)

// Layer is the values of a file. It does not change when the file does.
type Layer struct {
	values map[config.Scope]map[string]json.RawMessage
}

var _ config.Layer = (*Layer)(nil)

// Load reads a file. Where there is none, the error is [os.ErrNotExist]. Errors name the place, never a value.
func Load(path string) (*Layer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("config: load: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("config: load: %w", err)
	}
	l, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("config: load %q: %w", path, err)
	}
	return l, nil
}

// Parse reads the content of a file. A section, a service or a version that cannot be one is refused, as is a key that is
// set twice in a scope or that is none. An empty file sets nothing.
func Parse(data []byte) (*Layer, error) {
	if len(data) > MaxFile {
		return nil, bus.Errorf(bus.InvalidArgument, "it has more than %d bytes", MaxFile)
	}
	root, err := read(data)
	if err != nil {
		return nil, err
	}
	if node, ok := root[platformSection]; ok {
		if root, err = mapping(platformSection, node); err != nil {
			return nil, err
		}
	}
	l := &Layer{values: map[config.Scope]map[string]json.RawMessage{}}
	for section, node := range root {
		switch section {
		case "all":
			err = l.section(config.Scope{}, section, node)
		case "services":
			err = each(section, node, l.service)
		default:
			err = bus.Errorf(bus.InvalidArgument, "section %.80q: want all or services", section)
		}
		if err != nil {
			return nil, err
		}
	}
	return l, nil
}

// read makes a tree of YAML.
func read(data []byte) (map[string]any, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var root any
	if err := dec.Decode(&root); err != nil && !errors.Is(err, io.EOF) {
		return nil, mistake(err)
	}
	var second any
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, bus.Errorf(bus.InvalidArgument, "it has more than one document")
	}
	return mapping("the file", root)
}

// mistake is err without the lines around it, which may hold secrets.
func mistake(err error) error {
	e, ok := errors.AsType[yaml.Error](err)
	if !ok {
		return bus.Errorf(bus.InvalidArgument, "it is no YAML")
	}
	line := 0
	if t := e.GetToken(); t != nil && t.Position != nil {
		line = t.Position.Line
	}
	return bus.Errorf(bus.InvalidArgument, "line %d: it is no YAML, or sets a name twice", line)
}

func (l *Layer) service(name string, node any) error {
	scope := config.Scope{Service: name}
	if err := scope.Check(); err != nil {
		return err
	}
	place := "services." + name
	m, err := mapping(place, node)
	if err != nil {
		return err
	}
	if node, ok := m[versions]; ok {
		delete(m, versions)
		err := each(place+"."+versions, node, func(version string, node any) error {
			scope := config.Scope{Service: name, Version: version}
			if err := scope.Check(); err != nil {
				return err
			}
			return l.section(scope, place+"."+versions+"."+version, node)
		})
		if err != nil {
			return err
		}
	}
	return l.section(scope, place, m)
}

func (l *Layer) section(scope config.Scope, place string, node any) error {
	m, err := mapping(place, node)
	if err != nil {
		return err
	}
	s := section{place: place, values: map[string]json.RawMessage{}}
	l.values[scope] = s.values
	return s.add("", m)
}

// section is where the values of a scope are gathered.
type section struct {
	place  string
	values map[string]json.RawMessage
}

// add sets what is below prefix, which ends in a dot or is empty.
func (s *section) add(prefix string, m map[string]any) error {
	for name, node := range m {
		key := prefix + name
		if err := config.CheckKey(key); err != nil {
			if prefix != "" {
				continue // a name inside an object
			}
			return fmt.Errorf("%s: %w", s.place, err)
		}
		if node == nil {
			return bus.Errorf(bus.InvalidArgument, "%s: %q has no value", s.place, key)
		}
		raw, err := json.Marshal(node)
		if err != nil {
			return bus.Errorf(bus.InvalidArgument, "%s: %q is nothing that JSON can say", s.place, key)
		}
		inner, isObject := node.(map[string]any)
		switch _, twice := s.values[key]; {
		case twice:
			return bus.Errorf(bus.InvalidArgument, "%s: %q is set twice", s.place, key)
		case len(raw) <= config.MaxValue:
			s.values[key] = raw
		case !isObject:
			return bus.Errorf(bus.InvalidArgument, "%s: %q has %d bytes: want at most %d", s.place, key, len(raw), config.MaxValue)
		}
		if err := s.add(key+".", inner); err != nil {
			return err
		}
	}
	return nil
}

// mapping is node, which must be a mapping or nothing.
func mapping(place string, node any) (map[string]any, error) {
	if node == nil {
		return nil, nil
	}
	m, ok := node.(map[string]any)
	if !ok {
		return nil, bus.Errorf(bus.InvalidArgument, "%s: want a mapping of names to values", place)
	}
	return m, nil
}

func each(place string, node any, f func(name string, node any) error) error {
	m, err := mapping(place, node)
	if err != nil {
		return err
	}
	for name, node := range m {
		if err := f(name, node); err != nil {
			return err
		}
	}
	return nil
}

// Setting is the value of key for a version of a service, or for the service, or for all.
func (l *Layer) Setting(service, version, key string) (json.RawMessage, bool) {
	for _, scope := range [...]config.Scope{{Service: service, Version: version}, {Service: service}, {}} {
		if raw, ok := l.values[scope][key]; ok {
			return raw, true
		}
	}
	return nil, false
}
