package config

import (
	"encoding/json"
	"testing"
	"time"
)

// Whatever is written becomes JSON or is refused, and reading it as any type breaks nothing.
func FuzzValue(f *testing.F) {
	for _, s := range []string{"", "debug", "5s", " 1.10\n", `{"a":1}`, `{"a":`, "null", "\xff", `"x"`, "<>&"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		raw, err := normalize(data)
		if err != nil {
			return
		}
		if !json.Valid(raw) {
			t.Fatalf("%q becomes %q", data, raw)
		}
		var text string
		var d time.Duration
		var m map[string]any
		if err := decode(raw, &d); err == nil && raw[0] != '"' && d != 0 {
			t.Errorf("%q is %v", data, d)
		}
		_ = decode(raw, &m) // may be none
		if err := decode(raw, &text); err != nil && raw[0] != '{' && raw[0] != '[' && string(raw) != "null" {
			t.Errorf("%q is no text: %v", data, err)
		}
	})
}
