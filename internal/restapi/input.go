package restapi

import (
	"fmt"

	"github.com/skybus-io/skybus/internal/httpx"
)

// maxFields is how many mistakes of one request are told.
const maxFields = 20

// InputError is what is wrong with a JSON document or the parameters of a request.
type InputError struct {
	Fields  []httpx.FieldError
	Unknown bool // one of them is a name that is not known
}

// Error tells of the first mistake.
func (e *InputError) Error() string { return e.Fields[0].Field + ": " + e.Fields[0].Message }

// Wrong adds a mistake. What comes after the twentieth is left out.
func (e *InputError) Wrong(field, format string, args ...any) {
	if len(e.Fields) < maxFields {
		e.Fields = append(e.Fields, httpx.FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
	}
}

// Err is nil where nothing is wrong.
func (e *InputError) Err() error {
	if len(e.Fields) == 0 {
		return nil
	}
	return e
}
