package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
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
	if r.ContentLength > g.cfg.MaxBody { // said before a byte of it is read
		return initiators.Request{}, g.bodyError(&http.MaxBytesError{Limit: g.cfg.MaxBody})
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, g.cfg.MaxBody))
	if err != nil {
		return initiators.Request{}, g.bodyError(err)
	}
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

func (g *Gateway) bodyError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		e := bus.Errorf(bus.ResourceExhausted, "the body has more than %d bytes", g.cfg.MaxBody)
		e.Status = http.StatusRequestEntityTooLarge
		return e
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		e := bus.Wrap(bus.DeadlineExceeded, "the body did not come in time", err)
		e.Status = http.StatusRequestTimeout
		return e
	}
	return bus.Wrap(bus.InvalidArgument, "the body could not be read: "+err.Error(), err)
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
