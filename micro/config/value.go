package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// normalize makes JSON of a value as it is written: JSON stays, other text becomes a string.
func normalize(data []byte) (json.RawMessage, error) {
	if len(data) > MaxValue {
		return nil, fmt.Errorf("it has %d bytes, want at most %d", len(data), MaxValue)
	}
	data = bytes.TrimSpace(data)
	if json.Valid(data) {
		return data, nil
	}
	if !utf8.Valid(data) {
		return nil, errors.New("it is no text in UTF-8")
	}
	return json.Marshal(string(data))
}

// Why a value is not used. The errors of decoders quote it, so they are not told.
var (
	errNull   = errors.New("null is no value")
	errLetter = errors.New("want a duration as in 1.5s or 2m")
)

// decode reads JSON.
func decode[T any](raw json.RawMessage, v *T) error {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		return errNull
	}
	switch v := any(v).(type) {
	case *string:
		if c := raw[0]; c != '"' && c != '{' && c != '[' { // 1.10 was meant as text, if text is what is wanted
			*v = string(raw)
			return nil
		}
	case *time.Duration:
		return (*Duration)(v).UnmarshalJSON(raw)
	}
	return json.Unmarshal(raw, v)
}

// Duration is a time.Duration that is written as in 1.5s, for fields of structs. A plain time.Duration is read in the same
// way when it is the whole value.
type Duration time.Duration

// UnmarshalJSON reads a string as [time.ParseDuration] does. A number is refused, for it has no unit, save 0.
func (d *Duration) UnmarshalJSON(data []byte) error {
	if string(data) == "0" {
		*d = 0
		return nil
	}
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return errLetter
	}
	parsed, err := time.ParseDuration(s)
	if err != nil {
		return errLetter
	}
	*d = Duration(parsed)
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }
