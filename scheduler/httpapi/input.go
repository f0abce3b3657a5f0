package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/skybus-io/skybus/internal/restapi"
)

// input reads values out of valid JSON, and collects what is wrong with them.
type input struct{ restapi.InputError }

// object goes through the members of an object but those that are null, which are as good as not there. known tells whether it
// knows a member.
func (in *input) object(field string, raw []byte, known func(name string, value []byte) bool) {
	if kind(raw) != '{' {
		in.Wrong(field, "want an object, got %s", describe(raw))
		return
	}
	members(raw, func(name, value []byte) {
		if kind(value) == 'n' || known(string(name), value) {
			return
		}
		in.Unknown = true
		in.Wrong(join(field, fmt.Sprintf("%.64s", bytes.ToValidUTF8(name, nil))), "there is no such field, or it cannot be set")
	})
}

func join(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

// describe says what kind of value it is.
func describe(raw []byte) string {
	switch kind(raw) {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	case 'u':
		return "nothing"
	}
	return "a number"
}

func (in *input) text(field string, raw []byte, s *string) bool {
	if kind(raw) != '"' {
		in.Wrong(field, "want a string, got %s", describe(raw))
		return true
	}
	*s = unquote(raw)
	return true
}

func (in *input) boolean(field string, raw []byte, b *bool) bool {
	if k := kind(raw); k != 't' && k != 'f' {
		in.Wrong(field, "want true or false, got %s", describe(raw))
	}
	*b = kind(raw) == 't'
	return true
}

func (in *input) integer(field string, raw []byte, n *int64) bool {
	v, err := strconv.ParseInt(string(raw), 10, 64)
	if kind(raw) != '0' || err != nil {
		in.Wrong(field, "want a whole number, got %.40s", raw)
		return true
	}
	*n = v
	return true
}

func (in *input) small(field string, raw []byte, n *int) bool {
	var v int64
	in.integer(field, raw, &v)
	if int64(int32(v)) != v {
		in.Wrong(field, "%d is too large", v)
	}
	*n = int(int32(v))
	return true
}

// duration reads a duration as Go writes it.
func (in *input) duration(field string, raw []byte, d *time.Duration) bool {
	const want = `want a duration such as "250ms", "30s" or "1h30m"`
	if kind(raw) != '"' {
		in.Wrong(field, want+", got %s", describe(raw))
		return true
	}
	v, err := time.ParseDuration(unquote(raw))
	switch {
	case err != nil:
		in.Wrong(field, want+", got %.40q", unquote(raw))
	case v < 0:
		in.Wrong(field, "%s is negative", v)
	}
	*d = v
	return true
}

func (in *input) time(field string, raw []byte, t *time.Time) bool {
	const want = `want a time as RFC 3339 has it, such as "2031-05-01T12:00:00Z"`
	if kind(raw) != '"' {
		in.Wrong(field, want+", got %s", describe(raw))
		return true
	}
	in.instant(field, unquote(raw), t)
	return true
}

func (in *input) instant(field, text string, t *time.Time) {
	v, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		in.Wrong(field, `want a time as RFC 3339 has it, such as "2031-05-01T12:00:00Z", got %.40q`, text)
		return
	}
	*t = v
}

func (in *input) strings(field string, raw []byte, m *map[string]string) bool {
	*m = map[string]string{}
	in.object(field, raw, func(name string, value []byte) bool {
		var s string
		in.text(join(field, fmt.Sprintf("%.64s", name)), value, &s)
		(*m)[name] = s
		return true
	})
	return true
}

// compact is the JSON value without space between its parts.
func compact(raw []byte) []byte {
	var b bytes.Buffer
	b.Grow(len(raw))
	_ = json.Compact(&b, raw) // valid JSON
	return b.Bytes()
}
