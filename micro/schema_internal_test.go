package micro

import (
	"encoding/json"
	"fmt"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

type schemaItem struct {
	ID    string          `json:"id" jsonschema:"what it is called"`
	Count uint8           `json:"count,omitempty"`
	Price float64         `json:"price"`
	Tags  []string        `json:"tags"`
	Data  []byte          `json:"data,omitempty"`
	Extra json.RawMessage `json:"extra,omitempty"`
	When  time.Time       `json:"when"`
	Took  time.Duration   `json:"took,omitzero"`
	From  netip.Addr      `json:"from,omitzero"`
	Sum   *big.Int        `json:"sum,omitempty"`
	Any   any             `json:"any,omitempty"`
	Names map[string]bool `json:"names,omitempty"`
	Gone  string          `json:"-"`

	hidden string
}

type schemaEmbeds struct {
	schemaItem

	More int `json:"more"`
}

type schemaCycle struct {
	Next []schemaCycle `json:"next"`
}

type schemaTagged struct {
	schemaItem `json:"item"`
}

// double is a type of two of the type before: a schema of all would be of 2 to the power of depth.
type (
	double[T any] struct{ A, B T }
	d2            = double[double[int]]
	d4            = double[double[d2]]
	d8            = double[double[double[double[d4]]]]
	d12           = double[double[double[double[d8]]]]
)

type schemaText struct {
	Text string `json:"text"`
}

func TestSchemaOf(t *testing.T) {
	t.Parallel()
	const text = `{"type":"object","properties":{"text":{"type":"string"}}`
	for name, tt := range map[string]struct {
		of                reflect.Type
		request, response string
	}{
		"struct":        {reflect.TypeFor[schemaText](), text + `}`, text + `,"required":["text"]}`},
		"pointer":       {reflect.TypeFor[*schemaText](), text + `}`, text + `,"required":["text"]}`},
		"empty":         {reflect.TypeFor[struct{}](), `{"type":"object"}`, `{"type":"object"}`},
		"text":          {reflect.TypeFor[string](), `{"type":"string"}`, `{"type":"string"}`},
		"map":           {reflect.TypeFor[map[string]int](), `{"type":"object","additionalProperties":{"type":"integer"}}`, `{"type":"object","additionalProperties":{"type":"integer"}}`},
		"time":          {reflect.TypeFor[time.Time](), `{"type":"string","format":"date-time"}`, `{"type":"string","format":"date-time"}`},
		"bytes":         {reflect.TypeFor[[]byte](), "", ""},
		"raw JSON":      {reflect.TypeFor[json.RawMessage](), "", ""},
		"anything":      {reflect.TypeFor[any](), "", ""},
		"nothing known": {nil, "", ""},
		"channel":       {reflect.TypeFor[struct{ C chan int }](), "", ""},
		"function":      {reflect.TypeFor[[]func()](), "", ""},
		"complex":       {reflect.TypeFor[complex128](), "", ""},
		"cycle":         {reflect.TypeFor[schemaCycle](), "", ""},
		"named embeds":  {reflect.TypeFor[schemaTagged](), "", ""},
		"as text": {reflect.TypeFor[struct {
			N int `json:"n,string"`
		}](), "", ""},
		"too large": {reflect.TypeFor[d12](), "", ""},
	} {
		if got := string(schemaOf(tt.of, true)); got != tt.request {
			t.Errorf("%s: request\n got %s\nwant %s", name, got, tt.request)
		}
		if got := string(schemaOf(tt.of, false)); got != tt.response {
			t.Errorf("%s: response\n got %s\nwant %s", name, got, tt.response)
		}
	}
}

// Every kind of field is as encoding/json writes it.
func TestSchemaOfFields(t *testing.T) {
	t.Parallel()
	type schema struct {
		Properties map[string]json.RawMessage
		Required   []string
	}
	for _, of := range []reflect.Type{reflect.TypeFor[schemaItem](), reflect.TypeFor[schemaEmbeds]()} {
		var got schema
		if err := json.Unmarshal(schemaOf(of, false), &got); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{
			"id":    `{"type":"string","description":"what it is called"}`,
			"count": `{"type":"integer","minimum":0,"maximum":255}`,
			"price": `{"type":"number"}`,
			"tags":  `{"type":["null","array"],"items":{"type":"string"}}`,
			"data":  `{"type":["null","string"],"contentEncoding":"base64"}`,
			"extra": `true`,
			"when":  `{"type":"string","format":"date-time"}`,
			"took":  `{"type":"integer"}`,
			"from":  `{"type":"string"}`,
			"sum":   `true`,
			"any":   `true`,
			"names": `{"type":"object","additionalProperties":{"type":"boolean"}}`,
		} {
			if string(got.Properties[name]) != want {
				t.Errorf("%v: %s is\n%s, want\n%s", of, name, got.Properties[name], want)
			}
		}
		want := "id price tags when"
		n := 12
		if of == reflect.TypeFor[schemaEmbeds]() {
			want, n = want+" more", 13
		}
		if got := strings.Join(got.Required, " "); got != want {
			t.Errorf("%v: required are %s, want %s", of, got, want)
		}
		if len(got.Properties) != n {
			t.Errorf("%v: %d properties, want %d", of, len(got.Properties), n)
		}
	}
	_ = schemaItem{}.hidden
}

func BenchmarkSchemaOf(b *testing.B) {
	for _, of := range []reflect.Type{reflect.TypeFor[schemaText](), reflect.TypeFor[schemaItem](), reflect.TypeFor[d12]()} {
		b.Run(fmt.Sprint(of), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				schemaOf(of, true)
			}
		})
	}
}
