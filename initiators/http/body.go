package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
)

const (
	typeJSON        = "application/json"
	typeMessagePack = "application/msgpack"
	typeForm        = "application/x-www-form-urlencoded"
	typeMultipart   = "multipart/form-data"

	maxFormFields = 1000
)

// read reads the whole body and makes the request of it, checking what can be checked here: the size, and that JSON is
// JSON. Form is what a form has.
func (e *served) read(w http.ResponseWriter, r *http.Request) (req initiators.Request, form url.Values, err error) {
	if bodiless(r.Method) { // whatever comes with it means nothing
		return initiators.Request{ContentType: typeJSON}, nil, nil
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		w.Header().Set("Accept-Encoding", "identity") // RFC 9110, section 15.5.16
		e := bus.Errorf(bus.InvalidArgument, "content encoding %.80q: want the body as it is, without any", encoding)
		e.Status = http.StatusUnsupportedMediaType
		return req, nil, e
	}
	body, err := e.gateway.places.readBody(w, r, e.maxBody)
	if err != nil {
		return req, nil, err
	}
	contentType := r.Header.Get("Content-Type")
	media, params := typeJSON, map[string]string(nil)
	if contentType != "" && contentType != typeJSON {
		if media, params, err = mime.ParseMediaType(contentType); err != nil {
			return req, nil, unsupported(contentType)
		}
	}
	switch media {
	case typeForm:
		// curl -d says that its data is a form, whatever it is. No form begins with a brace.
		if trimmed := bytes.TrimSpace(body); len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[') {
			break
		}
		return formRequest(body)
	case typeMultipart:
		return multipartRequest(body, params["boundary"])
	case typeJSON:
	case typeMessagePack:
		return initiators.Request{ContentType: media, Body: body}, nil, nil
	default:
		if !e.raw {
			return req, nil, unsupported(media)
		}
		return initiators.Request{ContentType: contentType, Body: body}, nil, nil
	}
	req, err = jsonRequest(body)
	return req, nil, err
}

// bodiless tells whether requests of a method have no body that means anything (RFC 9110, section 9.3).
func bodiless(method string) bool { return method == http.MethodGet || method == http.MethodHead }

func unsupported(media string) error {
	e := bus.Errorf(bus.InvalidArgument, "content type %.80q: want %s, %s, %s or %s", media, typeJSON, typeMessagePack, typeForm, typeMultipart)
	e.Status = http.StatusUnsupportedMediaType
	return e
}

// jsonRequest takes a JSON body as it is. No body is the empty request.
func jsonRequest(body []byte) (initiators.Request, error) {
	if json.Valid(body) {
		return initiators.Request{ContentType: typeJSON, Body: body}, nil
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return initiators.Request{ContentType: typeJSON}, nil
	}
	var raw json.RawMessage
	err := json.Unmarshal(body, &raw)
	where := ""
	if se, ok := errors.AsType[*json.SyntaxError](err); ok {
		where = fmt.Sprintf(" at byte %d", se.Offset)
	}
	return initiators.Request{}, bus.Errorf(bus.InvalidArgument, "the body is not JSON: %w%s", err, where)
}

// formRequest makes a JSON object of a form: a field given once is a string, one given more often a list of strings.
func formRequest(body []byte) (initiators.Request, url.Values, error) {
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return initiators.Request{}, nil, bus.Errorf(bus.InvalidArgument, "the form is malformed: %w", err)
	}
	if len(values) > maxFormFields {
		return initiators.Request{}, nil, bus.Errorf(bus.InvalidArgument, "the form has %d fields: want at most %d", len(values), maxFormFields)
	}
	return objectRequest(members(values), values)
}

// members are the fields of a form or query as those of an object.
func members(values url.Values) map[string]any {
	object := make(map[string]any, len(values))
	for k, v := range values {
		if len(v) == 1 {
			object[k] = v[0]
			continue
		}
		object[k] = v
	}
	return object
}

func objectRequest(object map[string]any, form url.Values) (initiators.Request, url.Values, error) {
	for name, values := range form {
		if !utf8.ValidString(name) || slices.ContainsFunc(values, func(v string) bool { return !utf8.ValidString(v) }) {
			return initiators.Request{}, nil, bus.Errorf(bus.InvalidArgument, "field %.80q of the form is not UTF-8", name)
		}
	}
	encoded, err := json.Marshal(object)
	if err != nil {
		return initiators.Request{}, nil, bus.Errorf(bus.InvalidArgument, "the form does not encode: %w", err)
	}
	return initiators.Request{ContentType: typeJSON, Body: encoded}, form, nil
}

// file is a file of a form.
type file struct {
	Name string `json:"name"`
	Type string `json:"type,omitempty"`
	Size int    `json:"size"`
	Data []byte `json:"data"` // base64
}

// multipartRequest makes a JSON object of a form with files, each an object of its name, type, size and data in base64.
func multipartRequest(body []byte, boundary string) (initiators.Request, url.Values, error) {
	bad := func(err error) (initiators.Request, url.Values, error) {
		return initiators.Request{}, nil, bus.Errorf(bus.InvalidArgument, "the form is malformed: %w", err)
	}
	if boundary == "" {
		return bad(errors.New("its content type has no boundary"))
	}
	values, files := url.Values{}, map[string][]file{}
	parts := multipart.NewReader(bytes.NewReader(body), boundary)
	for n := 0; ; n++ {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return bad(err)
		}
		if n == maxFormFields {
			return bad(fmt.Errorf("it has more than %d parts", maxFormFields))
		}
		data, err := io.ReadAll(part)
		if err != nil {
			return bad(err)
		}
		name := part.FormName()
		switch {
		case name == "":
			return bad(errors.New("a part has no name"))
		case part.FileName() != "":
			files[name] = append(files[name], file{part.FileName(), part.Header.Get("Content-Type"), len(data), data})
		default:
			values[name] = append(values[name], string(data))
		}
	}
	object := members(values)
	for name, list := range files {
		if len(list) == 1 {
			object[name] = list[0]
			continue
		}
		object[name] = list
	}
	return objectRequest(object, values)
}
