package bus

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/nats-io/nats.go"
)

// maxSubject is how long subject and reply may be together, in bytes. NATS closes the connection for good when they and
// the sizes beside them exceed 4,096 (max_control_line); the rest is for the reply inbox that a request gets.
const maxSubject = 3584

// Request sends msg and waits for its reply until ctx ends. While the connection is down it waits for it.
//
// The error is always an [Error]: unavailable with [ErrNoResponders] in its chain when nobody listens, unavailable too when
// the deadline passed before there was a connection, invalid_argument for a subject that NATS does not take,
// resource_exhausted (413) with [nats.ErrMaxPayload] in its chain when msg is larger than the server takes, permission_denied
// when the server refuses the subject to this user, deadline_exceeded or canceled when ctx ended first, and what the other side
// said when the reply is an error. After deadline_exceeded the request may have been handled.
func (c *Conn) Request(ctx context.Context, msg *nats.Msg) (*nats.Msg, error) {
	if err := c.checkSize(msg); err != nil {
		return nil, err
	}
	if err := c.WaitConnected(ctx); err != nil {
		code := Unavailable // and not deadline_exceeded: nothing was sent
		if errors.Is(ctx.Err(), context.Canceled) {
			code = Canceled
		}
		return nil, Wrap(code, "request "+msg.Subject+": not connected to NATS", err)
	}
	reply, err := c.roundTrip(ctx, msg)
	if err != nil {
		return nil, requestError(msg, err)
	}
	if err := c.ReplyError(reply); err != nil {
		return reply, err
	}
	return reply, nil
}

// roundTrip sends msg and waits for its reply. The refusal of a subject ends it at once, but for one that this connection was
// allowed before: rights that change without a new login are met by the next request.
func (c *Conn) roundTrip(ctx context.Context, msg *nats.Msg) (reply *nats.Msg, err error) {
	proven := c.denials.proven.Load() // what is answered on this connection proves nothing for the next
	if proven.has(msg.Subject) {
		return c.nc.RequestMsgWithContext(ctx, msg)
	}
	err = c.Permitted(ctx, Access{Publish: []string{msg.Subject}}, func(ctx context.Context) (err error) {
		reply, err = c.nc.RequestMsgWithContext(ctx, msg)
		return err
	})
	if err == nil || errors.Is(err, nats.ErrNoResponders) {
		proven.add(msg.Subject)
	}
	return reply, err
}

// Publish sends msg to whoever listens and waits for nobody. Too large a message is resource_exhausted (413), a subject
// that NATS does not take invalid_argument. Whether the server takes it from this user nobody says: a refusal is logged and
// counted ([Conn.AsyncErrors]).
func (c *Conn) Publish(msg *nats.Msg) error {
	if err := c.checkSize(msg); err != nil {
		return err
	}
	if err := c.nc.PublishMsg(msg); err != nil {
		return requestError(msg, err)
	}
	return nil
}

// checkSize refuses at once what is too large whatever its headers are. With the headers nats.go refuses it.
func (c *Conn) checkSize(msg *nats.Msg) error {
	if n := len(msg.Subject) + len(msg.Reply); n > maxSubject {
		return Errorf(InvalidArgument, "subject %.40q... has %d bytes with its reply: want at most %d", msg.Subject, n, maxSubject)
	}
	limit := c.nc.MaxPayload()
	if size := int64(len(msg.Data)); limit > 0 && size > limit {
		e := Wrap(ResourceExhausted, fmt.Sprintf("message of %d bytes to %s: the server takes at most %d (max_payload)", size, msg.Subject, limit), nats.ErrMaxPayload)
		e.Status = http.StatusRequestEntityTooLarge
		return e
	}
	return nil
}

func requestError(msg *nats.Msg, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return Wrap(Unavailable, "nobody listens on "+msg.Subject, errors.Join(ErrNoResponders, err))
	case errors.Is(err, nats.ErrMaxPayload):
		e := Wrap(ResourceExhausted, "message to "+msg.Subject+" is larger than the server takes (max_payload)", err)
		e.Status = http.StatusRequestEntityTooLarge
		return e
	case errors.Is(err, nats.ErrBadSubject), errors.Is(err, nats.ErrInvalidMsg):
		return Wrap(InvalidArgument, "message to "+msg.Subject+": "+err.Error(), err)
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining):
		return Wrap(Unavailable, "message to "+msg.Subject+": the connection is closed", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return Wrap(DeadlineExceeded, "no answer from "+msg.Subject+" in time", err)
	case errors.Is(err, context.Canceled):
		return Wrap(Canceled, "request "+msg.Subject+" was canceled", err)
	}
	return Wrap(Unavailable, "message to "+msg.Subject+": "+err.Error(), err)
}

// Drop is why a received message is dropped unanswered. The empty Drop means it is not.
type Drop string

// The reasons to drop a message. Each is a message that somebody made another party deliver, or could have: answering it
// would lend that somebody our permissions.
const (
	DropJetStream    Drop = "jetstream"     // a stream's consumer or the JetStream API delivered it
	DropNoReply      Drop = "no_reply"      // a request nobody waits for
	DropForeignReply Drop = "foreign_reply" // a request whose reply would go to something else than an inbox
	DropNotOneWay    Drop = "not_one_way"   // no one-way envelope, or an endpoint that takes none
)

// CheckRequest tells whether msg is a request of a caller that waits in an inbox, and why not.
func (c *Conn) CheckRequest(msg *nats.Msg) Drop {
	switch {
	case deliveredByStream(msg):
		return DropJetStream
	case msg.Reply == "":
		return DropNoReply
	case !c.IsInbox(msg.Reply):
		return DropForeignReply
	}
	return ""
}

// CheckOneWay tells whether msg is a one-way message that its sender meant as one, and why not.
func (c *Conn) CheckOneWay(msg *nats.Msg) Drop {
	switch {
	case deliveredByStream(msg):
		return DropJetStream
	case msg.Reply != "" && !c.IsInbox(msg.Reply):
		return DropForeignReply
	case first(msg.Header, HeaderOneWay) == "" || first(msg.Header, HeaderContentType) == "":
		return DropNotOneWay
	}
	return ""
}

// IsInbox tells whether subject is one where callers wait for replies.
func (c *Conn) IsInbox(subject string) bool {
	for _, prefix := range c.inbox {
		if strings.HasPrefix(subject, prefix) && len(subject) > len(prefix) {
			return true
		}
	}
	return false
}

func deliveredByStream(msg *nats.Msg) bool {
	return len(msg.Header["Nats-Stream"]) > 0 || len(msg.Header["Nats-Sequence"]) > 0 || strings.HasPrefix(msg.Reply, "$JS.ACK.")
}
