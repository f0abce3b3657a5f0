package initiators

import (
	"context"
	"maps"

	"github.com/nats-io/nats.go"
)

// Mapped is a target that sends to t what request makes of what it is sent, and answers what reply makes of the reply. Nil leaves it as it
// is; where both are nil, it is t.
func Mapped(t Target, request, reply *Mapping) (Target, error) {
	m := mappedTarget{target: t}
	var err error
	if request != nil {
		if m.request, err = request.compile(); err != nil {
			return nil, within("request", err)
		}
	}
	if reply != nil {
		if m.reply, err = reply.compile(); err != nil {
			return nil, within("reply", err)
		}
	}
	if request == nil && reply == nil {
		return t, nil
	}
	return m, nil
}

// mappedTarget makes the request before another target has it, and the answer after.
type mappedTarget struct {
	target         Target
	request, reply *mapping // nil leaves it as it is
}

// Send sends what the mapping makes of req.
func (t mappedTarget) Send(ctx context.Context, req Request) (Reply, error) {
	out := req
	if t.request != nil {
		values := bodyValues(req.ID, req.ContentType, req.Body, req.lookup)
		contentType, body, header, err := t.request.apply(req.ContentType, req.Body, values, req.Members)
		if err != nil {
			return Reply{}, err
		}
		out.ContentType, out.Body, out.Header = contentType, body, merged(req.Header, header)
	}
	rep, err := t.target.Send(ctx, out)
	if err != nil || t.reply == nil {
		return rep, err
	}
	contentType, body, header, err := t.reply.apply(rep.ContentType, rep.Body, bodyValues(req.ID, rep.ContentType, rep.Body, req.lookup), nil)
	if err != nil {
		return Reply{Hops: rep.Hops}, replyError(err)
	}
	rep.ContentType, rep.Body, rep.Header = contentType, body, merged(rep.Header, header)
	return rep, nil
}

func (r Request) lookup(name string) (any, bool) {
	if r.Values == nil {
		return nil, false
	}
	return r.Values(name)
}

func merged(a, b nats.Header) nats.Header {
	if len(b) == 0 {
		return a
	}
	h := nats.Header{}
	maps.Copy(h, a)
	maps.Copy(h, b)
	return h
}
