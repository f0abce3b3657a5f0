package scheduler

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/leanhttp"
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
	client  *http.Transport // for TLS; not http.Client: that follows redirects and tells URLs in its errors
	fresh   *http.Transport // keeps no connections
	read    *memo[*webAddress]
}

// webAddress is a URL that was checked, and where it leads.
type webAddress struct {
	plain   bool   // without TLS
	name    string // of the host
	address string // host and port
	host    string // as it is sent
	path    string // with the query
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
	a := &webAddress{
		plain: u.Scheme == "http", name: u.Hostname(), address: net.JoinHostPort(strings.ToLower(u.Hostname()), portOf(u)),
		host: strings.TrimSuffix(u.Host, ":"), path: strings.ReplaceAll(u.RequestURI(), " ", "%20"),
	}
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
	if err := x.guard.checkTarget(ctx, a.name); err != nil {
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
	if a.plain {
		return x.deliverPlain(ctx, d, a)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := x.request(ctx, d, a)
	if err != nil {
		return err
	}
	var used usedConn
	res, err := x.client.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, used.trace())))
	if err != nil && used.stale() && ctx.Err() == nil {
		if req, err = x.request(ctx, d, a); err != nil {
			return err
		}
		res, err = x.fresh.RoundTrip(req)
	}
	if err != nil {
		return httpFailure(ctx, err)
	}
	discard(res.Body, cancel)
	return answered(res.StatusCode, res.Header.Get)
}

func (x *httpTransport) deliverPlain(ctx context.Context, d *Delivery, a *webAddress) error {
	signature, err := x.signature(ctx, d)
	if err != nil {
		return err
	}
	status, header, err := x.plain.do(ctx, a.address, &leanhttp.Request{
		Method: method(d.Target), Target: a.path, Host: a.host, Header: d.plainHeader(signature), Body: d.Payload,
	})
	if err != nil {
		return httpFailure(ctx, err)
	}
	return answered(status, header.Get)
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

func (x *httpTransport) request(ctx context.Context, d *Delivery, a *webAddress) (*http.Request, error) {
	signature, err := x.signature(ctx, d)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method(d.Target), d.Target.URI, bytes.NewReader(d.Payload))
	if err != nil {
		return nil, hopelessTarget(invalid(fieldURI, "makes no request"))
	}
	req.Host = a.host
	d.httpHeader(req.Header)
	maps.Copy(req.Header, signature)
	once(req)
	return req, nil
}

// signature is the header that signs d, if that is to be. It looks first whether d may be sent.
func (x *httpTransport) signature(ctx context.Context, d *Delivery) (http.Header, error) {
	if err := errors.Join(checkMethod(d.Target.Method), checkHeader(d.Header)); err != nil {
		return nil, hopelessTarget(err)
	}
	if d.Target.Secret == "" {
		return nil, nil
	}
	signer, err := x.signers.signer(ctx, d.Target.Secret)
	if err != nil {
		return nil, &DeliveryError{Unharmed: true, Err: err}
	}
	signature := http.Header{}
	if err := signer.Sign(signature, d.ID, time.Now(), d.Payload); err != nil {
		return nil, &DeliveryError{Unharmed: true, Permanent: true, Err: bus.Wrap(bus.InvalidArgument, err.Error(), err)}
	}
	return signature, nil
}

func method(t Target) string { return cmp.Or(t.Method, http.MethodPost) }

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
