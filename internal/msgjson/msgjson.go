// Package msgjson translates between JSON and MessagePack so that nothing is lost, or not at all: what the other cannot hold, such as a name that is
// there twice, text that is not UTF-8, or a number that no float is written as, is an error.
package msgjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

const maxDepth = 100 // what those who read MessagePack take

var (
	errDepth = errors.New("more than 100 levels deep")
	errText  = errors.New("a text is not UTF-8")
)

func twice(name string) error { return fmt.Errorf("there are two members %.80q", name) }

// FromJSON makes MessagePack of JSON. Whole numbers become integers where they fit into 64 bits, others floats.
func FromJSON(text []byte) ([]byte, error) {
	var all json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	if !Text(text) {
		return nil, errText
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	v, err := readJSON(dec, 0)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := pack(msgpack.NewEncoder(&b), v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// object is a JSON object as it was written.
type object []member

type member struct {
	name  string
	value any
}

// readJSON reads a value of JSON that is valid: as encoding/json does, but for objects.
func readJSON(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		all, names := object{}, map[string]bool{}
		for dec.More() {
			token, err := dec.Token()
			if err != nil {
				return nil, err
			}
			name, _ := token.(string) // all names are
			if names[name] {
				return nil, twice(name)
			}
			names[name] = true
			v, err := readJSON(dec, depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, member{name, v})
		}
		_, err := dec.Token()
		return all, err
	case json.Delim('['):
		all := []any{}
		for dec.More() {
			v, err := readJSON(dec, depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, v)
		}
		_, err := dec.Token()
		return all, err
	}
	return token, nil
}

func pack(enc *msgpack.Encoder, v any) error {
	switch v := v.(type) {
	case object:
		if err := enc.EncodeMapLen(len(v)); err != nil {
			return err
		}
		for _, m := range v {
			if err := enc.EncodeString(m.name); err != nil {
				return err
			}
			if err := pack(enc, m.value); err != nil {
				return err
			}
		}
		return nil
	case []any:
		if err := enc.EncodeArrayLen(len(v)); err != nil {
			return err
		}
		for _, inner := range v {
			if err := pack(enc, inner); err != nil {
				return err
			}
		}
		return nil
	case json.Number:
		return packNumber(enc, v.String())
	}
	return enc.Encode(v) // a string, a bool or nil
}

func packNumber(enc *msgpack.Encoder, text string) error {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && text != "-0" {
		return enc.EncodeInt(n)
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		return enc.EncodeUint(n)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !sameNumber(text, strconv.FormatFloat(f, 'e', -1, 64)) {
		return fmt.Errorf("the number %.40s has no place in 64 bits", text)
	}
	return enc.EncodeFloat64(f)
}

// Text tells whether all strings of valid JSON are text: UTF-8, without escapes that are half a character.
func Text(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 {
			return true
		}
		first, long := escape(b[i:])
		if !long {
			b = b[i+2:]
			continue
		}
		if b = b[i+6:]; utf16.IsSurrogate(first) {
			second, long := escape(b)
			if !long || utf16.DecodeRune(first, second) == utf8.RuneError {
				return false
			}
			b = b[6:]
		}
	}
}

// escape reads an escape such as \u0061, and tells whether there is one.
func escape(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(n), err == nil
}
