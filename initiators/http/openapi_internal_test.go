package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// compiles tells whether schema is valid by the meta-schema of 2020-12.
func compiles(schema []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(jsonschema.SchemeURLLoader{}) // nothing is loaded
	if err := c.AddResource("mem:///s.json", doc); err != nil {
		return err
	}
	_, err = c.Compile("mem:///s.json")
	return err
}

func TestCleanSchema(t *testing.T) {
	t.Parallel()
	for schema, want := range map[string]string{
		`{"type":["null","string"],"description":"d","format":"f","minLength":2}`:                                                             `{"description":"d","format":"f","minLength":2,"type":["null","string"]}`,
		`{"type":"integer","minimum":-9223372036854775808}`:                                                                                   `{"minimum":-9223372036854775808,"type":"integer"}`,
		`{"type":"array","items":{"type":"object","properties":{"a":true,"b":{"$ref":"#/x"}},"required":["a"],"additionalProperties":false}}`: `{"items":{"additionalProperties":false,"properties":{"a":true,"b":{}},"required":["a"],"type":"object"},"type":"array"}`,
		`{"required":["a","a"],"enum":[],"uniqueItems":"yes"}`:                                                                                `null`,
		`{"anyOf":[{"type":"string"},{"const":null}]}`:                                                                                        `{"anyOf":[{"type":"string"},{"const":null}]}`,
		`{"anyOf":[{"type":"string"},7]}`:                                                                                                     `null`,
		`{"patternProperties":{"^x":{},"(":{}}}`:                                                                                              `{"patternProperties":{"^x":{}}}`,
		`{`:                                                                                                                                   `null`,
		``:                                                                                                                                    `null`,
	} {
		got, err := json.Marshal(cleanSchema(json.RawMessage(schema)))
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", schema, got, err, want)
		}
	}
	if out, _ := json.Marshal(cleanSchema(json.RawMessage(`{"not":` + strings.Repeat(`{"not":`, 1000) + `{}` + strings.Repeat(`}`, 1001)))); len(out) > 1000 {
		t.Errorf("%d bytes of depth", len(out))
	}
}

// Whatever a record says of a schema, what is shown of it is one.
func FuzzCleanSchema(f *testing.F) {
	for _, s := range []string{
		`{"type":"object","properties":{"a":{"type":["null","array"],"items":{"type":"number","multipleOf":0.1}}},"required":["a"]}`,
		`{"$ref":"#/a"}`, `{"allOf":[{"if":{},"then":{},"else":false}],"oneOf":[true],"not":{"const":1}}`, `{"enum":[1,"x",null],"examples":[{}],"default":1e400}`,
		`{"pattern":"^(a+)+$","patternProperties":{"x":{}},"minLength":0,"maxItems":99999999999999999999}`, `{"minimum":1e999}`, `{"type":["string","string"]}`,
		`{"dependentSchemas":{"a":{"prefixItems":[{}]}},"propertyNames":{"maxLength":3},"contains":{},"minContains":0}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		clean, err := json.Marshal(cleanSchema(raw))
		if err != nil {
			t.Fatal(err)
		}
		if string(clean) == "null" {
			return
		}
		if err := compiles(clean); err != nil {
			t.Errorf("%q becomes %s: %v", raw, clean, err)
		}
		if len(clean) > 8*len(raw)+100 { // escapes
			t.Errorf("%d bytes become %d", len(raw), len(clean))
		}
	})
}

func TestAllOf(t *testing.T) {
	t.Parallel()
	a, b := map[string]any{"type": "string"}, map[string]any{"type": "object"}
	for _, test := range []struct{ in, want any }{
		{allOf(nil), map[string]any(nil)},
		{allOf([]map[string]any{nil, nil}), map[string]any(nil)},
		{allOf([]map[string]any{nil, a, a}), a},
		{allOf([]map[string]any{a, b, {"type": "string"}}), map[string]any{"allOf": []any{a, b}}},
	} {
		if !cmp.Equal(test.in, test.want) {
			t.Errorf("%v, want %v", test.in, test.want)
		}
	}
}

// The order that semver.org gives as its example, and what else may be in a record.
func TestNewerFirst(t *testing.T) {
	t.Parallel()
	want := []string{
		"10.0.0", "2.10.0", "2.9.10", "2.9.9", "1.0.0", "1.0.0-rc.1", "1.0.0-beta.11", "1.0.0-beta.2", "1.0.0-beta", "1.0.0-alpha.beta", "1.0.0-alpha.1", "1.0.0-alpha",
	}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, newerFirst)
	if !cmp.Equal(got, want) {
		t.Errorf("%q", got)
	}
	odd := []string{"", "x", "1", "1.0.0+b", "1.0.0+a", "1.0.0", "1.0.0-", "-", "1..0"}
	for _, a := range odd {
		for _, b := range odd {
			if x, y := newerFirst(a, b), newerFirst(b, a); x != -y || (x == 0) != (a == b) {
				t.Errorf("%q and %q: %d and %d", a, b, x, y)
			}
		}
	}
}

// A document is made once for as long as what it is made of stays.
func TestKept(t *testing.T) {
	t.Parallel()
	var k kept
	changes := make(chan struct{})
	built, text := 0, "a"
	get := func(key string) string {
		t.Helper()
		d, err := k.get(func() <-chan struct{} { return changes }, key, func() ([]byte, error) {
			built++
			if text == "" {
				return nil, errors.New("cannot")
			}
			return []byte(text), nil
		})
		if err != nil {
			return err.Error()
		}
		return string(d.body) + d.etag
	}
	first := get("k")
	for range 3 {
		if got := get("k"); got != first || built != 1 {
			t.Fatalf("%s after %d builds", got, built)
		}
	}
	text = "b"
	if got := get("other"); got == first || built != 2 {
		t.Errorf("another key: %s after %d builds", got, built)
	}
	old := changes
	changes, text = make(chan struct{}), "c"
	close(old)
	if got := get("other"); !strings.HasPrefix(got, "c") || built != 3 {
		t.Errorf("a change: %s after %d builds", got, built)
	}
	if get("other"); built != 3 {
		t.Errorf("%d builds", built)
	}
	text = ""
	if got := get("third"); got != "cannot" {
		t.Errorf("%s", got)
	}
	text = "d"
	if got := get("third"); !strings.HasPrefix(got, "d") {
		t.Errorf("after an error: %s", got)
	}
}
