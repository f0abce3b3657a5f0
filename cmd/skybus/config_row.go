package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/config"
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

// newConfigRow is the row of an entry of a namespace. A key that is not as it should be is shown as it is.
func newConfigRow(ns bus.Namespace, e kv.Entry[[]byte]) configRow {
	scope, key, err := config.ParseBucketKey(ns, e.Key)
	if err != nil {
		scope, key = config.Scope{}, e.Key
	}
	return configRowOf(scope, key, e)
}

func configRowOf(scope config.Scope, key string, e kv.Entry[[]byte]) configRow {
	row := configRow{
		Key: key, Service: scope.Service, Version: scope.Version, Revision: e.Revision, Updated: e.Created, Deleted: e.Deleted,
	}
	switch {
	case e.Deleted:
	case utf8.Valid(e.Value):
		row.Value = new(string(e.Value))
	default:
		row.Base64 = e.Value
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
