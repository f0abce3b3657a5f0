package scheduler

import (
	"context"
	"errors"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// Headers of [SubjectTransport], beside those of all deliveries.
const (
	HeaderURI    = "Skybus-Timer-Uri"
	HeaderMethod = "Skybus-Timer-Method"
)

// subjectTransport hands deliveries to a program on the bus.
type subjectTransport struct {
	conn    *bus.Conn
	subject string
}

var (
	_ Transport     = (*subjectTransport)(nil)
	_ Destinationer = (*subjectTransport)(nil)
)

// SubjectTransport makes any program on the bus a transport: each delivery is a request to subject, with the target in the headers
// [HeaderURI] and [HeaderMethod], and its reply is the result. A reply with the error headers of ADR-32 or of skybus is a failure, as
// it would be of a service, and with a header Retry-After (seconds) it says when to try again; any other one is success. The subject
// is the operator's choice; those of NATS and of skybus's streams are refused.
func SubjectTransport(conn *bus.Conn, subject string) (Transport, error) {
	if !bus.IsSubject(subject) || strings.HasPrefix(subject, "skybus.") || conn.IsInbox(subject) {
		return nil, bus.Errorf(bus.InvalidArgument, "scheduler: transport to subject %.80q: it is no subject, or NATS's or skybus's own", subject)
	}
	return &subjectTransport{conn, subject}, nil
}

// Check takes any target: what it means, the program knows.
func (x *subjectTransport) Check(context.Context, Target) error { return nil }

// Destination is the same for all targets.
func (x *subjectTransport) Destination(Target) string { return x.subject }

// Deliver makes one request.
func (x *subjectTransport) Deliver(ctx context.Context, d *Delivery) error {
	if err := errors.Join(checkHeaderValue(fieldURI, d.Target.URI), checkHeaderValue(fieldMethod, d.Target.Method)); err != nil {
		return hopelessTarget(err)
	}
	msg := &nats.Msg{Subject: x.subject, Header: d.header(), Data: d.Payload}
	msg.Header[HeaderURI] = []string{d.Target.URI}
	if d.Target.Method != "" {
		msg.Header[HeaderMethod] = []string{d.Target.Method}
	}
	return request(ctx, x.conn, d, d.contentType(), msg)
}
