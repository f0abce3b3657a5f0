package http

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/skybus-io/skybus/micro/registry"
	"github.com/skybus-io/skybus/micro/route"
)

const (
	maxOperations = 8192
	maxRouteDepth = 8 // routes within routes that are looked into
	routesTag     = "routes"
)

// docBuilder makes a document.
type docBuilder struct {
	g        *Gateway
	doc      *apiDocument
	services map[string]*registry.Service
	schemas  bool // are shown
	room     int  // for operations
	left     int  // what did not fit
	shapes   map[string]shapedPath
	entryOf  map[*apiOperation]*served
}

func newDocBuilder(g *Gateway, schemas bool, room int) *docBuilder {
	return &docBuilder{
		g: g, services: g.runner.Client().Registry().Services(), schemas: schemas, room: room, shapes: map[string]shapedPath{}, entryOf: map[*apiOperation]*served{},
		doc: &apiDocument{
			OpenAPI: "3.1.0", Servers: []apiServer{{"/"}}, Tags: []apiTag{}, Paths: map[string]map[string]any{}, Components: sharedComponents(),
		},
	}
}

func (b *docBuilder) build() *apiDocument {
	b.mounted()
	b.entries()
	b.routes()
	if !b.g.cfg.Call.Off {
		b.calls()
	}
	b.doc.Info = b.g.apiInfo(b.left)
	return b.doc
}

// add adds an operation where there is none yet and there is room for it, and tells whether it did.
func (b *docBuilder) add(path, method string, op *apiOperation) bool {
	method = strings.ToLower(method)
	switch {
	case b.doc.Paths[path][method] != nil:
		return false
	case b.room == 0:
		b.left++
		return false
	case b.doc.Paths[path] == nil:
		b.doc.Paths[path] = map[string]any{}
	}
	b.room--
	b.doc.Paths[path][method] = op
	return true
}

// tag adds a tag unless there is one of its name.
func (b *docBuilder) tag(tag apiTag) {
	if !slices.ContainsFunc(b.doc.Tags, func(t apiTag) bool { return t.Name == tag.Name }) {
		b.doc.Tags = append(b.doc.Tags, tag)
	}
}

// secure adds what an entry asks of who sends a request, and that there are limits.
func (b *docBuilder) secure(op *apiOperation, e *served) {
	if e.limits != nil || b.g.whole != nil {
		op.Responses["429"] = ref("responses", "TooMany")
	}
	guard := b.g.cfg.Guard
	if guard == nil || e.policy == nil {
		return
	}
	maps.Copy(b.doc.Components["securitySchemes"], guard.SecuritySchemes())
	op.Security = guard.SecurityRequirements(*e.policy)
	op.Responses["401"], op.Responses["403"] = ref("responses", "Unauthenticated"), ref("responses", "PermissionDenied")
}

// schema makes a component and returns a reference to it, or any where there is none to show.
func (b *docBuilder) schema(name string, schema map[string]any) any {
	switch {
	case schema == nil:
		return map[string]any{}
	case !b.schemas:
		b.left++
		return map[string]any{}
	}
	b.doc.Components["schemas"][name] = schema
	return ref("schemas", name)
}

// calls adds the endpoints that can be called, by service.
func (b *docBuilder) calls() {
	for _, name := range slices.Sorted(maps.Keys(b.services)) {
		s := b.services[name]
		instances := slices.Concat(s.Online, s.Rest)
		added := false
		for _, e := range publicEndpoints(instances) {
			if !e.Streams { // they need an entry
				added = b.call(name, e) || added
			}
		}
		if added {
			b.tag(apiTag{name, serviceDescription(instances)})
		}
	}
}

// serviceDescription is that of the newest version that has one.
func serviceDescription(instances []*registry.Instance) string {
	slices.SortStableFunc(instances, byVersion)
	for _, i := range instances {
		if i.Description != "" {
			return cut(i.Description)
		}
	}
	return ""
}

// endpointDescription is what an endpoint says of itself.
func endpointDescription(e registry.Endpoint) string {
	text := cut(e.Description)
	if e.Idempotent {
		text += "\n\nIt may be asked twice: that does no harm."
	}
	return strings.TrimSpace(text)
}

func (b *docBuilder) call(service string, e registry.Endpoint) bool {
	id := service + "." + e.Name
	request, response := cleanSchema(e.Request), cleanSchema(e.Response)
	op := &apiOperation{
		Tags: []string{service}, OperationID: "call." + id, Summary: id, Description: endpointDescription(e),
		Parameters:  []any{ref("parameters", "Version"), ref("parameters", "Instance")},
		RequestBody: &apiBody{Content: contentOf(b.schema(id+".Request", request), typeJSON, typeMessagePack, typeForm)},
		Responses:   answers("What the endpoint answers.", b.schema(id+".Response", response)),
	}
	b.secure(op, b.g.byCall)
	return b.add(callPath+service+"/"+e.Name, http.MethodPost, op)
}

// routes adds the routes that are run by their names.
func (b *docBuilder) routes() {
	names := b.g.runner.Names()
	slices.Sort(names)
	added := false
	for _, name := range names {
		stored, ok := b.g.runner.Route(name)
		if !ok {
			continue
		}
		request, response := b.routeSchemas(stored.Route, []string{name})
		op := &apiOperation{
			Tags: []string{routesTag}, OperationID: "route." + name, Summary: name, Description: routeDescription(stored.Route),
			RequestBody: &apiBody{Content: contentOf(b.schema("route."+name+".Request", allOf(request)), typeJSON, typeMessagePack, typeForm)},
			Responses:   answers("What the steps made of the response.", b.schema("route."+name+".Response", allOf(response))),
		}
		b.secure(op, b.g.byRoute)
		added = b.add("/"+name, http.MethodPost, op) || added
	}
	if added {
		b.tag(apiTag{routesTag, "Steps that are run one after the other, by the name of the route."})
	}
}

// routeSchemas are those of the steps: all are given the request, and each may add to the response. within are the routes it is in.
func (b *docBuilder) routeSchemas(r route.Route, within []string) (request, response []map[string]any) {
	for _, step := range r.Steps {
		if step.Route != "" {
			inner, ok := b.g.runner.Route(step.Route)
			if !ok || slices.Contains(within, step.Route) || len(within) >= maxRouteDepth {
				continue
			}
			in, out := b.routeSchemas(inner.Route, append(slices.Clone(within), step.Route))
			request = append(request, in...)
			if !step.Async {
				response = append(response, out...)
			}
			continue
		}
		s := b.services[step.Service]
		if s == nil {
			continue
		}
		for _, e := range allEndpoints(slices.Concat(s.Online, s.Rest), step.Version) {
			if e.Name != step.Endpoint {
				continue
			}
			request = append(request, cleanSchema(e.Request))
			if !step.Async {
				// Not all steps answer, and what one leaves out another may add.
				out := cleanSchema(e.Response)
				delete(out, "required")
				response = append(response, out)
			}
		}
	}
	return request, response
}

func routeDescription(r route.Route) string {
	var steps []string
	for i, step := range r.Steps {
		text := fmt.Sprintf("%d. `%s`", i+1, step.Target())
		if step.Async {
			text += ", stored for later"
		}
		steps = append(steps, text)
	}
	return cut(strings.TrimSpace(r.Description + "\n\n" + strings.Join(steps, "\n")))
}
