package initiators

import (
	"context"
	"encoding/json"
	"errors"
	"maps"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/jscode"
)

// publishTarget publishes on a subject.
type publishTarget struct {
	conn    *bus.Conn
	subject template
	stored  bool
}

// Send publishes, and answers where: {"subject":"..."}, of what a stream has stored also stream, sequence and duplicate.
func (t publishTarget) Send(ctx context.Context, req Request) (Reply, error) {
	values := bodyValues(req.ID, req.ContentType, req.Body, req.lookup)
	subject, ok, err := t.subject.text(values, bus.CheckToken)
	if err != nil {
		return Reply{}, err
	}
	if !ok || !bus.IsSubject(subject) {
		return Reply{}, bus.Errorf(bus.InvalidArgument, "%.80q, made of %.80q, is no subject", subject, t.subject.source)
	}
	if err := t.conn.CheckFree(subject); err != nil {
		return Reply{}, err
	}
	msg, err := message(subject, req)
	if err != nil {
		return Reply{}, err
	}
	answer := published{Subject: subject}
	err = t.conn.Permitted(ctx, bus.Access{Publish: []string{subject}}, func(ctx context.Context) error {
		if !t.stored {
			if err := t.conn.Publish(msg); err != nil {
				return err
			}
			return t.conn.Flush(ctx)
		}
		ack, err := t.conn.JetStream().PublishMsg(ctx, msg)
		if err == nil {
			answer.Stream, answer.Sequence, answer.Duplicate = ack.Stream, ack.Sequence, ack.Duplicate
		}
		return err
	})
	if err != nil {
		return Reply{}, publishError(subject, err)
	}
	return jsonReply(answer)
}

type published struct {
	Subject   string `json:"subject"`
	Stream    string `json:"stream,omitempty"`
	Sequence  uint64 `json:"sequence,omitempty"`
	Duplicate bool   `json:"duplicate,omitempty"`
}

// message has no reply subject: nobody could be made to answer elsewhere.
func message(subject string, req Request) (*nats.Msg, error) {
	if err := bus.CheckHeader(req.Header); err != nil {
		return nil, err
	}
	msg := &nats.Msg{Subject: subject, Header: nats.Header{}, Data: req.Body}
	maps.Copy(msg.Header, req.header())
	contentType := req.ContentType
	if contentType == "" {
		contentType = typeJSON
	}
	msg.Header.Set(bus.HeaderContentType, contentType)
	if req.ID != "" {
		msg.Header.Set(bus.HeaderRequestID, req.ID)
	}
	if req.Key != "" {
		msg.Header.Set(nats.MsgIdHdr, req.Key)
	}
	return msg, nil
}

// publishError gives what NATS says a code.
func publishError(subject string, err error) error {
	if _, ok := errors.AsType[*bus.Error](err); ok {
		return err
	}
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return bus.Wrap(bus.ResourceExhausted, "the message is larger than NATS takes", err)
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return bus.Wrap(bus.FailedPrecondition, "no stream takes the subject "+subject+": make one, or use publish", err)
	case jscode.Full(err), jscode.Of(err) == jscode.MessageTooLarge:
		return bus.Wrap(bus.ResourceExhausted, "the stream takes no more: "+err.Error(), err)
	}
	code := bus.CodeOf(err)
	if code == bus.Unknown {
		code = bus.Unavailable
	}
	return bus.Wrap(code, "publish "+subject+": "+err.Error(), err)
}

func jsonReply(v any) (Reply, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return Reply{}, bus.Errorf(bus.Internal, "encode the answer: %w", err)
	}
	return Reply{ContentType: typeJSON, Body: body}, nil
}

// replyError says that what came back, and not what was sent, does not fit.
func replyError(err error) error {
	return bus.Wrap(bus.Internal, "the answer cannot be made of the reply: "+bus.AsError(err).Message, err)
}
