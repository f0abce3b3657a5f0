package restapi

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/httpx"
)

// Fail answers with a problem.
func Fail(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	p := Problem(r.Context(), err)
	Prepare(w, r, log, p.Status, err)
	p.Write(w)
}

// Prepare sets the headers that the answer to a request that failed needs, and logs what is not the client's fault: as a warning where nobody knows why.
func Prepare(w http.ResponseWriter, r *http.Request, log *slog.Logger, status int, err error) {
	if status == http.StatusServiceUnavailable || status == http.StatusInsufficientStorage {
		w.Header().Set("Retry-After", "1")
	}
	if status >= http.StatusInternalServerError {
		level := slog.LevelDebug
		if code := AsError(r.Context(), err).Code; code == bus.Internal || code == bus.Unknown {
			level = slog.LevelWarn
		}
		log.Log(r.Context(), level, "request failed", "method", r.Method, "status", status, "error", err)
	}
}

// Problem tells of err, as [AsError] does. Fields that are wrong are named as in the JSON of a request.
func Problem(ctx context.Context, err error) httpx.Problem {
	if in, ok := errors.AsType[*InputError](err); ok {
		p := httpx.Problem{Status: http.StatusUnprocessableEntity, Detail: in.Error(), Code: string(bus.InvalidArgument), Errors: in.Fields}
		if in.Unknown {
			p.Status = http.StatusBadRequest
		}
		return p
	}
	e := AsError(ctx, err)
	p := httpx.Problem{Status: StatusOf(e), Detail: e.Message, Code: string(e.Code), Details: e.Details}
	if field := e.Details["field"]; field != "" {
		p.Errors = []httpx.FieldError{{Field: field, Message: e.Message}}
		p.Details = maps.Clone(e.Details)
		delete(p.Details, "field")
	}
	return p
}

// StatusOf says more than the codes' own statuses: what could be read but not be done is 422, what does not fit the state of things is 409,
// and what there is no room for is 507.
func StatusOf(e *bus.Error) int {
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

// AsError gives the status 499 to a request whose client has gone, which its ctx tells: what ended a wait for another reason, such as a connection
// that was lost, is no word of the client's, who waits for an answer.
func AsError(ctx context.Context, err error) *bus.Error {
	switch e := bus.AsError(err); {
	case !errors.Is(err, context.Canceled) && e.Code != bus.Canceled:
		return e
	case errors.Is(ctx.Err(), context.Canceled):
		return bus.Wrap(bus.Canceled, "the client has gone", err)
	case e.Code != bus.Canceled:
		return e
	default:
		return bus.Wrap(bus.Unavailable, e.Message, err)
	}
}
