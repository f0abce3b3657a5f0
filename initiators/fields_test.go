package initiators_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
)

// A constant stays of its type, through what is stored and what is sent.
func TestFieldConstants(t *testing.T) {
	t.Parallel()
	const source = `{"fields":{"a":"{path.id}","float":1.50,"list":[1,"b",null],"live":true,"n.m":-2,"none":null,"object":{"k":[{}]},"text":"2","two":"{{=2}}"}}`
	var m initiators.Mapping
	if err := json.Unmarshal([]byte(source), &m); err != nil {
		t.Fatal(err)
	}
	want := initiators.Fields{
		"a": "{path.id}", "float": "{=1.50}", "list": `{=[1,"b",null]}`, "live": "{=true}", "n.m": "{=-2}", "none": "{=null}", "object": `{={"k":[{}]}}`, "text": "2", "two": "{{=2}}",
	}
	if diff := cmp.Diff(want, m.Fields); diff != "" {
		t.Error(diff)
	}
	if text, err := json.Marshal(m); err != nil || string(text) != source {
		t.Errorf("%s, %v", text, err)
	}
	got, err := mapBy(t, m, outside("", `{"n":{"o":1},"two":5}`))
	const made = `{"a":"7","float":1.50,"id":"7","list":[1,"b",null],"live":true,"n":{"m":-2,"o":1},"none":null,"object":{"k":[{}]},"text":"2","two":"{=2}"}`
	if err != nil || got != made {
		t.Errorf("%s, %v", got, err)
	}
	// Within a text it is one, and so it is in a header.
	m = initiators.Mapping{Body: "none", Fields: initiators.Fields{"a": "v{=2}.{path.id}", "b": "{= 3 }"}}
	if got, err := mapBy(t, m, outside("", "")); err != nil || got != `{"a":"v2.7","b":3}` {
		t.Errorf("%s, %v", got, err)
	}
	if got := initiators.Placeholders("{=2}{path.id}", `{={"a":1}}`); len(got) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestFieldConstantsRefused(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		`{"a":"{=}"}`:         "want JSON",
		`{"a":"{=x}"}`:        "want JSON",
		`{"a":"{=1"}`:         "want one JSON value",
		`{"a":"{=1 2}"}`:      "want one JSON value",
		`{"a":["{path.id}"]}`: "no templates",
		`{"a":{"b":["x}"]}}`:  "no templates",
		`{"a":[` + strings.Repeat("1,", 600) + `1]}`: "at most 1024",
	} {
		var f initiators.Fields
		if err := json.Unmarshal([]byte(source), &f); err != nil {
			t.Errorf("%.40s: %v", source, err)
		}
		err := initiators.Mapping{Fields: f}.Validate()
		if e := bus.AsError(err); e == nil || e.Details["field"] != "fields.a" || !strings.Contains(e.Message, want) {
			t.Errorf("%.40s: %v, want %q", source, err, want)
		}
	}
	for _, source := range []string{`[]`, `"a"`, `5`} {
		var f initiators.Fields
		if err := json.Unmarshal([]byte(source), &f); err == nil {
			t.Errorf("%s is taken", source)
		}
	}
	f := initiators.Fields{"a": "b"}
	if err := json.Unmarshal([]byte("null"), &f); err != nil || f["a"] != "b" {
		t.Errorf("null: %v, %v", f, err)
	}
}

// Whatever is read as fields is written as it was, and made into the same object.
func FuzzFields(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1}`, `{"a":"{=1}"}`, `{"a":"{=1"}`, `{"a":{"b":"}"}}`, `{"a":null,"b":"{{=1}}"}`, `{"a":1e400}`, `{"a":"{=\"x\"}"}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		var fields initiators.Fields
		if json.Unmarshal([]byte(source), &fields) != nil || len(fields) > 20 {
			return
		}
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		var again initiators.Fields
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		m, n := initiators.Mapping{Body: "none", Fields: fields}, initiators.Mapping{Body: "none", Fields: again}
		if m.Validate() != nil {
			return
		}
		if err := n.Validate(); err != nil {
			t.Fatalf("%s was valid, and %s is not: %v", source, text, err)
		}
		one, err := mapBy(t, m, outside("", ""))
		two, err2 := mapBy(t, n, outside("", ""))
		if one != two || (err == nil) != (err2 == nil) {
			t.Errorf("%s makes %s, %v; %s makes %s, %v", source, one, err, text, two, err2)
		}
	})
}
