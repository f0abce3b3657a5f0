package route_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

const (
	typeJSON    = "application/json"
	typeMsgpack = "application/msgpack"
	typeRaw     = "application/octet-stream"
)

// answer is what a step answers with.
type answer struct{ contentType, body string }

func js(body string) answer { return answer{typeJSON, body} }

func mp(t testing.TB, v any) answer {
	t.Helper()
	return answer{typeMsgpack, string(encode(t, v))}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := bus.MessagePack{}.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// merge runs a route whose steps give these answers.
func (h *house) merge(t testing.TB, name, contentType string, answers []answer) (route.Result, error) {
	t.Helper()
	var all []route.Step
	for i, a := range answers {
		target := fmt.Sprintf("%s.e%d", name, i)
		foreign(t, h.conn, target, a.contentType, a.body)
		all = append(all, step(target))
	}
	h.put(t, name, all...)
	return h.runner.Run(t.Context(), name, route.Request{ContentType: contentType})
}

func TestMergeJSON(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	tests := map[string]struct {
		answers []answer
		want    string
	}{
		"fields of all":       {[]answer{js(`{"a":1}`), js(`{"b":2}`), js(`{"c":3}`)}, `{"a":1,"b":2,"c":3}`},
		"the later one wins":  {[]answer{js(`{"a":1,"b":1}`), js(`{"b":2}`)}, `{"a":1,"b":2}`},
		"not field by field":  {[]answer{js(`{"a":{"x":1}}`), js(`{"a":{"y":2}}`)}, `{"a":{"y":2}}`},
		"no type means JSON":  {[]answer{{"", `{"a":1}`}, {"", `{"b":2}`}}, `{"a":1,"b":2}`},
		"a charset":           {[]answer{{typeJSON + "; charset=utf-8", `{"a":1}`}, js(`{"b":2}`)}, `{"a":1,"b":2}`},
		"big integers":        {[]answer{js(`{"a":9007199254740993}`), js(`{"b":18446744073709551615,"c":-9223372036854775808}`)}, `{"a":9007199254740993,"b":18446744073709551615,"c":-9223372036854775808}`},
		"huge numbers":        {[]answer{js(`{"a":123456789012345678901234567890}`), js(`{"b":1e400,"c":0.1000}`)}, `{"a":123456789012345678901234567890,"b":1e400,"c":0.1000}`},
		"nested":              {[]answer{js(`{"a":[1,{"b":null}]}`), js(`{"d":{"e":{"f":true}}}`)}, `{"a":[1,{"b":null}],"d":{"e":{"f":true}}}`},
		"a field of null":     {[]answer{js(`{"a":1}`), js(`{"a":null}`)}, `{"a":null}`},
		"case matters":        {[]answer{js(`{"a":1}`), js(`{"A":2}`)}, `{"A":2,"a":1}`},
		"empty object":        {[]answer{js(`{}`)}, `{}`},
		"empty in between":    {[]answer{js(`{"a":1}`), js(``), js(`{}`), js(`{"b":2}`)}, `{"a":1,"b":2}`},
		"null says nothing":   {[]answer{js(`{"a":1}`), js(`null`), js(` null `)}, `{"a":1}`},
		"a list":              {[]answer{js(`[1,2]`)}, `[1,2]`},
		"a list replaces":     {[]answer{js(`{"a":1}`), js(`[1,2]`)}, `[1,2]`},
		"an object replaces":  {[]answer{js(`"text"`), js(`{"a":1}`), js(`{"b":2}`)}, `{"a":1,"b":2}`},
		"null after a list":   {[]answer{js(`[1]`), js(`null`)}, `[1]`},
		"angle brackets":      {[]answer{js(`{"a":"<b>&"}`), js(`{"b":1}`)}, `{"a":"<b>&","b":1}`},
		"MessagePack":         {[]answer{js(`{"a":1}`), mp(t, map[string]any{"b": uint64(math.MaxUint64), "c": []any{int64(math.MinInt64), "x", nil, true}})}, `{"a":1,"b":18446744073709551615,"c":[-9223372036854775808,"x",null,true]}`},
		"binary":              {[]answer{mp(t, map[string]any{"a": []byte{0, 255}})}, `{"a":"AP8="}`},
		"MessagePack nothing": {[]answer{js(`{"a":1}`), mp(t, nil)}, `{"a":1}`},
		"bytes":               {[]answer{{typeRaw, "ab"}}, `"YWI="`},
		"nothing at all":      {[]answer{js(``), js(`null`), mp(t, nil)}, ``},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res, err := h.merge(t, strings.ReplaceAll(name, " ", "-"), typeJSON, tt.answers)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := exactly(t, string(res.Body)), exactly(t, tt.want); got != want {
				t.Errorf("response %s, want %s", got, want)
			}
			if res.ContentType != typeJSON {
				t.Errorf("content type %q", res.ContentType)
			}
		})
	}
}

// exactly is a JSON text without spaces and with its numbers as they were written.
func exactly(t testing.TB, text string) string {
	t.Helper()
	if text == "" {
		return ""
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// mergeTest is the answers of the steps and what they are together.
type mergeTest struct {
	answers []answer
	want    map[string]any
}

func mergeMessagePack(t testing.TB) map[string]mergeTest {
	t.Helper()
	at := time.Unix(1_700_000_000, 5).UTC()
	return map[string]mergeTest{
		"fields of all": {
			[]answer{mp(t, map[string]any{"a": 1}), mp(t, map[string]any{"b": "x"})},
			map[string]any{"a": int8(1), "b": "x"},
		},
		"numbers keep their kind": {
			[]answer{
				mp(t, map[string]any{"u": uint64(math.MaxUint64), "i": int64(math.MinInt64), "big": int64(9007199254740993)}),
				mp(t, map[string]any{"f": 0.1, "f32": float32(0.5), "inf": math.Inf(1), "neg": math.Copysign(0, -1)}),
			},
			map[string]any{
				"u": uint64(math.MaxUint64), "i": int64(math.MinInt64), "big": uint64(9007199254740993),
				"f": 0.1, "f32": float32(0.5), "inf": math.Inf(1), "neg": math.Copysign(0, -1),
			},
		},
		"binary, nested and times": {
			[]answer{mp(t, map[string]any{"b": []byte{0, 1, 255}, "n": map[string]any{"x": []any{nil, false}}}), mp(t, map[string]any{"t": at, "e": map[string]any{}})},
			map[string]any{"b": []byte{0, 1, 255}, "n": map[string]any{"x": []any{nil, false}}, "t": at, "e": map[string]any{}},
		},
		"a field of nil": {
			[]answer{mp(t, map[string]any{"a": 1, "b": 1}), mp(t, map[string]any{"a": nil})},
			map[string]any{"a": nil, "b": int8(1)},
		},
		"nil and nothing": {
			[]answer{mp(t, map[string]any{"a": 1}), mp(t, nil), {typeMsgpack, ""}},
			map[string]any{"a": int8(1)},
		},
		"JSON": {
			[]answer{
				mp(t, map[string]any{"a": []byte{1}}),
				js(`{"big":9007199254740993,"u":18446744073709551615,"f":1.5,"whole":1.0,"e":1e3,"l":[1,{"x":-1}],"s":"text","n":null}`),
			},
			map[string]any{
				"a": []byte{1}, "big": uint64(9007199254740993), "u": uint64(math.MaxUint64), "f": 1.5, "whole": 1.0, "e": 1000.0,
				"l": []any{int8(1), map[string]any{"x": int8(-1)}}, "s": "text", "n": nil,
			},
		},
	}
}

func TestMergeMessagePack(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	for name, tt := range mergeMessagePack(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res, err := h.merge(t, strings.NewReplacer(" ", "-", ",", "").Replace(name), typeMsgpack, tt.answers)
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := msgpack.Unmarshal(res.Body, &got); err != nil {
				t.Fatalf("response %x: %v", res.Body, err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(time.Time.Equal)); diff != "" {
				t.Errorf("response (-want +got):\n%s", diff)
			}
			if res.ContentType != typeMsgpack {
				t.Errorf("content type %q", res.ContentType)
			}
		})
	}
}

// An answer that is not what it says it is ends the route: nobody could read the response that it would become.
func TestMergeRefuses(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	tests := map[string]struct {
		contentType string
		answer      answer
	}{
		"garbage for JSON":        {typeJSON, js(`{"a":`)},
		"text after JSON":         {typeJSON, js(`{"a":1} x`)},
		"garbage for MessagePack": {typeMsgpack, answer{typeMsgpack, "\x81\xa1"}},
		"bytes after MessagePack": {typeMsgpack, answer{typeMsgpack, "\x80\x80"}},
		"lying about its length":  {typeMsgpack, answer{typeMsgpack, "\xdf\xff\xff\xff\xff"}},
		"garbage as MessagePack":  {typeJSON, answer{typeMsgpack, "\xc1"}},
		"garbage as JSON":         {typeMsgpack, js("nope")},
		"text after other JSON":   {typeMsgpack, js(`{} {}`)},
		"number beyond float64":   {typeMsgpack, js(`{"a":1e400}`)},
		"unknown type":            {typeJSON, answer{"text/html", "<html>"}},
		"not a number in JSON":    {typeJSON, mp(t, map[string]any{"a": math.NaN()})},
		"object as bytes":         {typeRaw, js(`{"a":1}`)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res, err := h.merge(t, strings.ReplaceAll(name, " ", "-"), tt.contentType, []answer{tt.answer})
			wantCode(t, err, bus.Internal, "step 1", "answer of the service")
			if e := bus.AsError(err); e.HTTPStatus() != 500 {
				t.Errorf("status %d, want 500: it is not the caller's fault", e.HTTPStatus())
			}
			if len(res.Hops) != 1 || res.Hops[0].Code != bus.Internal {
				t.Errorf("hops %+v", res.Hops)
			}
		})
	}
}

func TestMergeRaw(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	res, err := h.merge(t, "raw", typeRaw, []answer{{typeRaw, "one"}, {typeRaw, ""}, {typeRaw, "\x00two"}})
	if err != nil || string(res.Body) != "\x00two" || res.ContentType != typeRaw {
		t.Errorf("%q as %q, %v", res.Body, res.ContentType, err)
	}
}

// total is a response that steps complete.
type total struct {
	Sum   int      `json:"sum"`
	Trail []string `json:"trail,omitempty"`
}

// Steps that amend are given the response so far, others only the request.
func TestAmend(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	type number struct {
		N int `json:"n"`
	}
	bodies := make(chan string, 4)
	h.serve(t, "sum", "", endpoints(
		func(s *micro.Service) error {
			return micro.HandleAmend(s, "add", func(_ context.Context, req *number, resp *total) error {
				resp.Sum += req.N
				resp.Trail = append(resp.Trail, fmt.Sprint(resp.Sum))
				return nil
			})
		},
		endpoint("plain", func(_ context.Context, body []byte) ([]byte, error) {
			bodies <- string(body)
			return []byte(`{"extra":true}`), nil
		}),
	))
	h.put(t, "r", step("sum.add"), step("sum.plain"), step("sum.add"), step("sum.add"))
	res := h.run(t, "r", `{"n":5}`)
	want := map[string]any{"sum": 15.0, "trail": []any{"5", "10", "15"}, "extra": true}
	if diff := cmp.Diff(want, object(t, res.Body)); diff != "" {
		t.Errorf("response (-want +got):\n%s", diff)
	}
	if got := bustest.Receive(t, "the plain step", bodies); got != `{"n":5}` {
		t.Errorf("the plain step was sent %s", got)
	}
	// The same in the other codec, and after a step that answered in JSON.
	foreign(t, h.conn, "old.get", typeJSON, `{"sum":100}`)
	h.put(t, "mixed", step("old.get"), step("sum.add"))
	res, err := h.runner.Run(t.Context(), "mixed", route.Request{ContentType: typeMsgpack, Body: encode(t, number{7})})
	if err != nil {
		t.Fatal(err)
	}
	var got total
	if err := (bus.MessagePack{}).Unmarshal(res.Body, &got); err != nil || got.Sum != 107 {
		t.Errorf("%+v, %v, want a sum of 107", got, err)
	}
	// What cannot be amended is the service's word, not a crash.
	foreign(t, h.conn, "list.get", typeJSON, `[1]`)
	h.put(t, "list", step("list.get"), step("sum.add"))
	_, err = h.runner.Run(t.Context(), "list", route.Request{Body: []byte(`{"n":1}`)})
	wantCode(t, err, bus.InvalidArgument, "step 2")
}

// The request and the response so far together may be larger than a message: they go in pieces.
func TestAmendLarge(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t, bustest.MaxPayload(8<<10)))
	large := strings.Repeat("x", 5<<10)
	h.serve(t, "app", "", endpoints(
		says("large", `{"a":"`+large+`"}`),
		func(s *micro.Service) error {
			return micro.HandleAmend(s, "amend", func(_ context.Context, req *map[string]string, resp *map[string]string) error {
				(*resp)["b"] = (*req)["b"][:1]
				return nil
			})
		},
	))
	h.put(t, "r", step("app.large"), step("app.amend"))
	res, err := h.runner.Run(t.Context(), "r", route.Request{Body: []byte(`{"b":"` + strings.Repeat("y", 4<<10) + `"}`)})
	if err != nil || string(res.Body) != `{"a":"`+large+`","b":"y"}` {
		t.Errorf("%.100s, %v", res.Body, err)
	}
}
