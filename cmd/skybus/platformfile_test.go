package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/skybus-io/skybus/initiators"
)

// upFlags are what a platform's file may hold of flags.
func upFlags(t *testing.T) map[string]*kong.Flag {
	t.Helper()
	root := &cli{}
	parser, err := newParser(root, &App{globals: root.common(), stdout: io.Discard, stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	return platformFlags(childOf(parser.Model.Node, "up"))
}

var wanted = regexp.MustCompile(`unknown field: want (.*)$`)

// TestPlatformSchema: the schema knows each field that files may have, and no others. What files may have is known by what is said of a field that
// they may not.
func TestPlatformSchema(t *testing.T) {
	t.Parallel()
	flags := upFlags(t)
	data, err := platformSchema(flags)
	if err != nil {
		t.Fatal(err)
	}
	var root any
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	checked := 0
	var walk func(s map[string]any, path []string)
	walk = func(s map[string]any, path []string) {
		for _, one := range schemasOf(s["oneOf"]) {
			walk(one, path)
		}
		if items, ok := s["items"].(map[string]any); ok {
			walk(items, append(slices.Clone(path), "[]"))
		}
		if each, ok := s["additionalProperties"].(map[string]any); ok {
			walk(each, append(slices.Clone(path), "some-name"))
		}
		fields, ok := s["properties"].(map[string]any)
		if !ok || slices.Equal(path, []string{"config"}) { // whose values have any names
			return
		}
		checked++
		var names []string
		for name, of := range fields {
			names = append(names, name)
			if inner, ok := of.(map[string]any); ok {
				walk(inner, append(slices.Clone(path), name))
			}
		}
		slices.Sort(names)
		if diff := cmp.Diff(knownFields(t, flags, path), names); diff != "" {
			t.Errorf("%s: files (-), schema (+):\n%s", strings.Join(path, "."), diff)
		}
	}
	walk(root.(map[string]any), nil) //nolint:forcetypeassert // the test ends
	if checked < 20 {
		t.Errorf("%d objects were looked at", checked)
	}
}

func schemasOf(v any) []map[string]any {
	var all []map[string]any
	list, _ := v.([]any)
	for _, one := range list {
		if m, ok := one.(map[string]any); ok {
			all = append(all, m)
		}
	}
	return all
}

// knownFields are those that a file may have at path.
func knownFields(t *testing.T, flags map[string]*kong.Flag, path []string) []string {
	t.Helper()
	text := `{"no_such_field": 1}`
	for _, name := range slices.Backward(path) {
		if name == "[]" {
			text = "[" + text + "]"
		} else {
			text = fmt.Sprintf("{%q: %s}", name, text)
		}
	}
	_, err := parsePlatform("x.yaml", []byte(text), flags)
	if err == nil {
		t.Errorf("%s: taken", text)
		return nil
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if m := wanted.FindStringSubmatch(line); m != nil {
			names := regexp.MustCompile(`[\w-]+`).FindAllString(strings.ReplaceAll(m[1], " or ", " "), -1)
			slices.Sort(names)
			return names
		}
	}
	t.Errorf("%s: %v", text, err)
	return nil
}

// TestPlatformExample: the example of the guide is as the schema and the program want it.
func TestPlatformExample(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../../docs/platform.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(guide), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	flags := upFlags(t)
	p, err := parsePlatform("skybus.yaml", []byte(example), flags)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.routes) == 0 || len(p.entries) == 0 || p.mirror == nil || p.tcp == nil || p.files == nil || len(p.flags) == 0 {
		t.Errorf("the example does not show everything: %+v", p)
	}
	data, err := platformSchema(flags)
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := resolved.Validate(yamlValue(t, example)); err != nil {
		t.Error(err)
	}
	if err := resolved.Validate(map[string]any{"htpp": "x"}); err == nil {
		t.Error("a field that there is not fits the schema")
	}
}

// yamlValue is YAML as JSON has it.
func yamlValue(t *testing.T, text string) any {
	t.Helper()
	f := entryFile{yamlFile: yamlFile{what: "file"}}
	body := f.read([]byte(text))
	data, err := json.Marshal(f.plain("", body))
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestPlatformMistakes(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "skybus.yaml")
	for text, want := range map[string]string{
		"htpp: x\n":         "line 1: htpp: unknown field",
		"\nhttp: nowhere\n": "line 2: http: ",
		"memory: maybe\n":   "line 1: memory: want true or false",
		"max_body: lots\n":  "line 1: max_body: ",
		"mirror:\n  lanes: 5\n  backends:\n  - url: x\n":   "line 4: mirror.backends[0]",
		"tcp:\n  listeners:\n  - name: a\n    listne: b\n": "line 4: tcp.listeners[0].listne: unknown field",
		"tcp:\n  listeners:\n  - name: a\n    listen: b\n": "line 4: tcp.listeners[0].listen: ",
		"files:\n  sources:\n  - name: a\n    dri: b\n":    "line 4: files.sources[0].dri: unknown field",
		"gateway:\n  entries:\n    a:\n      path: b\n":    "gateway.entries.a",
		"routes:\n  a:\n    steps:\n    - service: b\n":    "line 4: routes.a.steps",
		"config:\n  any:\n    a: b\n":                      "line 2: config: ",
		"gateway:\n  access:\n    kees: {}\n":              "line 3: gateway.access.kees: unknown field",
		"mirror: 5\n":                                      "line 1: mirror: want fields",
		"password: x\n":                                    "line 1: password: unknown field",
		"data: a\nmemory: true\n":                          "--data and --memory",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, stderr := runs(t.Context(), &cli{}, "config", "check", file)
		if code != exitUsage || !strings.Contains(stderr, want) || !strings.Contains(stderr, "skybus.yaml") {
			t.Errorf("%q: exit %d, %s\nwant %q", text, code, stderr, want)
		}
	}
}

// TestPlatformDoesNotGoTogether: what cannot go together is told with its line before anything is started.
func TestPlatformDoesNotGoTogether(t *testing.T) {
	t.Parallel()
	flags := upFlags(t)
	entry := func(text string) string {
		return "gateway:\n  entries:\n    a: {path: /a, call: x.y}\n    b: " + text + "\n"
	}
	source := func(text string) string { return "files:\n  sources:\n  - {name: a, dir: in, " + text + "}\n" }
	listener := func(text string) string {
		return "tcp:\n  listeners:\n  - {name: a, listen: \"127.0.0.1:0\", " + text + "}\n"
	}
	for _, tt := range []struct{ name, text, want string }{
		{"two entries for one path", entry(`{method: GET, path: "/x/{id}", call: x.y}`) + `    c: {method: GET, path: "/x/{name}", call: x.y}`, `line 5: gateway.entries.c: conflicts with entry "b": `},
		{"conflict with all methods", entry(`{path: "/{x}/y", call: x.y}`) + `    c: {path: "/x/{y}", call: x.y}`, `line 5: gateway.entries.c: conflicts with entry "b": `},
		{"conflict at all listeners", entry(`{path: /x, listener: "*", call: x.y}`) + `    c: {path: /x, listener: inner, call: x.y}`, `line 5: gateway.entries.c: conflicts with entry "b": `},
		{"listeners apart", entry(`{path: /x, listener: other, call: x.y}`) + `    c: {path: /x, listener: inner, call: x.y}`, ""},
		{"no such parameter", entry(`{path: "/x/{id}", call: x.y, request: {fields: {a: "{path.ids}"}}}`), "line 4: gateway.entries.b.request.fields.a: {path.ids} is never there: want a parameter"},
		{"a credential", entry(`{path: /x, call: x.y, request: {fields: {a: "{header.authorization}"}}}`), "line 4: gateway.entries.b.request.fields.a: {header.authorization} is never there: want a parameter"},
		{"constants", entry(`{path: /x, call: x.y, request: {fields: {a: 2, b: true, c: null, d: [1, x]}}}`), ""},
		{"constants of a frame", listener(`target: {call: x.y, request: {fields: {a: 2, b: [true]}}}`), ""},
		{"template in a list", entry(`{path: "/x/{id}", call: x.y, request: {fields: {a: ["{path.id}"]}}}`), "line 4: gateway.entries.b.request.fields.a: constant"},
		{"template in an object", listener(`target: {call: x.y, request: {fields: {a: {b: "{line}"}}}}`), "line 3: tcp.listeners[0].target.request.fields.a: constant"},
		{"fields that are none", entry(`{path: /x, call: x.y, request: {fields: [a]}}`), "line 4: gateway.entries.b.request.fields: want names"},
		{"fields of a frame that are none", listener(`target: {call: x.y, request: {fields: a}}`), "line 3: tcp.listeners[0].target.request.fields: want names"},
		{"optional", entry(`{path: "/x/{id}", call: x.y, request: {fields: {a: "{path.ids|optional}"}}}`), ""},
		{"of files", entry(`{path: /x, publish: "default.dev.pub.{line}"}`), "line 4: gateway.entries.b.publish: {line} is never there"},
		{"events without the parameter", entry(`{path: /x, events: {subject: "default.dev.pub.{path.id}"}}`), "line 4: gateway.entries.b.events.subject: {path.id} is never there"},
		{"name of a route", "routes:\n  no name:\n    steps: [{service: a, endpoint: b}]\n", `line 2: routes: route "no name": character`},
		{"member of a line", source(`target: {call: x.y, request: {body: none, fields: {a: "{record.a}"}}}`), "line 3: files.sources[0].target.request.fields.a: {record.a} is never there: want {line}"},
		{"line of a whole file", source(`format: whole, target: {publish: "default.dev.pub.{line}"}`), "line 3: files.sources[0].target.publish: {line} is never there"},
		{"no such column", source(`format: csv, columns: [a], target: {publish: "default.dev.pub.{record.b}"}`), "line 3: files.sources[0].target.publish: {record.b} is never there"},
		{"a column", source(`format: csv, target: {publish: "default.dev.pub.{record.b}"}`), ""},
		{"who without certificates", listener(`target: {call: x.y, request: {body: none, fields: {a: "{tls.cn}"}}}`), "line 3: tcp.listeners[0].target.request.fields.a: {tls.cn} is never there"},
		{"path of a line", listener(`target: {publish: "default.dev.pub.{path.id}"}`), "line 3: tcp.listeners[0].target.publish: {path.id} is never there"},
		{"a line", listener(`target: {publish: "default.dev.pub.{line}"}`), ""},
		{"a scope in a list in braces", entry(`{path: /x, call: x.y, auth: {scopes: [orders:read, "a:b", x:y:z]}}`), ""},
		{"fields in a list in braces", entry(`{path: /x, call: x.y, auth: {scopes: [orders: read]}}`), "line 4: gateway.entries.b.auth.scopes[0]: want text"},
	} {
		p, err := parsePlatform("f", []byte(tt.text), flags)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.HasPrefix(message(err), "f: "+tt.want)):
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		case tt.name == "constants":
			if diff := cmp.Diff(initiators.Fields{"a": "{=2}", "b": "{=true}", "c": "{=null}", "d": `{=[1,"x"]}`}, p.entries[1].entry.Request.Fields); diff != "" {
				t.Error(diff)
			}
		case tt.name == "constants of a frame":
			if diff := cmp.Diff(initiators.Fields{"a": "{=2}", "b": "{=[true]}"}, p.tcp.Listeners[0].Target.Request.Fields); diff != "" {
				t.Error(diff)
			}
		case tt.name == "a scope in a list in braces":
			if diff := cmp.Diff([]string{"orders:read", "a:b", "x:y:z"}, p.entries[1].entry.Auth.Scopes); diff != "" {
				t.Error(diff)
			}
		}
	}
}
