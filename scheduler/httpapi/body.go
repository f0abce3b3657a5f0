package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/httpx"
)

// readBody reads the whole body, of at most Config.MaxBody bytes.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, problem := httpx.ReadBody(w, r, h.cfg.MaxBody)
	if problem != nil {
		return nil, unread(problem, nil)
	}
	return body, nil
}

// bodyError is an error of reading a body as it is answered.
func (h *Handler) bodyError(err error) error {
	if err == nil {
		return nil
	}
	return unread(httpx.BodyProblem(err, h.cfg.MaxBody), err)
}

func unread(p *httpx.Problem, cause error) error {
	e := bus.Wrap(bus.Code(p.Code), p.Detail, cause)
	e.Status = p.Status
	return e
}

func tooLarge(limit int64) error {
	e := bus.Errorf(bus.ResourceExhausted, "the body has more than %d bytes", limit)
	e.Status = http.StatusRequestEntityTooLarge
	return e
}

// checkJSON tells whether body is one JSON value and nothing else.
func checkJSON(body []byte) error {
	if json.Valid(body) {
		return nil
	}
	where := ""
	var raw json.RawMessage
	err := json.Unmarshal(body, &raw)
	if se, ok := errors.AsType[*json.SyntaxError](err); ok {
		where = fmt.Sprintf(" at byte %d", se.Offset)
	}
	return malformed(bus.Errorf(bus.InvalidArgument, "the body is not JSON: %w%s", err, where))
}

// malformed is for requests that could not be read at all, 400 where others are 422.
func malformed(e *bus.Error) *bus.Error {
	e.Status = http.StatusBadRequest
	return e
}

// kind is the first byte of a JSON value, with 0 in place of all digits and the minus: it tells what the value is.
func kind(raw []byte) byte {
	if len(raw) == 0 {
		return 'u' // for undefined
	}
	if c := raw[0]; c == '"' || c == '{' || c == '[' || c == 't' || c == 'f' || c == 'n' {
		return c
	}
	return '0'
}

// members goes through an object of valid JSON. Names come without quotes and escapes, values without space around them.
func members(object []byte, f func(name, value []byte)) {
	for i := skipSpace(object, 1); object[i] != '}'; i = skipSpace(object, i) {
		if object[i] == ',' {
			i = skipSpace(object, i+1)
		}
		end := skipValue(object, i)
		name := object[i+1 : end-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			name = []byte(unquote(object[i:end]))
		}
		i = skipSpace(object, skipSpace(object, end)+1) // over the colon
		end = skipValue(object, i)
		f(name, object[i:end])
		i = end
	}
}

// elements goes through an array of valid JSON.
func elements(array []byte, f func(value []byte)) {
	for i := skipSpace(array, 1); array[i] != ']'; i = skipSpace(array, i) {
		if array[i] == ',' {
			i = skipSpace(array, i+1)
		}
		end := skipValue(array, i)
		f(array[i:end])
		i = end
	}
}

func skipSpace(raw []byte, i int) int {
	for raw[i] == ' ' || raw[i] == '\n' || raw[i] == '\t' || raw[i] == '\r' {
		i++
	}
	return i
}

// skipValue is where the value that begins at i ends.
func skipValue(raw []byte, i int) int {
	for depth := 0; i < len(raw); {
		switch raw[i] {
		case '"':
			i = skipString(raw, i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			if depth == 0 {
				return i // after a number or a word
			}
			depth--
			i++
		case ',', ':', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return i
			}
			i++
			continue
		default:
			i++
			continue
		}
		if depth == 0 {
			return i
		}
	}
	return i
}

func skipString(raw []byte, i int) int {
	for i++; raw[i] != '"'; i++ {
		if raw[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// unquote is the value of a JSON string.
func unquote(raw []byte) string {
	inside := raw[1 : len(raw)-1]
	if bytes.IndexByte(inside, '\\') < 0 {
		return string(inside)
	}
	var s string
	_ = json.Unmarshal(raw, &s) // valid JSON, and a string
	return s
}
