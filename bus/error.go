package bus

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
)

// ErrNoResponders is in the chain of a request's error when nobody listened on the subject. Nothing was delivered, so it
// is always safe to try again.
var ErrNoResponders = errors.New("no responders")

// Code says what kind of failure an error is. The words and their meaning are gRPC's status codes as the Connect
// protocol spells them.
type Code string

// The codes, each with the HTTP status the Connect protocol gives it.
const (
	Canceled           Code = "canceled"            // 499
	Unknown            Code = "unknown"             // 500
	InvalidArgument    Code = "invalid_argument"    // 400
	DeadlineExceeded   Code = "deadline_exceeded"   // 504
	NotFound           Code = "not_found"           // 404
	AlreadyExists      Code = "already_exists"      // 409
	PermissionDenied   Code = "permission_denied"   // 403
	ResourceExhausted  Code = "resource_exhausted"  // 429
	FailedPrecondition Code = "failed_precondition" // 400
	Aborted            Code = "aborted"             // 409
	OutOfRange         Code = "out_of_range"        // 400
	Unimplemented      Code = "unimplemented"       // 501
	Internal           Code = "internal"            // 500
	Unavailable        Code = "unavailable"         // 503
	DataLoss           Code = "data_loss"           // 500
	Unauthenticated    Code = "unauthenticated"     // 401
)

const statusClientClosed = 499

// Status is the HTTP status of the code, 500 for a word that is none.
func (c Code) Status() int {
	switch c {
	case Canceled:
		return statusClientClosed
	case InvalidArgument, FailedPrecondition, OutOfRange:
		return http.StatusBadRequest
	case DeadlineExceeded:
		return http.StatusGatewayTimeout
	case NotFound:
		return http.StatusNotFound
	case AlreadyExists, Aborted:
		return http.StatusConflict
	case PermissionDenied:
		return http.StatusForbidden
	case ResourceExhausted:
		return http.StatusTooManyRequests
	case Unimplemented:
		return http.StatusNotImplemented
	case Unavailable:
		return http.StatusServiceUnavailable
	case Unauthenticated:
		return http.StatusUnauthorized
	case Unknown, Internal, DataLoss:
	}
	return http.StatusInternalServerError
}

// codeOfStatus finds the code for the error of a service that speaks only HTTP statuses, as ADR-32 services do.
func codeOfStatus(status int) Code {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return InvalidArgument
	case http.StatusUnauthorized:
		return Unauthenticated
	case http.StatusForbidden:
		return PermissionDenied
	case http.StatusNotFound:
		return NotFound
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return DeadlineExceeded
	case http.StatusConflict:
		return Aborted
	case http.StatusPreconditionFailed:
		return FailedPrecondition
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests, http.StatusInsufficientStorage:
		return ResourceExhausted
	case statusClientClosed:
		return Canceled
	case http.StatusNotImplemented:
		return Unimplemented
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return Unavailable
	case http.StatusInternalServerError:
		return Internal
	}
	return Unknown
}

// Error is a failure that can cross the wire: code, message and details do, the cause does not.
type Error struct {
	Code    Code
	Message string
	// Details are facts for programs, such as which field was bad.
	Details map[string]string
	// Status is an HTTP status that says more than the code's own, such as 413. 0 means the code's own.
	Status int

	cause error
}

// Errorf makes an Error. Errors wrapped by %w are kept for errors.Is and for the log on this side; they are part of the
// message and so travel as text.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	cause := errors.Unwrap(err)
	if _, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err); ok {
		cause = err // holds several
	}
	return &Error{Code: code, Message: err.Error(), cause: cause}
}

// Wrap makes an Error that carries cause on this side of the wire only: the other side sees message.
func Wrap(code Code, message string, cause error) *Error {
	return &Error{Code: code, Message: message, cause: cause}
}

// With adds a detail and returns e.
func (e *Error) With(key, value string) *Error {
	if e.Details == nil {
		e.Details = map[string]string{}
	}
	e.Details[key] = value
	return e
}

// Error is the code and the message.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Unwrap is the cause on this side of the wire, nil for an error that came over it.
func (e *Error) Unwrap() error { return e.cause }

// HTTPStatus is Status where that is one of an error (400 to 599: services of others may send any number), else the
// code's own.
func (e *Error) HTTPStatus() int {
	if e.Status >= 400 && e.Status <= 599 {
		return e.Status
	}
	return e.Code.Status()
}

// CodeOf is the code of err: of the first [Error] in its chain, Canceled or DeadlineExceeded for what a context ends
// with, Unknown for any other error and the empty code for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	return AsError(err).Code
}

// AsError turns any error into an [Error]: the first one in its chain, else one made with the code of [CodeOf] and err as
// message and cause. It returns nil for nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return Wrap(DeadlineExceeded, err.Error(), err)
	case errors.Is(err, context.Canceled):
		return Wrap(Canceled, err.Error(), err)
	}
	return Wrap(Unknown, err.Error(), err)
}

// errorBody is what an error reply carries beside its headers, in the request's codec, for programs and for people who
// look at the raw reply.
type errorBody struct {
	Code    Code              `json:"code"`
	Message string            `json:"message"`
	Details map[string]string `json:"details,omitempty"`
}

const maxErrorText = 1024

// NewErrorReply makes the reply that tells of err: the error headers of ADR-32, our code, and a body in codec, or in JSON where
// codec does not encode it. For [Raw] there is a body only where there are details. Messages longer than 1,024 bytes are cut.
func NewErrorReply(codec Codec, err error) *nats.Msg {
	e := AsError(err)
	text := e.Message
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "")
	}
	h := nats.Header{
		HeaderServiceError:     {headerText(text)},
		HeaderServiceErrorCode: {strconv.Itoa(e.HTTPStatus())},
		HeaderErrorCode:        {string(e.Code)},
	}
	msg := &nats.Msg{Header: h}
	if _, raw := codec.(Raw); raw {
		if len(e.Details) == 0 {
			return msg
		}
		codec = JSON{}
	}
	body, merr := codec.Marshal(errorBody{e.Code, text, e.Details})
	if merr != nil { // a codec that knows only types of its own
		codec = JSON{}
		if body, merr = codec.Marshal(errorBody{e.Code, text, e.Details}); merr != nil {
			return msg // the headers say all but the details
		}
	}
	h[HeaderContentType] = []string{codec.ContentType()}
	msg.Data = body
	return msg
}

// ReplyError is the error that a reply made by [NewErrorReply], or one of a service of ADR-32, tells of; nil when it is an
// answer. [Conn.Request] has looked already.
func (c *Conn) ReplyError(msg *nats.Msg) error {
	text, code := first(msg.Header, HeaderServiceError), first(msg.Header, HeaderServiceErrorCode)
	if text == "" && code == "" {
		return nil
	}
	status, _ := strconv.Atoi(code)
	e := &Error{Code: Code(first(msg.Header, HeaderErrorCode)), Message: text, Status: status}
	if e.Code == "" {
		e.Code = codeOfStatus(status)
	}
	if e.Status == e.Code.Status() {
		e.Status = 0
	}
	codec, err := c.CodecFor(first(msg.Header, HeaderContentType))
	var body errorBody
	if err == nil && len(msg.Data) > 0 && codec.Unmarshal(msg.Data, &body) == nil {
		e.Details = body.Details
		if body.Message != "" && body.Code == e.Code {
			e.Message = body.Message // not flattened to one line
		}
	}
	return e
}
