package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/registry"
)

type servicesShowCmd struct {
	Name string `arg:"" help:"Service, in any version or in one: NAME[:VERSION]."`
}

// Help is shown below the usage.
func (*servicesShowCmd) Help() string {
	return `Of each version, its endpoints as one of its instances tells of them, online ones first. With -o json their schemas are
whole, as JSON Schema.

Examples:

    skybus services show getwidgets
    skybus services show getwidgets:1.0.0 -o json`
}

// versionEndpoints are the endpoints of a version of a service as they are printed.
type versionEndpoints struct {
	Service     string         `json:"service"`
	Version     string         `json:"version"`
	Description string         `json:"description,omitempty"`
	Instance    string         `json:"instance"` // who told
	Instances   int            `json:"instances"`
	Endpoints   []endpointInfo `json:"endpoints"`
}

type endpointInfo struct {
	registry.Endpoint
	Subject string `json:"subject"`
}

// Run shows the endpoints of a service.
func (c *servicesShowCmd) Run(ctx context.Context, app *App) error {
	if _, err := registry.ParseServiceCriterion(c.Name); err != nil {
		return usagef("%s", bus.AsError(err).Message)
	}
	chosen := criteria{Service: []string{c.Name}}
	instances, err := chosen.instances(ctx, app)
	if err != nil {
		return err
	}
	if len(instances) == 0 {
		return withHint(bus.Errorf(bus.NotFound, "no instance of %q is known", c.Name), "`skybus services` lists the services")
	}
	ns, err := app.namespace()
	if err != nil {
		return err
	}
	var versions []versionEndpoints
	for _, all := range grouped(instances, func(i *registry.Instance) string { return i.Version }) {
		versions = append(versions, newVersionEndpoints(ns, all))
	}
	if app.Output != formatTable {
		return encode(app.stdout, app.Output, versions)
	}
	var rows [][]any
	for _, v := range versions {
		for _, e := range v.Endpoints {
			rows = append(rows, []any{v.Version, e.Name, e.properties(), shortSchema(e.Request), shortSchema(e.Response)})
		}
	}
	if len(rows) == 0 {
		app.note("%s has no endpoints", c.Name)
		return nil
	}
	return app.writeTable([]string{"version", "endpoint", "properties", "request", "response"}, rows)
}

func newVersionEndpoints(ns bus.Namespace, all []*registry.Instance) versionEndpoints {
	from := all[0]
	for _, i := range all {
		if i.State == registry.Online {
			from = i
			break
		}
	}
	v := versionEndpoints{
		Service: from.Service, Version: from.Version, Description: from.Description, Instance: from.Instance, Instances: len(all),
		Endpoints: []endpointInfo{},
	}
	for _, e := range from.Endpoints {
		v.Endpoints = append(v.Endpoints, endpointInfo{e, ns.ServiceSubject(from.Service, e.Name)})
	}
	return v
}

func (e endpointInfo) properties() string {
	var words []string
	for _, p := range []struct {
		is   bool
		word string
	}{{e.Idempotent, "idempotent"}, {e.OneWay, "one-way"}, {e.Amends, "amends"}, {e.Streams, "streams"}, {e.Internal, "internal"}} {
		if p.is {
			words = append(words, p.word)
		}
	}
	return strings.Join(words, " ")
}

// Bounds of a schema in a line.
const (
	maxShortDepth  = 3
	maxShortFields = 12
)

// shortSchema is a schema in a line as in {name: string, sizes: [integer]}; empty where there is none.
func shortSchema(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return "?"
	}
	return shortValue(v, maxShortDepth)
}

func shortValue(v any, depth int) string {
	schema, ok := v.(map[string]any)
	if !ok {
		return "any"
	}
	kind := schemaType(schema["type"])
	properties, _ := schema["properties"].(map[string]any)
	switch {
	case depth == 0 && (kind == "array" || kind == "object"):
		return "..."
	case kind == "array":
		return "[" + shortValue(schema["items"], depth-1) + "]"
	case kind == "object" && len(properties) == 0 && schema["additionalProperties"] != nil:
		return "{*: " + shortValue(schema["additionalProperties"], depth-1) + "}"
	case kind == "object":
		var fields []string
		for _, name := range slices.Sorted(maps.Keys(properties)) {
			if len(fields) == maxShortFields {
				fields = append(fields, "...")
				break
			}
			fields = append(fields, name+": "+shortValue(properties[name], depth-1))
		}
		return "{" + strings.Join(fields, ", ") + "}"
	}
	return kind
}

// schemaType is the type of a schema, without the null that many allow besides.
func schemaType(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []any:
		var types []string
		for _, t := range v {
			if s := fmt.Sprint(t); s != "null" {
				types = append(types, s)
			}
		}
		return strings.Join(types, "|")
	}
	return "any"
}
