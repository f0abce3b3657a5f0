package scheduler

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// routeService is the service that runs routes, with an endpoint for each.
const routeService = "route"

// callTransport calls an endpoint of a service, any instance of it, or a route; what it answers without an error is success.
//
// The body is the payload in the codec that the content type names. A timer without payload and without content type sends {} as JSON, one that
// has only the content type of JSON or MessagePack sends an empty object in it.
type callTransport struct {
	conn  *bus.Conn
	route bool // URI is the name of a route
}

var (
	_ Transport      = (*callTransport)(nil)
	_ Destinationer  = (*callTransport)(nil)
	_ payloadChecker = (*callTransport)(nil)
)

// Check tells whether URI names an endpoint, or a route. Whether there is one shows when the timer is due.
func (x *callTransport) Check(_ context.Context, t Target) error {
	_, _, err := x.endpoint(t)
	return err
}

func (x *callTransport) endpoint(t Target) (service, endpoint string, err error) {
	if x.route {
		if bus.CheckToken("route", t.URI) != nil {
			return "", "", invalid(fieldURI, "is no name of a route: want 1 to %d characters of A-Z a-z 0-9 _ -", bus.MaxToken)
		}
		return routeService, t.URI, nil
	}
	service, endpoint, ok := strings.Cut(t.URI, ".")
	if !ok || bus.CheckToken("service", service) != nil || bus.CheckToken("endpoint", endpoint) != nil {
		return "", "", invalid(fieldURI, "is not service.endpoint: want each of 1 to %d characters of A-Z a-z 0-9 _ -", bus.MaxToken)
	}
	return service, endpoint, nil
}

// checkPayload tells whether a service can read what it is sent.
func (x *callTransport) checkPayload(_ []byte, contentType string) error {
	if _, err := x.conn.CodecFor(contentType); err != nil {
		return invalid(fieldContentType, "%.80q is none that services take: want application/json, application/msgpack or application/octet-stream", contentType)
	}
	return nil
}

// Destination is the service, or the route.
func (x *callTransport) Destination(t Target) string {
	if x.route {
		return t.URI
	}
	service, _, _ := strings.Cut(t.URI, ".")
	return service
}

// Deliver makes one request.
func (x *callTransport) Deliver(ctx context.Context, d *Delivery) error {
	service, endpoint, err := x.endpoint(d.Target)
	if err == nil {
		err = x.checkPayload(d.Payload, d.ContentType)
	}
	if err != nil {
		return hopelessTarget(err)
	}
	msg := &nats.Msg{Subject: x.conn.Namespace().ServiceSubject(service, endpoint), Header: d.header(), Data: d.Payload}
	contentType := d.contentType()
	if len(msg.Data) == 0 {
		contentType, msg.Data = emptyBody(contentType)
	}
	return request(ctx, x.conn, d, contentType, msg)
}

// emptyBody is what stands for no payload.
func emptyBody(contentType string) (string, []byte) {
	media, _, _ := strings.Cut(contentType, ";")
	switch strings.ToLower(strings.TrimSpace(media)) {
	case "":
		return bus.JSON{}.ContentType(), []byte("{}")
	case bus.JSON{}.ContentType():
		return contentType, []byte("{}")
	case bus.MessagePack{}.ContentType():
		return contentType, []byte{0x80}
	}
	return contentType, nil
}

// request sends msg, with the envelope of d added to its header, and takes the reply for what came of d.
func request(ctx context.Context, conn *bus.Conn, d *Delivery, contentType string, msg *nats.Msg) error {
	if err := checkHeader(d.Header); err != nil {
		return hopelessTarget(err)
	}
	e := bus.Envelope{ContentType: contentType, RequestID: d.ID, Attempt: d.Attempt}
	if deadline, ok := ctx.Deadline(); ok {
		e.Timeout = max(time.Until(deadline), 0)
	}
	maps.Copy(msg.Header, e.Header())
	reply, err := conn.Request(ctx, msg)
	if err == nil {
		return nil
	}
	code := bus.CodeOf(err)
	failure := &DeliveryError{Err: err}
	if reply == nil { // nobody answered
		failure.Permanent = code == bus.InvalidArgument || errors.Is(err, nats.ErrMaxPayload)
		failure.Unharmed = failure.Permanent || code == bus.PermissionDenied || code == bus.Canceled
		return failure
	}
	failure.Permanent = refusesRequest(code) || bus.AsError(err).Status == http.StatusGone
	failure.Unharmed = failure.Permanent || !faulty(code)
	failure.RetryAfter = retryAfter(first(reply.Header, "Retry-After"), "")
	return failure
}

// refusesRequest tells whether a service said that the request itself is bad, so that another attempt would end the same way.
func refusesRequest(code bus.Code) bool {
	switch code {
	case bus.InvalidArgument, bus.FailedPrecondition, bus.OutOfRange, bus.NotFound, bus.AlreadyExists, bus.PermissionDenied:
		return true
	default:
		return false
	}
}

// faulty tells whether an answer says that the service is not well.
func faulty(code bus.Code) bool {
	switch code {
	case bus.Unavailable, bus.ResourceExhausted, bus.DeadlineExceeded, bus.Internal, bus.Unknown, bus.DataLoss:
		return true
	default:
		return false
	}
}
