package micro

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
)

// What does not fit is told in words of the body, never in those of Go.
func TestMisfit(t *testing.T) {
	t.Parallel()
	type inner struct {
		Small int8           `json:"small"`
		Count uint           `json:"count"`
		Flags []bool         `json:"flags"`
		Key   []byte         `json:"key"`
		Map   map[string]int `json:"map"`
		Next  *inner         `json:"next"`
	}
	type request struct {
		Name  string  `json:"name"`
		Price float64 `json:"price"`
		Inner inner   `json:"inner"`
	}
	for body, want := range map[string]string{
		`[]`:                           "it is of the kind array, want an object",
		`5`:                            "it is of the kind number, want an object",
		`{"name":5}`:                   "name is of the kind number, want a string",
		`{"price":"x"}`:                "price is of the kind string, want a number",
		`{"inner":true}`:               "inner is of the kind bool, want an object",
		`{"inner":{"small":300}}`:      "inner.small is 300, want a whole number of 8 bits",
		`{"inner":{"small":1.5}}`:      "inner.small is 1.5, want a whole number of 8 bits",
		`{"inner":{"count":-1}}`:       "inner.count is -1, want a whole number of 64 bits, not below 0",
		`{"inner":{"flags":[1]}}`:      "inner.flags is of the kind number, want true or false",
		`{"inner":{"flags":{}}}`:       "inner.flags is of the kind object, want an array",
		`{"inner":{"key":5}}`:          "inner.key is of the kind number, want a string of base64",
		`{"inner":{"map":[]}}`:         "inner.map is of the kind array, want an object",
		`{"inner":{"next":{"map":1}}}`: "inner.next.map is of the kind number, want an object",
		`{`:                            "unexpected end of JSON input",
	} {
		var v request
		cause := json.Unmarshal([]byte(body), &v)
		err := misshapen("application/json", cause)
		e := bus.AsError(err)
		if !strings.HasPrefix(e.Message, "request is not application/json of the right shape: ") || !strings.HasSuffix(e.Message, ": "+want) {
			t.Errorf("%s: %s, want %s", body, e.Message, want)
		}
		if e.Code != bus.InvalidArgument || !errors.Is(err, cause) || e.Details["content_type"] != "application/json" {
			t.Errorf("%s: %#v", body, e)
		}
	}
}
