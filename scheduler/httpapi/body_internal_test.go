package httpapi

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNumber(t *testing.T) {
	t.Parallel()
	inf, nan := math.Inf(1), math.NaN()
	for raw, want := range map[string]float64{
		`1`: 1, `-1.5`: -1.5, `1e3`: 1000, `1e999`: inf, `-1e999`: -inf, `1E-2`: 0.01,
		`true`: 1, `false`: 0, `null`: 0, `{}`: nan, `{"a":1}`: nan,
		`""`: 0, `" \t\n\u00a0\ufeff\u2028"`: 0, `"7"`: 7, `" 7 "`: 7, `"+7"`: 7, `"-7"`: -7, `".5"`: 0.5, `"5."`: 5, `"."`: nan, `"1e"`: nan, `"e1"`: nan,
		`"1 2"`: nan, `"7ms"`: nan, `"1_000"`: nan, `"1,5"`: nan, `"0x10"`: 16, `"0X1f"`: 31, `"0o17"`: 15, `"0b11"`: 3, `"0x"`: nan, `"0xg"`: nan, `"-0x10"`: nan,
		`"0b2"`: nan, `"0x1p3"`: nan, `"010"`: 10, `"Infinity"`: inf, `"+Infinity"`: inf, `"-Infinity"`: -inf, `"infinity"`: nan, `"inf"`: nan, `"NaN"`: nan,
		`"1e999"`: inf, `"0xffffffffffffffffff"`: math.MaxUint64,
		`[]`: 0, `[7]`: 7, `["7"]`: 7, `[[["7"]]]`: 7, `[null]`: 0, `[[]]`: 0, `[true]`: nan, `[1,2]`: nan, `[{}]`: nan, `[[1],2]`: nan, `[ [ 7 ] ]`: 7,
	} {
		if got := number([]byte(raw)); got != want && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Errorf("%s is %v, want %v", raw, got, want)
		}
	}
}

// FuzzMembers compares with what package json finds in an object.
func FuzzMembers(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1}`, `{ "a" : [ 1 , {"b":"]}\""} ] , "c":null,"":-0.5e1 }`, `{"a":{"b":{}},"a":"\\"}`, `{"\u0061\"":true}`, "{\"\xff\":\"\xff\"}", `[1]`, `{"a":"\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		body = bytes.TrimSpace(body)
		if !json.Valid(body) {
			return
		}
		if kind(body) == '[' {
			var want []json.RawMessage
			if err := json.Unmarshal(body, &want); err != nil {
				t.Fatal(err)
			}
			got := []json.RawMessage{}
			elements(body, func(v []byte) { got = append(got, v) })
			if !cmp.Equal(got, want) {
				t.Errorf("%q: got %q, want %q", body, got, want)
			}
		}
		if kind(body) != '{' {
			return
		}
		want := map[string]json.RawMessage{}
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatal(err)
		}
		got := map[string]json.RawMessage{}
		members(body, func(name, value []byte) { got[string(bytes.ToValidUTF8(name, []byte("\ufffd")))] = value })
		if bytes.Equal(body, bytes.ToValidUTF8(body, nil)) && !cmp.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", body, got, want)
		}
	})
}

// FuzzBodies has what must not break the readers of bodies.
func FuzzBodies(f *testing.F) {
	for _, seed := range []string{
		`{"timeout":[["1"]],"data":{"a":1},"callback":{"transport":"http","uri":"u","method":"post"}}`,
		`{"after":"1h","repeat":{"every":"1s","max":1},"target":{"uri":"u"},"payload_base64":"AA==","labels":{"a":"b"},"retry":{"first":"1s"}}`,
		`{"at":"2031-01-01T00:00:00Z","headers":{"a":null},"target":null,"payload":{"a":"b"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if !json.Valid(body) {
			if _, err := parseSpec(body); err == nil {
				t.Errorf("%q was taken", body)
			}
			return
		}
		spec, reason := parseSkyring(body, time.Hour)
		if (reason == "") != (spec.After > 0 && spec.Target.URI != "") && reason == "" {
			t.Errorf("%q: %+v", body, spec)
		}
		v1, err := parseSpec(body)
		if err != nil {
			return
		}
		// What can be read can be shown, and read again as the same.
		shown, err := encode(showSpec(&v1))
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseSpec(shown)
		if err != nil {
			t.Fatalf("%q is shown as %s: %v", body, shown, err)
		}
		if !bytes.Equal(again.Payload, v1.Payload) || again.Target != v1.Target || again.Retry != v1.Retry || !again.At.Equal(v1.At) && v1.Repeat == nil {
			t.Errorf("%q is shown as %s, and read again as %+v, was %+v", body, shown, again, v1)
		}
		if _, err := patched(&v1, bytes.TrimSpace(body)); err != nil {
			t.Errorf("%q as a patch of itself: %v", body, err)
		}
	})
}
