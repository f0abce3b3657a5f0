package main

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

type thing struct {
	Zeta  string            `json:"zeta"`
	Alpha int64             `json:"alpha_count,omitempty"`
	Big   uint64            `json:"big"`
	Ratio float64           `json:"ratio"`
	When  time.Time         `json:"when,omitzero"`
	Raw   json.RawMessage   `json:"raw,omitempty"`
	Tags  map[string]string `json:"tags"`
	List  []string          `json:"list"`
	Not   *int              `json:"not"`
	Skip  string            `json:"-"`
}

func newApp(format outputFormat) (*App, *strings.Builder) {
	var out strings.Builder
	return &App{globals: &globals{Output: format}, stdout: &out, stderr: &out}, &out
}

func TestYAMLSaysWhatJSONSays(t *testing.T) {
	t.Parallel()
	texts := []string{
		"", "plain", "true", "no", "null", "~", "1", "1e3", "0x1f", "0o7", "1_000", ".inf", "2026-01-02", "12:30:45", "-", "- a", "a: b", "a #b", "#", "&a", "*a",
		"!t", "%", "@", "`", "|", ">", "{", "[", "?", ":", ",", "'", `"`, `\`, " lead", "trail ", "two\nlines", "end\n", "\n", "\ttab", "a\r\nb", "\x00", "\x1b[31m", "é", "\u2028",
		"\ufeff", "😀", "<&>", "---", "...", "=", "<<", strings.Repeat("long ", 60),
	}
	n := thing{Zeta: "z", Alpha: math.MaxInt64, Big: math.MaxUint64, Ratio: 0.1, When: time.Unix(1, 5).UTC(), Raw: json.RawMessage(`{"b":1,"a":[true,null,{}]}`), Tags: map[string]string{}, List: texts}
	for _, s := range texts {
		n.Tags[s] = s
	}
	var js, ym strings.Builder
	if err := encode(&js, formatJSON, n); err != nil {
		t.Fatal(err)
	}
	if err := encode(&ym, formatYAML, n); err != nil {
		t.Fatal(err)
	}
	var want, got thing
	if err := json.Unmarshal([]byte(js.String()), &want); err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalWithOptions([]byte(ym.String()), &got, yaml.UseJSONUnmarshaler()); err != nil {
		t.Fatalf("%v in\n%s", err, ym.String())
	}
	want.Raw, got.Raw = nil, nil // same value, other spaces
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-json +yaml):\n%s", diff)
	}
	if !strings.HasPrefix(ym.String(), "zeta: z\nalpha_count: 9223372036854775807\nbig: 18446744073709551615\n") {
		t.Errorf("fields not named or ordered as in JSON:\n%.200s", ym.String())
	}
}

func TestPrintList(t *testing.T) {
	t.Parallel()
	header := []string{"name", "value"}
	row := func(s string) []any { return []any{s, nil} }
	tests := []struct {
		format outputFormat
		items  []string
		want   string
	}{
		{formatTable, []string{"a", "longer\n\x1b[2J"}, "NAME         VALUE\na            -\nlonger \ufffd[2J  -\n"},
		{formatTable, nil, ""},
		{formatJSON, []string{"<a>"}, "[\n  \"<a>\"\n]\n"},
		{formatJSON, nil, "[]\n"},
		{formatYAML, []string{"a"}, "- a\n"},
		{formatYAML, nil, "[]\n"},
	}
	for _, tt := range tests {
		app, out := newApp(tt.format)
		if err := printList(app, tt.items, header, row); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(tt.want, out.String()); diff != "" {
			t.Errorf("%s of %q (-want +got):\n%s", tt.format, tt.items, diff)
		}
	}
}

func TestPrintEvent(t *testing.T) {
	t.Parallel()
	for format, want := range map[outputFormat]string{
		formatTable: "a is 1\na is 1\n",
		formatJSON:  "{\"a\":1}\n{\"a\":1}\n",
		formatYAML:  "---\na: 1\n---\na: 1\n",
	} {
		app, out := newApp(format)
		for range 2 {
			if err := printEvent(app, map[string]int{"a": 1}, "a is 1"); err != nil {
				t.Error(err)
			}
		}
		if out.String() != want {
			t.Errorf("%s: %q, want %q", format, out, want)
		}
	}
}

func TestYAMLQuotes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"nats://127.0.0.1:4222": "nats://127.0.0.1:4222", "two words": "two words", "1.2.3": `"1.2.3"`, ".inf": `".inf"`, "No": `"No"`, "1e3": `"1e3"`,
		"---": `"---"`, "a: b": `"a: b"`, "a:": `"a:"`, "a ": `"a "`, "a\n": `"a\n"`, "\x1b[2J": `"\x1b[2J"`, "a - b": `"a - b"`, "~": `"~"`, "\u009b": `"\u009b"`,
	} {
		var out strings.Builder
		if err := encode(&out, formatYAML, map[string]any{"k": text}); err != nil {
			t.Error(err)
		}
		if out.String() != "k: "+want+"\n" {
			t.Errorf("%q: %q, want %s", text, out.String(), want)
		}
	}
}

func TestYAMLNests(t *testing.T) {
	t.Parallel()
	v := json.RawMessage(`{"a":{"b":[1,[2,[]],{"c":{},"d":[{"e":null,"f":true}]}]},"g":[]}`)
	want := `a:
  b:
  - 1
  - - 2
    - []
  - c: {}
    d:
    - e: null
      f: true
g: []
`
	var out strings.Builder
	if err := encode(&out, formatYAML, v); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var got, same any
	if err := yaml.Unmarshal([]byte(out.String()), &got); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(v, &same); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(same, got); diff != "" {
		t.Errorf("read back (-json +yaml):\n%s", diff)
	}
}

// What comes from the bus does not steer the terminal, and is still the same JSON.
func TestEncodeJSONEscapes(t *testing.T) {
	t.Parallel()
	const evil = "a\u009b31m\u007f\u202eb\U000e0001\u00e9\u4e16\n"
	var out strings.Builder
	if err := encodeJSON(&out, map[string]string{"k": evil}, "  "); err != nil {
		t.Fatal(err)
	}
	for _, r := range out.String() {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%q holds %U", out.String(), r)
		}
	}
	var back map[string]string
	if err := json.Unmarshal([]byte(out.String()), &back); err != nil || back["k"] != evil {
		t.Errorf("%q reads back as %q, %v", out.String(), back["k"], err)
	}
}
