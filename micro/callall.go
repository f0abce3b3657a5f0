package micro

import (
	"context"
	"errors"
	"iter"
	"maps"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/registry"
)

// DefaultQuiet is how long [CallAll] waits for one more answer.
const DefaultQuiet = 250 * time.Millisecond

// Bounds of the answers to one [CallAll] that wait for who reads them.
const (
	mostGathered      = 4096
	mostGatheredBytes = 64 << 20
)

// Gathered is one of the answers to a [CallAll].
type Gathered[Resp any] struct {
	Resp Resp
	// From is the address of the instance that answered; empty when it did not tell.
	From string
	// Header is what its handler added.
	Header nats.Header
}

// Quiet ends a [CallAll] when no answer came for that long after the last one. The first answer is waited for as long as
// the call may take. 0 means 250 ms. It means nothing to other calls.
func Quiet(d time.Duration) CallOption {
	return callOption(func(r *Request) { r.quiet = d })
}

// AtMost ends a [CallAll] after n answers, errors among them. 0 means any number. It means nothing to other calls.
func AtMost(n int) CallOption {
	return callOption(func(r *Request) { r.atMost = n })
}

// CallAll calls target, "service.endpoint", on all instances, registered or not, and yields their answers as they come. What
// an instance answers with an error, or in a way that does not decode, is yielded as an error beside who it is from; the
// others go on. An error without a From is of the call itself and the last: those of [Call], unavailable when nobody
// is there among them, and resource_exhausted when answers came faster than they were read and more than 4,096 of them, or
// 64 MiB, waited.
//
// It ends when all instances that the registry knew at the beginning have answered, or as [Quiet] and [AtMost] say, or when
// ctx ends (the client's Timeout where it has no deadline); then nothing tells who did not answer. Each instance is
// asked once: nothing is tried again, and what is lost is lost. The ctx of handlers that have not answered when it ends is
// ended too. Ranging again asks again.
func CallAll[Resp any](ctx context.Context, c *Client, target string, req any, opts ...CallOption) iter.Seq2[Gathered[Resp], error] {
	return func(yield func(Gathered[Resp], error) bool) {
		r, err := c.oneWay(target, req, opts)
		if err == nil {
			err = r.toAll()
		}
		if err != nil {
			yield(Gathered[Resp]{}, err)
			return
		}
		err = c.gather(ctx, r, func(reply Reply, err error) bool {
			g := Gathered[Resp]{From: reply.From, Header: reply.Header}
			if err == nil {
				err = c.Decode(reply, &g.Resp)
			}
			return yield(g, err)
		})
		if err != nil {
			yield(Gathered[Resp]{}, err)
		}
	}
}

// gathering is one request to all instances.
type gathering struct {
	client  *Client
	request *Request
	sub     *nats.Subscription
	missing map[string]bool // addresses of those that are known and have not answered
	seen    map[string]bool // of those that have
}

// gather asks all instances and calls each with what they answer, until it returns false.
func (c *Client) gather(ctx context.Context, r *Request, each func(Reply, error) bool) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.settings.total(r, c.cfg.Timeout))
		defer cancel()
	}
	if err := c.conn.WaitConnected(ctx); err != nil {
		return bus.Wrap(bus.Unavailable, "call all: not connected to NATS", err)
	}
	g := &gathering{client: c, request: r, missing: map[string]bool{}, seen: map[string]bool{}}
	g.expect(c.registry.Service(r.Service))
	nc := c.conn.NATS()
	inbox := nc.NewInbox() // of this request alone: by it the handlers know who cancels
	var err error
	if g.sub, err = nc.SubscribeSync(inbox + ".0"); err != nil {
		return bus.Wrap(bus.Unavailable, "call all: the connection is closed", err)
	}
	defer func() { _ = g.sub.Unsubscribe() }()                  // fails on a closed connection, which has none
	_ = g.sub.SetPendingLimits(mostGathered, mostGatheredBytes) // fails as Unsubscribe does
	env := c.envelope(ctx, r)
	deadline, _ := ctx.Deadline()
	env.Timeout = time.Until(deadline)
	msg := &nats.Msg{Subject: c.conn.Namespace().AllSubject(r.Service, r.Endpoint), Reply: g.sub.Subject, Header: env.Header(), Data: r.Body}
	maps.Copy(msg.Header, r.Header)
	return c.conn.Permitted(ctx, bus.Access{Publish: []string{msg.Subject}}, func(ctx context.Context) error {
		err := c.conn.Publish(msg)
		if errors.Is(err, nats.ErrMaxPayload) {
			asked, withdraw, oerr := c.offered(ctx, msg)
			if oerr != nil {
				return oerr
			}
			defer withdraw()
			err = c.conn.Publish(asked)
		}
		if err != nil {
			return err
		}
		err = g.run(ctx, each)
		if g.abandons(ctx, err) {
			c.cancelRemote(r, env, inbox+".1")
		}
		return err
	})
}

// abandons tells whether somebody may work for an answer that nobody waits for, and does not know it by the deadline.
func (g *gathering) abandons(ctx context.Context, err error) bool {
	known := len(g.missing)+len(g.seen) > 0
	return (!known || len(g.missing) > 0) && !errors.Is(err, bus.ErrNoResponders) && !errors.Is(ctx.Err(), context.DeadlineExceeded)
}

// expect notes who should answer.
func (g *gathering) expect(s *registry.Service) {
	if s == nil {
		return
	}
	for _, list := range [...][]*registry.Instance{s.Online, s.Rest} {
		for _, i := range list {
			if _, ok := i.Endpoint(g.request.Endpoint); ok && i.State != registry.Offline {
				from := bus.Address{Namespace: g.client.conn.Namespace(), Service: i.Service, Instance: i.Instance}
				g.missing[from.String()] = true
			}
		}
	}
}

func (g *gathering) run(ctx context.Context, each func(Reply, error) bool) error {
	quiet := orDefault(g.request.quiet, DefaultQuiet)
	expected := len(g.missing)
	for n := 0; g.request.atMost == 0 || n < g.request.atMost; {
		if expected > 0 && len(g.missing) == 0 {
			return nil
		}
		reply, ok, err := g.next(ctx, n > 0, quiet)
		if !ok {
			return err
		}
		if reply.From != "" {
			if g.seen[reply.From] {
				continue // it was answered before
			}
			g.seen[reply.From] = true
			delete(g.missing, reply.From)
		}
		n++
		if !each(reply, err) {
			return nil
		}
	}
	return nil
}

// next is the next answer, or not ok and why there is none: an error, or nil when that is the end.
func (g *gathering) next(ctx context.Context, heard bool, quiet time.Duration) (reply Reply, ok bool, err error) {
	wait := ctx
	if heard {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, quiet)
		defer cancel()
	}
	msg, err := g.sub.NextMsgWithContext(wait)
	switch {
	case err == nil:
	case errors.Is(err, nats.ErrNoResponders):
		a := &attempts{client: g.client, req: g.request}
		return Reply{}, false, a.explain(bus.Wrap(bus.Unavailable, "nobody listens", bus.ErrNoResponders))
	case errors.Is(err, nats.ErrSlowConsumer):
		return Reply{}, false, bus.Errorf(bus.ResourceExhausted, "answers of %s.%s came faster than they were read, and some are lost", g.request.Service, g.request.Endpoint)
	case heard && ctx.Err() == nil && wait.Err() != nil:
		return Reply{}, false, nil
	case heard && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Reply{}, false, nil
	case ctx.Err() != nil:
		return Reply{}, false, bus.Wrap(bus.CodeOf(ctx.Err()), "no answer of "+g.request.Service+"."+g.request.Endpoint, ctx.Err())
	default:
		return Reply{}, false, bus.Wrap(bus.Unavailable, "answers of "+g.request.Service+"."+g.request.Endpoint, err)
	}
	msg, err = g.client.collect(ctx, msg, g.client.conn.ReplyError(msg))
	reply = Reply{
		ContentType: first(msg.Header, bus.HeaderContentType),
		Body:        msg.Data,
		Header:      userHeader(msg.Header),
		From:        first(msg.Header, bus.HeaderFrom),
		Attempts:    1,
	}
	return reply, true, err
}
