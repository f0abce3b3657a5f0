package micro

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/skybus-io/skybus/bus"
)

// misshapen is the error for a request that is no value of what the endpoint takes. Its detail content_type says as what it was read, for who sent it on. Bytes where
// there are to be fields are of the wrong type whatever they hold, which the status 415 says.
func misshapen(contentType string, err error) error {
	e := misfit("request", contentType, err).With("content_type", contentType)
	if contentType == (bus.Raw{}).ContentType() {
		e.Status = http.StatusUnsupportedMediaType
	}
	return e
}

// misfit is the error for a body that is no value of what it is decoded into. It speaks of the body: how the value is called in Go is not
// the sender's business.
func misfit(what, contentType string, err error) *bus.Error {
	text := shapeText(err)
	if contentType == (bus.Raw{}).ContentType() {
		text = "it is bytes, want fields"
	}
	return bus.Wrap(bus.InvalidArgument, fmt.Sprintf("%s is not %s of the right shape: %s", what, contentType, text), err)
}

func shapeText(err error) string {
	te, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return err.Error()
	}
	where := "it"
	if te.Field != "" {
		where = te.Field
	}
	kind, _, number := strings.Cut(te.Value, " ") // "number 300" is one that does not fit
	if number {
		return fmt.Sprintf("%s is %s, want %s", where, strings.TrimPrefix(te.Value, kind+" "), jsonKind(te.Type))
	}
	return fmt.Sprintf("%s is of the kind %s, want %s", where, kind, jsonKind(te.Type))
}

// jsonKind is what JSON has for values of a type.
func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprintf("a whole number of %d bits", t.Bits())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return fmt.Sprintf("a whole number of %d bits, not below 0", t.Bits())
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return "a string of base64"
		}
		return "an array"
	case reflect.Map, reflect.Struct:
		return "an object"
	case reflect.Pointer:
		return jsonKind(t.Elem())
	default:
		return "another"
	}
}
