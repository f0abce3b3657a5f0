package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/skybus-io/skybus/scheduler"
)

// read makes a spec of the body, or answers with the reason why not.
func (s skyring) read(w http.ResponseWriter, r *http.Request) (scheduler.Spec, bool) {
	body, err := s.h.readBody(w, r)
	if err == nil && len(body) == 0 {
		body = []byte("{}")
	}
	if err == nil {
		body = bytes.ToValidUTF8(body, []byte("\ufffd")) // as Node decodes it
		err = checkJSON(body)
	}
	if err != nil {
		s.fail(w, r, err)
		return scheduler.Spec{}, false
	}
	spec, reason := parseSkyring(body, s.h.cfg.SkyringMaxTimeout)
	if reason != "" {
		refuse(w, http.StatusBadRequest, reason)
		return scheduler.Spec{}, false
	}
	if len(spec.Payload) > scheduler.MaxPayload {
		s.fail(w, r, tooLarge(scheduler.MaxPayload))
		return scheduler.Spec{}, false
	}
	return spec, true
}

// skyringBody is what Skyring looks at in a body: JSON values, nil where there is none. It honoured `id` and `created` too, which
// were for its nodes among themselves.
type skyringBody struct {
	timeout, data, callback []byte
	transport, uri, method  []byte
}

// parseSkyring checks a body, which is valid JSON, in Skyring's order and with its words. A longest of less than 0 is none.
func parseSkyring(body []byte, longest time.Duration) (spec scheduler.Spec, reason string) {
	b := readSkyring(body)
	ms := math.NaN()
	if b.timeout != nil {
		ms = number(b.timeout)
	}
	if math.IsNaN(ms) || ms < 1 {
		return spec, "timeout is required and must be a positive number"
	}
	if longest < 0 {
		longest = math.MaxInt64
	}
	if most := float64(longest.Milliseconds()); ms > most {
		return spec, fmt.Sprintf("timeout must be less than or equal to %d milliseconds", longest.Milliseconds())
	}
	whole, fraction := math.Modf(ms)
	spec.After = time.Duration(whole)*time.Millisecond + time.Duration(fraction*float64(time.Millisecond))
	switch kind(b.data) {
	case 'u', 'n':
	case '"':
		spec.Payload, spec.ContentType = []byte(unquote(b.data)), "application/x-www-form-urlencoded"
	case '{':
		var compact bytes.Buffer
		compact.Grow(len(b.data))
		_ = json.Compact(&compact, b.data) // valid JSON
		spec.Payload, spec.ContentType = compact.Bytes(), "application/json; charset=utf-8"
	default:
		return spec, "data is required and must be a string or object. Got " + typeName(b.data)
	}
	if kind(b.callback) != '{' {
		return spec, "callback is required and must be an object"
	}
	for _, field := range []struct {
		name  string
		value []byte
	}{{"transport", b.transport}, {"uri", b.uri}, {"method", b.method}} {
		if kind(field.value) != '"' {
			return spec, "callback." + field.name + " is required and must be a string. Got " + typeName(field.value)
		}
	}
	spec.Target = scheduler.Target{Transport: unquote(b.transport), URI: unquote(b.uri), Method: unquote(b.method)}
	return spec, skyringEmpty(&spec)
}

func readSkyring(body []byte) (b skyringBody) {
	body = bytes.TrimSpace(body)
	if kind(body) != '{' {
		return b // Skyring asked strings and numbers for their timeout, and broke down at null
	}
	members(body, func(name, value []byte) {
		switch string(name) {
		case "timeout":
			b.timeout = value
		case "data":
			b.data = value
		case "callback":
			b.callback = value
		}
	})
	if kind(b.callback) == '{' {
		members(b.callback, func(name, value []byte) {
			switch string(name) {
			case "transport":
				b.transport = value
			case "uri":
				b.uri = value
			case "method":
				b.method = value
			}
		})
	}
	return b
}

// skyringEmpty refuses what Skyring broke down at, or found out too late.
func skyringEmpty(spec *scheduler.Spec) (reason string) {
	switch {
	case spec.Target.Transport == "":
		return "callback.transport must not be empty"
	case spec.Target.URI == "":
		return "callback.uri must not be empty"
	}
	if len(spec.Payload) == 0 {
		spec.ContentType = ""
	}
	return ""
}

// typeName is JavaScript's name for the type of a JSON value.
func typeName(raw []byte) string {
	switch kind(raw) {
	case 'u':
		return "Undefined"
	case 'n':
		return "Null"
	case '"':
		return "String"
	case '{':
		return "Object"
	case '[':
		return "Array"
	case 't', 'f':
		return "Boolean"
	}
	return "Number"
}
