package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/route"
)

func TestParseRoute(t *testing.T) {
	t.Parallel()
	ab := route.Route{Steps: []route.Step{{Service: "a", Endpoint: "b"}}}
	full := route.Route{Description: "all of it", Steps: []route.Step{
		{Service: "a", Endpoint: "b", Version: "1.10.0", Async: true, Retry: true, Required: new(false), Timeout: route.Duration(1500 * time.Millisecond)},
		{Service: "c", Endpoint: "d", Required: new(true)},
	}}
	for name, tt := range map[string]struct {
		text string
		want route.Route
	}{
		"yaml": {"steps:\n- service: a\n  endpoint: b\n", ab},
		"json": {`{"steps": [{"service": "a", "endpoint": "b"}]}`, ab},
		"all fields": {`
description: all of it
steps:
  - service: a          # a comment
    endpoint: b
    version: 1.10.0
    async: true
    retry: true
    required: false
    timeout: 1.5s
  - {service: "c", endpoint: 'd', required: true}
`, full},
		"nulls are not there": {"description:\nsteps:\n- service: a\n  endpoint: b\n  version: null\n  async: null\n  required: ~\n  timeout:\n", ab},
		"numbers are text":    {"description: 1.10\nsteps:\n- {service: 3, endpoint: 07}\n", route.Route{Description: "1.10", Steps: []route.Step{{Service: "3", Endpoint: "07"}}}},
		"words are text":      {"steps:\n- {service: yes, endpoint: true}\n", route.Route{Steps: []route.Step{{Service: "yes", Endpoint: "true"}}}},
		"a block of text":     {"description: |\n  two\n  lines\nsteps:\n- {service: a, endpoint: b}\n", route.Route{Description: "two\nlines\n", Steps: ab.Steps}},
		"anchors":             {"steps:\n- &first\n  service: &name a\n  endpoint: b\n- *first\n- {service: *name, endpoint: b}\n", route.Route{Steps: []route.Step{ab.Steps[0], ab.Steps[0], ab.Steps[0]}}},
		"markers and tags":    {"%YAML 1.2\n---\n# a route\nsteps:\n- service: !!str a\n  endpoint: b\n...\n", ab},
		"as editors write it": {"\ufeffsteps:\r\n- service: a\r\n  endpoint: b\r\n", ab},
	} {
		got, err := parseRoute("f", []byte(tt.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestParseRouteRefuses(t *testing.T) {
	t.Parallel()
	const step = "steps:\n- service: a\n  endpoint: b\n"
	for _, tt := range []struct{ name, text, want string }{
		{"bad indentation", "steps:\n  - service: a\n   endpoint: b\n", "f: line 3, column 4: "},
		{"a tab", "steps:\n- service: a\n\tendpoint: b\n", "f: line 3, column 1: "},
		{"cut JSON", `{"steps": [{"service": "a"`, "f: line 1, column "},
		{"text after JSON", `{"steps": []} and more`, "f: line 1, column 15: "},
		{"a second document", step + "---\nfoo: bar\n", "f: line 5: there is something after the route"},
		{"a field twice", "steps:\n- service: a\n  service: b\n", "f: line 3, column 3: "},
		{"nothing", "", "f: it is empty"},
		{"a comment only", "# steps\n", "f: it is empty"},
		{"binary", "\xff\xfe\x00", "f: line 1: want fields, one of them description, steps"},
		{"a list", "[]", "f: line 1: want fields"},
		{"null", "null", "f: line 1: want fields"},
		{"unknown field", "stepz:\n- service: a\n", "f: line 1: stepz: unknown field: want description, steps"},
		{"unknown field of a step", step + "  asinc: true\n", "f: line 4: steps[0].asinc: unknown field: want async, endpoint, "},
		{"a field in capitals", "Steps: []\n", "f: line 1: Steps: unknown field"},
		{"steps are fields", "steps:\n  service: a\n", "f: line 2: steps: want a list"},
		{"a step is text", "steps:\n- a.b\n", "f: line 2: steps[0]: want fields, one of them async, endpoint"},
		{"a step is missing", step + "-\n", "f: line 4: steps[1]: want fields"},
		{"text for a switch", step + "  async: maybe\n", "f: line 4: steps[0].async: want true or false"},
		{"a number for a switch", step + "  required: 0\n", "f: line 4: steps[0].required: want true or false"},
		{"a list for text", "steps:\n- endpoint: b\n  service: [a]\n", "f: line 3: steps[0].service: want text"},
		{"no such anchor", "steps:\n- endpoint: b\n  service: *a\n", "f: line 3: steps[0].service: want text"},
		{"bad token", "steps:\n- service: a\n  endpoint: b c\n", `f: line 3: steps[0].endpoint: endpoint "b c": character`},
		{"wildcard", `{"steps":[{"service":">","endpoint":"b"}]}`, "f: line 1: steps[0].service: "},
		{"bad version", step + "  version: 1.0\n", `f: line 4: steps[0].version: version "1.0"`},
		{"no service", "steps:\n\n- endpoint: b\n", "f: line 3: steps[0].service: "},
		{"no steps", "description: x\n", "f: steps: there are 0"},
		{"steps of nothing", "description: x\nsteps:\n", "f: line 2: steps: there are 0"},
		{"an empty list", "steps: []\n", "f: line 1: steps: there are 0"},
		{"too many steps", "steps:\n" + strings.Repeat("- {service: a, endpoint: b}\n", route.MaxSteps+1), "f: line 1: steps: there are 65"},
		{"timeout of words", step + "  timeout: soon\n", `f: line 4: steps[0].timeout: duration "soon"`},
		{"timeout without a unit", step + "  timeout: 5\n", `f: line 4: steps[0].timeout: duration "5"`},
		{"timeout too long", step + "  timeout: 2h\n", "f: line 4: steps[0].timeout: 2h"},
		{"timeout below zero", step + "  timeout: -5s\n", "f: line 4: steps[0].timeout: -5s"},
		{"several", step + "  async: 1\n  retry: 2\n", "f: 2 mistakes:\n  line 4: steps[0].async: want true or false\n  line 5: steps[0].retry: want true or false"},
	} {
		_, err := parseRoute("f", []byte(tt.text))
		if err == nil {
			t.Errorf("%s: no error", tt.name)
			continue
		}
		if got := message(err); !strings.HasPrefix(got, tt.want) || bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("%s: %s, %q, want %q", tt.name, bus.CodeOf(err), got, tt.want)
		}
	}
}

func FuzzParseRoute(f *testing.F) {
	for _, text := range []string{
		"steps:\n- &a {service: a, endpoint: b}\n- *a\n", `{"steps":[{"service":"a","endpoint":"b","timeout":"1s"}]}`,
		"a: &x [*x]\n", "<<: {steps: []}\n", "? a\n: b\n", "steps:\n- service: |\n    a\n  required:\n", "--- {}\n--- {}\n", "\ufeff# x\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRoute("f", data)
		if err == nil && r.Validate() != nil {
			t.Errorf("%q is a route that cannot be stored: %v", data, r.Validate())
		}
	})
}
