package scheduler

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/leanhttp"
)

// answered is what came of a request that got an answer.
func answered(status int, header func(name string) string) error {
	if status >= 200 && status <= 299 {
		return nil
	}
	e := &DeliveryError{Status: status, Permanent: status == http.StatusGone}
	switch {
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		e.RetryAfter = retryAfter(header("Retry-After"), header("Date"))
	case status < 500 && status != http.StatusRequestTimeout, status == http.StatusInternalServerError, status == http.StatusNotImplemented:
		e.Unharmed = true // it answers; what it answers is about the request, or one path of many
	}
	text := http.StatusText(status)
	switch {
	case status/100 == 3:
		text += ": redirects are not followed"
	case text == "":
		text = "unknown status"
	}
	e.Err = bus.Errorf(codeOfAnswer(status), "%d %s", status, text)
	return e
}

// codeOfAnswer is the word for a status that is no success.
func codeOfAnswer(status int) bus.Code {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return bus.InvalidArgument
	case http.StatusUnauthorized:
		return bus.Unauthenticated
	case http.StatusForbidden:
		return bus.PermissionDenied
	case http.StatusNotFound, http.StatusGone:
		return bus.NotFound
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return bus.DeadlineExceeded
	case http.StatusConflict:
		return bus.Aborted
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests, http.StatusInsufficientStorage:
		return bus.ResourceExhausted
	case http.StatusNotImplemented, http.StatusMethodNotAllowed:
		return bus.Unimplemented
	case http.StatusInternalServerError:
		return bus.Internal
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return bus.Unavailable
	}
	if status < 500 {
		return bus.FailedPrecondition
	}
	return bus.Unknown
}

// retryAfter reads a Retry-After: seconds, or a time, which is taken by the clock of who answered (date) if that is told.
func retryAfter(value, date string) time.Duration {
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return MaxRetryAge
		}
		return min(time.Duration(seconds)*time.Second, MaxRetryAge)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(date)
	if err != nil {
		now = time.Now()
	}
	return max(0, min(at.Sub(now), MaxRetryAge))
}

// httpFailure is what came of a request that got no answer. The text is of our making: an error of net/http may quote what came
// over the wire.
func httpFailure(ctx context.Context, err error) error {
	if e := connectionFailure(ctx, err); e != nil {
		return e
	}
	if errors.Is(err, leanhttp.ErrRequest) {
		return hopelessTarget(bus.Wrap(bus.InvalidArgument, "the target or its header makes no request", err))
	}
	text := "no HTTP answer came, or one with too large a header"
	if certificate, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		text = "its certificate is not good: " + certificateText(certificate.Err)
	}
	return &DeliveryError{Err: bus.Wrap(bus.Unavailable, text, err)}
}

func certificateText(err error) string {
	switch e := err.(type) { //nolint:errorlint // of the very value that is in a CertificateVerificationError
	case x509.HostnameError:
		return "it is for another host"
	case x509.UnknownAuthorityError:
		return "it is signed by an unknown authority"
	case x509.CertificateInvalidError:
		if e.Reason == x509.Expired {
			return "it has expired, or is not valid yet"
		}
	}
	return "it does not verify"
}

// connectionFailure tells of what can go wrong for any target that is dialled; nil for anything else.
func connectionFailure(ctx context.Context, err error) *DeliveryError {
	if e, ok := errors.AsType[*bus.Error](err); ok && e.Code == bus.PermissionDenied {
		return &DeliveryError{Unharmed: true, Err: e} // refused by the guard: nothing was dialled
	}
	failed := func(code bus.Code, format string, args ...any) *DeliveryError {
		return &DeliveryError{Err: bus.Wrap(code, fmt.Sprintf(format, args...), err)}
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return &DeliveryError{Unharmed: true, Err: bus.Wrap(bus.Canceled, "the attempt was stopped", err)}
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		if e.IsNotFound {
			return failed(bus.Unavailable, "host %.80q: no such host", e.Name)
		}
		return failed(bus.Unavailable, "host %.80q could not be looked up", e.Name)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		if op.Timeout() {
			return failed(bus.Unavailable, "%s: no connection in time", op.Addr)
		}
		return failed(bus.Unavailable, "%s: %s", op.Addr, systemText(err, "no connection"))
	}
	if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return failed(bus.DeadlineExceeded, "no answer in time")
	}
	if text := systemText(err, ""); text != "" {
		return failed(bus.Unavailable, "the connection broke: %s", text)
	}
	return nil
}

// systemText is what the system says, such as "connection refused".
func systemText(err error, otherwise string) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "closed by the other side"
	}
	return otherwise
}
