package adminapi

import (
	"context"
	"errors"
	"maps"
	"net/http"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/httpx"
)

// fail answers with a problem.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problem(err)
	h.prepare(w, r, p.Status, err)
	p.Write(w)
}

// prepare sets the headers that a status needs, and logs what is not the client's fault.
func (h *Handler) prepare(w http.ResponseWriter, r *http.Request, status int, err error) {
	if status == http.StatusServiceUnavailable || status == http.StatusInsufficientStorage {
		w.Header().Set("Retry-After", "1")
	}
	if status >= http.StatusInternalServerError {
		h.log.DebugContext(r.Context(), "request failed", "method", r.Method, "status", status, "error", err)
	}
}

// problem tells of err. Fields that are wrong are named as in the JSON of a backend.
func problem(err error) httpx.Problem {
	if in, ok := errors.AsType[*inputError](err); ok {
		p := httpx.Problem{Status: http.StatusUnprocessableEntity, Detail: in.Error(), Code: string(bus.InvalidArgument), Errors: in.fields}
		if in.unknown {
			p.Status = http.StatusBadRequest
		}
		return p
	}
	e := asError(err)
	p := httpx.Problem{Status: statusOf(e), Detail: e.Message, Code: string(e.Code), Details: e.Details}
	if field := e.Details["field"]; field != "" {
		p.Errors = []httpx.FieldError{{Field: field, Message: e.Message}}
		p.Details = maps.Clone(e.Details)
		delete(p.Details, "field")
	}
	return p
}

// statusOf says more than the codes' own statuses: what could be read but not be done is 422, what does not fit the state of the mirror is 409,
// and what there is no room for is 507.
func statusOf(e *bus.Error) int {
	if e.Status == 0 {
		switch e.Code {
		case bus.InvalidArgument, bus.OutOfRange:
			return http.StatusUnprocessableEntity
		case bus.FailedPrecondition:
			return http.StatusConflict
		case bus.ResourceExhausted:
			return http.StatusInsufficientStorage
		default:
		}
	}
	return e.HTTPStatus()
}

// asError gives the status 499 to a request whose client has gone.
func asError(err error) *bus.Error {
	if errors.Is(err, context.Canceled) {
		return bus.Wrap(bus.Canceled, "the client has gone", err)
	}
	return bus.AsError(err)
}

const maxFieldErrors = 20

// inputError is what is wrong with a JSON document or the parameters of a request.
type inputError struct {
	fields  []httpx.FieldError
	unknown bool // one of them is a name that is not known
}

func (e *inputError) Error() string { return e.fields[0].Field + ": " + e.fields[0].Message }

func (e *inputError) add(field, message string) {
	if len(e.fields) < maxFieldErrors {
		e.fields = append(e.fields, httpx.FieldError{Field: field, Message: message})
	}
}
