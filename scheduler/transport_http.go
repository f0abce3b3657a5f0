package scheduler

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/skybus-io/skybus/bus"
)

const (
	userAgent        = "skybus (+https://github.com/skybus-io/skybus)"
	handshakeTimeout = 5 * time.Second
	idleTimeout      = 90 * time.Second
	maxIdle          = 1024
	maxAnswerHeader  = 64 << 10
	maxAnswerBody    = 64 << 10 // read for the sake of the connection; more closes it
	answerBodyTime   = time.Second
)

// httpTransport sends the payload to a URL. Only a status of 2xx is success, and redirects are not followed.
type httpTransport struct {
	guard   *guard
	signers *signers
	client  *http.Transport // not http.Client: that follows redirects and tells URLs in its errors
	fresh   *http.Transport // keeps no connections
}

var (
	_ Transport     = (*httpTransport)(nil)
	_ Destinationer = (*httpTransport)(nil)
	_ io.Closer     = (*httpTransport)(nil)
)

func newHTTPTransport(g *guard, s *signers, perDestination int) *httpTransport {
	client := &http.Transport{
		Proxy:                  nil, // it would dial in our place, and judge by other rules
		DialContext:            g.dialer().DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    handshakeTimeout,
		MaxIdleConns:           max(maxIdle, perDestination),
		MaxIdleConnsPerHost:    perDestination,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
	}
	fresh := client.Clone()
	fresh.DisableKeepAlives = true
	return &httpTransport{guard: g, signers: s, client: client, fresh: fresh}
}

// Check reads the URL, judges the addresses it has now, and looks for the secret.
func (x *httpTransport) Check(ctx context.Context, t Target) error {
	u, err := x.guard.checkURL(t.URI)
	if err != nil {
		return err
	}
	if err := checkMethod(t.Method); err != nil {
		return err
	}
	if err := x.guard.checkTarget(ctx, u.Hostname()); err != nil {
		return err
	}
	if t.Secret != "" {
		return x.signers.check(ctx, t.Secret)
	}
	return nil
}

func checkMethod(method string) error {
	methods := []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodOptions}
	if method != "" && !slices.Contains(methods, method) {
		return invalid(fieldMethod, "is %.20q: want one of %s", method, strings.Join(methods, ", "))
	}
	return nil
}

// Destination is host and port.
func (x *httpTransport) Destination(t Target) string {
	u, err := url.Parse(t.URI)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), portOf(u))
}

// Close closes connections that are idle, and stops following the secrets.
func (x *httpTransport) Close() error {
	x.client.CloseIdleConnections()
	return x.signers.close()
}

// Deliver makes one request; another one where a connection that was kept turns out to be broken before anything is answered, as receivers close
// what was idle. What was checked when the timer was made is checked again: others may have stored it.
func (x *httpTransport) Deliver(ctx context.Context, d *Delivery) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := x.request(ctx, d)
	if err != nil {
		return err
	}
	var used usedConn
	res, err := x.client.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, used.trace())))
	if err != nil && used.stale() && ctx.Err() == nil {
		if req, err = x.request(ctx, d); err != nil {
			return err
		}
		res, err = x.fresh.RoundTrip(req)
	}
	if err != nil {
		return httpFailure(ctx, err)
	}
	discard(res.Body, cancel)
	return answered(res)
}

// usedConn is what is known of the connection of a request.
type usedConn struct{ kept, answered atomic.Bool }

func (u *usedConn) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn:              func(i httptrace.GotConnInfo) { u.kept.Store(i.Reused) },
		GotFirstResponseByte: func() { u.answered.Store(true) },
	}
}

// stale tells whether the connection had been kept, and nothing came by it.
func (u *usedConn) stale() bool { return u.kept.Load() && !u.answered.Load() }

func (x *httpTransport) request(ctx context.Context, d *Delivery) (*http.Request, error) {
	if _, err := x.guard.checkURL(d.Target.URI); err != nil {
		return nil, hopelessTarget(err)
	}
	if err := errors.Join(checkMethod(d.Target.Method), checkHeader(d.Header)); err != nil {
		return nil, hopelessTarget(err)
	}
	method := d.Target.Method
	if method == "" {
		method = http.MethodPost
	}
	var body io.Reader
	if len(d.Payload) > 0 {
		body = bytes.NewReader(d.Payload)
	}
	req, err := http.NewRequestWithContext(ctx, method, d.Target.URI, body)
	if err != nil {
		return nil, hopelessTarget(invalid(fieldURI, "makes no request"))
	}
	d.httpHeader(req.Header)
	once(req)
	if d.Target.Secret == "" {
		return req, nil
	}
	signer, err := x.signers.signer(ctx, d.Target.Secret)
	if err != nil {
		return nil, &DeliveryError{Unharmed: true, Err: err}
	}
	if err := signer.Sign(req.Header, d.ID, time.Now(), d.Payload); err != nil {
		return nil, &DeliveryError{Unharmed: true, Permanent: true, Err: bus.Wrap(bus.InvalidArgument, err.Error(), err)}
	}
	return req, nil
}

// once keeps net/http from sending a request again by itself when a connection that was kept breaks: attempts that nobody counts.
func once(req *http.Request) {
	req.GetBody = nil
	// In other letters net/http does not know it.
	req.Header["idempotency-key"] = req.Header[HeaderIdempotencyKey]
	delete(req.Header, HeaderIdempotencyKey)
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		if req.Body == nil || req.Body == http.NoBody {
			req.Body = io.NopCloser(strings.NewReader(""))
		}
	}
}

// hopelessTarget is a refusal of what can never be delivered: it was not stored by Create, or the configuration was another one then.
// What the configuration may allow again is tried again.
func hopelessTarget(err error) *DeliveryError {
	return &DeliveryError{Permanent: bus.CodeOf(err) != bus.PermissionDenied, Unharmed: true, Err: err}
}

// discard reads what is left of an answer, so that the connection can be used again: a little, and not for long.
func discard(body io.ReadCloser, cancel func()) {
	if body != http.NoBody {
		timer := time.AfterFunc(answerBodyTime, cancel)
		_, _ = io.CopyN(io.Discard, body, maxAnswerBody) // the status has decided already
		timer.Stop()
	}
	_ = body.Close()
}

// answered is what came of a request that got an answer.
func answered(res *http.Response) error {
	status := res.StatusCode
	if status >= 200 && status <= 299 {
		return nil
	}
	e := &DeliveryError{Status: status, Permanent: status == http.StatusGone}
	switch {
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		e.RetryAfter = retryAfter(res.Header.Get("Retry-After"), res.Header.Get("Date"))
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
	if ctx.Err() != nil {
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
