package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/skybus-io/skybus/kv"
)

// configRow is a revision of a value as it is printed.
type configRow struct {
	Key      string    `json:"key"`
	Service  string    `json:"service,omitempty"`
	Version  string    `json:"version,omitempty"`
	Value    *string   `json:"value,omitempty"`        // nil for what is no text, and for what was removed
	Base64   []byte    `json:"value_base64,omitempty"` // of what is no text
	Revision uint64    `json:"revision"`
	Updated  time.Time `json:"updated"`
	Deleted  bool      `json:"deleted,omitempty"`
}

func newConfigRow(e kv.Entry[[]byte]) configRow {
	row := configRow{Key: e.Key, Revision: e.Revision, Updated: e.Created, Deleted: e.Deleted}
	switch {
	case e.Deleted:
	case utf8.Valid(e.Value):
		row.Value = new(string(e.Value))
	default:
		row.Base64 = e.Value
	}
	tokens := strings.SplitN(e.Key, ".", 5) // app, env, service, version, key
	if len(tokens) < 5 {
		return row // not one of ours
	}
	row.Key = tokens[4]
	if tokens[2] != anyToken {
		row.Service = tokens[2]
	}
	if tokens[3] != anyToken {
		row.Version = strings.NewReplacer("_", ".", "=", "+").Replace(tokens[3])
	}
	return row
}

// text is the value for a table. What is no text is written as Go writes it.
func (r configRow) text() string {
	switch {
	case r.Deleted:
		return "(removed)"
	case r.Value != nil:
		return *r.Value
	}
	return fmt.Sprintf("%q", r.Base64)
}

// line is the row in a line of text, in which a value is quoted.
func (r configRow) line() string {
	scope, text := "", r.text()
	if r.Service != "" {
		scope = " (" + strings.TrimSpace(r.Service+" "+r.Version) + ")"
	}
	if r.Value != nil {
		if quoted, err := json.Marshal(text); err == nil {
			text = string(quoted)
		}
	}
	return fmt.Sprintf("%s%s = %s", r.Key, scope, text)
}
