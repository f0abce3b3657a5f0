package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/internal/httpx"
)

const (
	typeJSON        = "application/json"
	typeMessagePack = "application/msgpack"
	typeForm        = "application/x-www-form-urlencoded"

	maxFormFields = 1000
)

// read reads the whole body and makes the request of it, checking what can be checked here: the size, and that JSON is
// JSON.
func (g *Gateway) read(w http.ResponseWriter, r *http.Request) (initiators.Request, error) {
	body, problem := httpx.ReadBody(w, r, g.cfg.MaxBody)
	if problem != nil {
		e := bus.Errorf(bus.Code(problem.Code), "%s", problem.Detail)
		e.Status = problem.Status
		return initiators.Request{}, e
	}
	var err error
	media := typeJSON
	if ct := r.Header.Get("Content-Type"); ct != "" {
		if media, _, err = mime.ParseMediaType(ct); err != nil {
			return initiators.Request{}, unsupported(ct)
		}
	}
	switch media {
	case typeForm:
		// curl -d says that its data is a form, whatever it is. No form begins with a brace.
		if trimmed := bytes.TrimSpace(body); len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[') {
			return jsonRequest(body)
		}
		return formRequest(body)
	case typeJSON:
		return jsonRequest(body)
	case typeMessagePack:
		return initiators.Request{ContentType: media, Body: body}, nil
	}
	return initiators.Request{}, unsupported(media)
}

func unsupported(media string) error {
	e := bus.Errorf(bus.InvalidArgument, "content type %.80q: want %s, %s or %s", media, typeJSON, typeMessagePack, typeForm)
	e.Status = http.StatusUnsupportedMediaType
	return e
}

// jsonRequest takes a JSON body as it is. No body is the empty request.
func jsonRequest(body []byte) (initiators.Request, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return initiators.Request{ContentType: typeJSON}, nil
	}
	var raw json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil {
		where := ""
		if se, ok := errors.AsType[*json.SyntaxError](err); ok {
			where = fmt.Sprintf(" at byte %d", se.Offset)
		}
		return initiators.Request{}, bus.Errorf(bus.InvalidArgument, "the body is not JSON: %w%s", err, where)
	}
	return initiators.Request{ContentType: typeJSON, Body: body}, nil
}

// formRequest makes a JSON object of a form: a field given once is a string, one given more often a list of strings.
func formRequest(body []byte) (initiators.Request, error) {
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return initiators.Request{}, bus.Errorf(bus.InvalidArgument, "the form is malformed: %w", err)
	}
	if len(values) > maxFormFields {
		return initiators.Request{}, bus.Errorf(bus.InvalidArgument, "the form has %d fields: want at most %d", len(values), maxFormFields)
	}
	object := make(map[string]any, len(values))
	for k, v := range values {
		if len(v) == 1 {
			object[k] = v[0]
			continue
		}
		object[k] = v
	}
	encoded, err := json.Marshal(object)
	if err != nil {
		return initiators.Request{}, bus.Errorf(bus.InvalidArgument, "the form does not encode: %w", err)
	}
	return initiators.Request{ContentType: typeJSON, Body: encoded}, nil
}
