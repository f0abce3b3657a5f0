package scheduler

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
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
	maxAddresses     = 4096
	addressFresh     = time.Hour
)

// httpTransport sends the payload to a URL. Only a status of 2xx is success, and redirects are not followed.
type httpTransport struct {
	guard   *guard
	signers *signers
	plain   *plainHTTP
	client  *http.Transport // for TLS and long payloads; not http.Client: that follows redirects and tells URLs in its errors
	fresh   *http.Transport // keeps no connections
	read    *memo[*webAddress]
}

// webAddress is a URL that was checked, and where it leads.
type webAddress struct {
	url     *url.URL
	address string // host and port
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
	return &httpTransport{
		guard: g, signers: s, plain: newPlainHTTP(g.dialer().DialContext, perDestination), client: client, fresh: fresh,
		read: newMemo[*webAddress](maxAddresses),
	}
}

// address reads a URL, which what recurs or fires often has in common.
func (x *httpTransport) address(uri string) (*webAddress, error) {
	if a, ok := x.read.get(uri); ok {
		return a, nil
	}
	u, err := x.guard.checkURL(uri)
	if err != nil {
		return nil, err
	}
	a := &webAddress{u, net.JoinHostPort(strings.ToLower(u.Hostname()), portOf(u))}
	x.read.put(uri, a, addressFresh)
	return a, nil
}

// Check reads the URL, judges the addresses it has now, and looks for the secret.
func (x *httpTransport) Check(ctx context.Context, t Target) error {
	a, err := x.address(t.URI)
	if err != nil {
		return err
	}
	if err := checkMethod(t.Method); err != nil {
		return err
	}
	if err := x.guard.checkTarget(ctx, a.url.Hostname()); err != nil {
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
	if a, err := x.address(t.URI); err == nil {
		return a.address
	}
	u, err := url.Parse(t.URI)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), portOf(u))
}

// Close closes connections that are idle, and stops following the secrets.
func (x *httpTransport) Close() error {
	x.plain.close()
	x.client.CloseIdleConnections()
	return x.signers.close()
}

// Deliver makes one request; another one where a connection that was kept turns out to be broken before anything is answered, as receivers close
// what was idle. What was checked when the timer was made is checked again: others may have stored it.
func (x *httpTransport) Deliver(ctx context.Context, d *Delivery) error {
	a, err := x.address(d.Target.URI)
	if err != nil {
		return hopelessTarget(err)
	}
	if a.url.Scheme == "http" && len(d.Payload) <= maxPlainBody {
		return x.deliverPlain(ctx, d, a)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := x.request(ctx, d, a)
	if err != nil {
		return err
	}
	var used usedConn
	once(req)
	res, err := x.client.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, used.trace())))
	if err != nil && used.stale() && ctx.Err() == nil {
		if req, err = x.request(ctx, d, a); err != nil {
			return err
		}
		once(req)
		res, err = x.fresh.RoundTrip(req.WithContext(ctx))
	}
	if err != nil {
		return httpFailure(ctx, err)
	}
	discard(res.Body, cancel)
	return answered(res)
}

func (x *httpTransport) deliverPlain(ctx context.Context, d *Delivery, a *webAddress) error {
	req, err := x.request(ctx, d, a)
	if err != nil {
		return err
	}
	res, stale, err := x.plain.roundTrip(ctx, req, a.address, false)
	if stale && ctx.Err() == nil {
		if req, err = x.request(ctx, d, a); err != nil {
			return err
		}
		res, _, err = x.plain.roundTrip(ctx, req, a.address, true)
	}
	if err != nil {
		return httpFailure(ctx, err)
	}
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

// request is one without a context, so that all of it is what goes over the wire.
func (x *httpTransport) request(ctx context.Context, d *Delivery, a *webAddress) (*http.Request, error) {
	if err := errors.Join(checkMethod(d.Target.Method), checkHeader(d.Header)); err != nil {
		return nil, hopelessTarget(err)
	}
	req := &http.Request{
		Method: cmp.Or(d.Target.Method, http.MethodPost), URL: a.url, Host: strings.TrimSuffix(a.url.Host, ":"),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header, len(d.Header)+10),
	}
	if len(d.Payload) > 0 {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(d.Payload)), int64(len(d.Payload))
	}
	d.httpHeader(req.Header)
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
