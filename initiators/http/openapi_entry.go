package http

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/skybus-io/skybus/initiators"
)

const entriesTag = "entries"

// entries adds the operations of the entries in service, by name.
func (b *docBuilder) entries() {
	t := b.g.table.Load()
	for _, name := range slices.Sorted(maps.Keys(t.byName)) {
		e := t.byName[name]
		path, params := b.entryPath(e.Path)
		list := e.methodList()
		if len(list) == 0 {
			list = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
		}
		added := false
		for _, method := range list {
			op := b.entry(e, method, params, len(list) > 1)
			if b.add(path, method, op) {
				added, b.entryOf[op] = true, e
			} else {
				b.elsewhere(path, method, e)
			}
		}
		for _, tag := range entryTags(e) {
			if added {
				b.tag(apiTag{Name: tag})
			}
		}
	}
}

// elsewhere tells of an entry at another host or listener where one is for the same path and method: OpenAPI has one operation for both.
func (b *docBuilder) elsewhere(path, method string, e *served) {
	op, _ := b.doc.Paths[path][strings.ToLower(method)].(*apiOperation)
	there := b.entryOf[op]
	if there == nil || there.Host == e.Host && there.Listener == e.Listener {
		return
	}
	b.left++
	op.Description = cut(strings.TrimSpace(op.Description + "\n\nThe entry " + e.name + " is for the same " + e.where() + "."))
}

// where is the host and the listener of an entry, for people.
func (e *served) where() string {
	host, listener := "at any host", ""
	if e.Host != "" {
		host = "at " + e.Host
	}
	if e.Listener != "" && e.Listener != AllListeners {
		listener = ", at the listener " + e.Listener
	}
	return host + listener
}

func entryTags(e *served) []string {
	if len(e.Tags) == 0 {
		return []string{entriesTag}
	}
	return e.Tags
}

// pathParameter is a parameter of a path: its name in the document, that in the entry, and whether it may hold slashes.
type pathParameter struct {
	shown, name string
	rest        bool
}

// entryPath is a pattern as the document has it. OpenAPI takes paths for the same that differ in the names of parameters alone: the names of
// the first are those of all.
func (b *docBuilder) entryPath(pattern string) (path string, params []pathParameter) {
	var segments, shape []string
	for segment := range strings.SplitSeq(strings.TrimSuffix(pattern, "{$}"), "/") {
		name, ok := strings.CutPrefix(segment, "{")
		name, closed := strings.CutSuffix(name, "}")
		if !ok || !closed {
			segments, shape = append(segments, segment), append(shape, segment)
			continue
		}
		name, rest := strings.CutSuffix(name, "...")
		params = append(params, pathParameter{name, name, rest})
		segments, shape = append(segments, "{"+name+"}"), append(shape, "{}")
	}
	path, key := strings.Join(segments, "/"), strings.Join(shape, "/")
	if known, ok := b.shapes[key]; ok {
		for i := range params {
			params[i].shown = known.params[i].shown
		}
		return known.path, params
	}
	b.shapes[key] = shapedPath{path, params}
	return path, params
}

// shapedPath is a path as it is in the document.
type shapedPath struct {
	path   string
	params []pathParameter
}

// entry is the operation of an entry and a method.
func (b *docBuilder) entry(e *served, method string, params []pathParameter, several bool) *apiOperation {
	id := "http." + e.name
	if several {
		id += "." + strings.ToLower(method)
	}
	request, response := b.targetSchemas(e)
	op := &apiOperation{Tags: entryTags(e), OperationID: id, Summary: e.name, Description: b.entryDescription(e)}
	op.Parameters = b.entryParameters(e, method, params, request)
	if !bodiless(method) {
		op.RequestBody = b.entryBody(e, params, request)
	}
	op.Responses = b.entryAnswers(e, response)
	b.secure(op, e)
	if e.Host != "" {
		op.Servers = []apiServer{{"//" + e.Host + "/"}}
	}
	return op
}

func (b *docBuilder) entryDescription(e *served) string {
	text := cut(e.Description)
	if e.Listener != "" && e.Listener != AllListeners {
		text += "\n\nIt is at the listener " + e.Listener + "."
	}
	return strings.TrimSpace(text)
}

// targetSchemas are what the target takes and gives, nil where that is not known.
func (b *docBuilder) targetSchemas(e *served) (request, response map[string]any) {
	target := e.Call
	if e.Events != nil && e.Events.Call != "" {
		target = e.Events.Call
	}
	switch {
	case target != "":
		service, endpoint, _ := strings.Cut(target, ".")
		s := b.services[service]
		if s == nil {
			return nil, nil
		}
		for _, ep := range allEndpoints(slices.Concat(s.Online, s.Rest), "") {
			if ep.Name == endpoint {
				return cleanSchema(ep.Request), cleanSchema(ep.Response)
			}
		}
	case e.Route != "":
		if stored, ok := b.g.runner.Route(e.Route); ok {
			in, out := b.routeSchemas(stored.Route, []string{e.Route})
			return allOf(in), allOf(out)
		}
	}
	return nil, nil
}

// properties are those of a schema, also of what it is made of.
func properties(schema map[string]any) map[string]any {
	all := map[string]any{}
	if parts, ok := schema["allOf"].([]any); ok {
		for _, part := range parts {
			if inner, ok := part.(map[string]any); ok {
				maps.Copy(all, properties(inner))
			}
		}
	}
	if own, ok := schema["properties"].(map[string]any); ok {
		maps.Copy(all, own)
	}
	return all
}

// entryParameters are those of the path, and what else the request is made of or may say.
func (b *docBuilder) entryParameters(e *served, method string, params []pathParameter, request map[string]any) []any {
	var all []any
	known := properties(request)
	asked := map[string]initiators.Placeholder{}
	templates := e.Placeholders()
	if e.Events != nil {
		templates = append(templates, initiators.Placeholders(e.Events.Subject)...)
	}
	for _, p := range templates {
		asked[p.Name] = p
	}
	for _, p := range params {
		parameter := parameterOf(p.shown, "path", known[p.name], asked["path."+p.name].Type)
		parameter.Required, parameter.Rest = true, p.rest
		all = append(all, parameter)
	}
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		in, rest, _ := strings.Cut(name, ".")
		if rest == "" || in != "query" && in != "cookie" && in != "header" || in == "header" && reservedParameter(rest) {
			continue
		}
		parameter := parameterOf(rest, in, nil, asked[name].Type)
		parameter.Required = !asked[name].Optional
		all = append(all, parameter)
	}
	if e.merging != nil && bodiless(method) {
		for _, name := range slices.Sorted(maps.Keys(known)) {
			inPath := slices.ContainsFunc(params, func(p pathParameter) bool { return p.name == name })
			if !inPath && takesText(known[name]) { // which is what becomes of it
				all = append(all, parameterOf(name, "query", known[name], ""))
			}
		}
	}
	return append(all, b.entryHeaders(e, method)...)
}

// reservedParameter tells whether OpenAPI has another place for a header.
func reservedParameter(header string) bool {
	switch http.CanonicalHeaderKey(header) {
	case "Accept", "Content-Type", "Authorization":
		return true
	}
	return false
}

// takesText tells whether a property may be a string.
func takesText(property any) bool {
	schema, ok := property.(map[string]any)
	if !ok {
		return property == true
	}
	switch types := schema["type"].(type) {
	case string:
		return types == "string"
	case []any:
		return slices.Contains(types, any("string"))
	}
	return true
}

// parameterOf is a parameter with the description of a property, which may be nil. What kind of value it is only filters say: without, it is text.
func parameterOf(name, in string, property any, kind string) apiParameter {
	p := apiParameter{Name: name, In: in, Schema: map[string]any{"type": cmp.Or(kind, "string")}}
	if schema, ok := property.(map[string]any); ok {
		p.Description, _ = schema["description"].(string)
	}
	return p
}

// entryHeaders are headers that mean something to the gateway.
func (b *docBuilder) entryHeaders(e *served, method string) []any {
	var all []any
	text := func(name, description string, required bool) {
		all = append(all, apiParameter{Name: name, In: "header", Description: description, Required: required, Schema: map[string]any{"type": "string"}})
	}
	writes := method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
	if e.Idempotency != nil && writes {
		text("Idempotency-Key", "The same when the request is repeated: it is done once.", e.Idempotency.Required)
	}
	if e.Async != nil && !e.Async.Always {
		text("Prefer", "respond-async for an answer that is asked for later.", false)
	}
	if e.Events != nil {
		text("Last-Event-ID", "The id of the last event that was seen.", false)
	}
	if e.MaxTimeout > 0 {
		text("Skybus-Timeout", "How long to wait, in milliseconds or as 2s; at most "+e.longest.String()+".", false)
	}
	return all
}

// entryBody is what the body may be, nil for none.
func (b *docBuilder) entryBody(e *served, params []pathParameter, request map[string]any) *apiBody {
	m := e.Request
	switch {
	case e.Events != nil && e.Events.Call == "", m != nil && m.Body == initiators.BodyNone && !slices.ContainsFunc(e.Placeholders(), ofBody):
		return nil
	case m != nil && m.Body == initiators.BodyNone:
		return &apiBody{Content: contentOf(b.formSchema(e), typeJSON, typeForm, typeMultipart)}
	case e.raw:
		return &apiBody{Description: "Anything, as it is.", Content: contentOf(map[string]any{}, typeJSON, "*/*")}
	}
	var made []string // what does not come from the body
	for _, p := range params {
		made = append(made, p.name)
	}
	if m != nil {
		made = slices.Collect(maps.Keys(m.Fields))
	}
	return &apiBody{Content: contentOf(b.schema("http."+e.name+".Request", without(request, made)), typeJSON, typeMessagePack, typeForm, typeMultipart)}
}

func ofBody(p initiators.Placeholder) bool {
	return p.Name == "body" || strings.HasPrefix(p.Name, "body.") || strings.HasPrefix(p.Name, "form.")
}

// formSchema is what placeholders take from a form or a body.
func (b *docBuilder) formSchema(e *served) map[string]any {
	fields := map[string]any{}
	var required []string
	for _, p := range e.Placeholders() {
		kind, name, _ := strings.Cut(p.Name, ".")
		if name == "" || kind != "form" && kind != "body" || strings.ContainsRune(name, '.') {
			continue
		}
		fields[name] = map[string]any{}
		if !p.Optional {
			required = append(required, name)
		}
	}
	schema := map[string]any{"type": "object", "properties": fields}
	if len(required) > 0 {
		schema["required"] = required
	}
	return schema
}

// without is a schema without some of its properties. It shares with schema what stays.
func without(schema map[string]any, names []string) map[string]any {
	own, ok := schema["properties"].(map[string]any)
	if !ok || len(names) == 0 {
		return schema
	}
	out, rest := maps.Clone(schema), maps.Clone(own)
	for _, name := range names {
		delete(rest, name)
	}
	out["properties"] = rest
	if list, ok := schema["required"].([]any); ok {
		out["required"] = slices.DeleteFunc(slices.Clone(list), func(v any) bool {
			name, _ := v.(string)
			return slices.Contains(names, name)
		})
	}
	return out
}

// entryAnswers are the answers of an entry.
func (b *docBuilder) entryAnswers(e *served, response map[string]any) map[string]any {
	all := answers("", nil)
	delete(all, "200")
	shared := map[int]any{}
	for code, status := range e.Statuses {
		if code != codeOK {
			shared[status] = ref("responses", "Error")
		}
	}
	for status, r := range shared {
		if key := strconv.Itoa(status); all[key] == nil {
			all[key] = r
		}
	}
	if e.Async != nil {
		all["202"] = apiResponse{
			Description: "It is stored, and asked for at the Location later.",
			Headers:     map[string]any{"Location": map[string]any{"schema": map[string]string{"type": "string"}}},
		}
		if e.Async.Always {
			return all
		}
	}
	good := apiResponse{Description: "What the target answers.", Headers: map[string]any{requestIDHeader: ref("headers", requestIDHeader)}}
	good.Content = b.entryContent(e, response)
	all[strconv.Itoa(e.okStatus())] = good
	return all
}

func (b *docBuilder) entryContent(e *served, response map[string]any) map[string]apiMedia {
	if e.Events != nil {
		return map[string]apiMedia{typeEvents: {map[string]any{"type": "string", "description": "Events, as the HTML standard writes them."}}}
	}
	if e.Reply != nil {
		response = nil // it is made into something else
	}
	schema := b.schema("http."+e.name+".Response", response)
	content := map[string]apiMedia{}
	for _, o := range e.offers {
		switch o.form {
		case formJSON, formMessagePack:
			content[o.media] = apiMedia{schema}
		case formTemplate:
			content[o.media] = apiMedia{map[string]any{"type": "string"}}
			if o.media == typeJSON {
				content[o.media] = apiMedia{map[string]any{}}
			}
		case formPage:
		}
	}
	return content
}
