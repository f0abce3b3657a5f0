package micro

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/micro/registry"
)

const (
	firstRetry = 5 * time.Millisecond
	lastRetry  = 250 * time.Millisecond
	lastChance = 20 * time.Millisecond // the least an attempt is given to be answered
)

// Do makes the call and returns the answer undecoded. Errors are those of [Call]; where the service answered with an
// error the Reply still says who did.
func (c *Client) Do(ctx context.Context, r Request) (Reply, error) {
	if err := r.check(); err != nil {
		return Reply{}, err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.Timeout)
		defer cancel()
	}
	a := &attempts{client: c, req: r, env: c.envelope(ctx, r), n: max(0, r.Attempt-1)}
	patience := time.Now().Add(orDefault(r.Patience, c.cfg.Patience))
	deadline, _ := ctx.Deadline()
	retry := firstRetry
	for {
		reply, err := a.send(ctx)
		if err == nil || !a.again(ctx, err, patience) {
			reply.Attempts = a.n
			return reply, c.explain(r, err)
		}
		// An attempt that the deadline cuts short would hide what is known of the one before.
		wait := min(rand.N(retry)+retry/2, time.Until(deadline)-lastChance)
		if wait <= 0 || !backoff.Sleep(ctx, wait) {
			reply.Attempts = a.n
			return reply, c.explain(r, err)
		}
		retry = min(2*retry, lastRetry)
	}
}

func (r Request) check() error {
	if err := bus.CheckToken("service", r.Service); err != nil {
		return err
	}
	if err := bus.CheckToken("endpoint", r.Endpoint); err != nil {
		return err
	}
	if r.Version != "" {
		if err := bus.CheckVersion(r.Version); err != nil {
			return err
		}
	}
	if r.Instance != "" {
		return bus.CheckToken("instance", r.Instance)
	}
	return nil
}

func (c *Client) envelope(ctx context.Context, r Request) bus.Envelope {
	info := Info(ctx)
	env := bus.Envelope{
		ContentType: r.ContentType,
		RequestID:   info.RequestID,
		From:        c.from,
		Origin:      info.Origin,
		Traceparent: info.Traceparent,
	}
	if env.RequestID == "" {
		env.RequestID = nuid.Next()
	}
	if info.Service != "" { // called by a handler: that instance is the caller
		env.From = bus.Address{Namespace: c.conn.Namespace(), Service: info.Service, Instance: info.Instance}.String()
	}
	return env
}

// attempts are the attempts of one call.
type attempts struct {
	client *Client
	req    Request
	env    bus.Envelope
	n      int
	gone   map[string]bool // instances that did not listen, or refused because they had too much to do
	full   bool            // one of them refused
}

func (a *attempts) avoid(instance string) {
	if a.gone == nil {
		a.gone = map[string]bool{}
	}
	a.gone[instance] = true
}

// send makes one attempt.
func (a *attempts) send(ctx context.Context) (Reply, error) {
	a.n++
	_ = a.client.conn.WaitConnected(ctx) // an attempt's time counts from here; a failure Request meets too
	subject, instance, endpoint := a.choose()
	if a.req.Idempotent || endpoint.Idempotent {
		a.req.Idempotent = true
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.client.cfg.AttemptTimeout)
		defer cancel()
	}
	if deadline, ok := ctx.Deadline(); ok { // the attempt's: nobody hears an answer after it
		a.env.Timeout = time.Until(deadline)
	}
	a.env.Attempt = a.n
	body := a.req.Body
	a.env.Prior = 0
	if endpoint.Amends && len(a.req.Prior) > 0 {
		body = append(append(make([]byte, 0, len(body)+len(a.req.Prior)), body...), a.req.Prior...)
		a.env.Prior = len(a.req.Prior)
	}
	msg := &nats.Msg{Subject: subject, Header: a.env.Header(), Data: body}
	answer, err := a.client.conn.Request(ctx, msg)
	if errors.Is(err, bus.ErrNoResponders) && instance != "" {
		a.avoid(instance)
	}
	if answer == nil {
		return Reply{}, err
	}
	reply := Reply{
		ContentType: answer.Header.Get(bus.HeaderContentType),
		Body:        answer.Data,
		From:        answer.Header.Get(bus.HeaderFrom),
	}
	if from, aerr := bus.ParseAddress(reply.From); aerr == nil && refused(err) {
		a.full = true
		a.avoid(from.Instance)
	}
	return reply, err
}

// refused tells whether err says that an instance had too much to do, so that nothing was done.
func refused(err error) bool {
	return bus.CodeOf(err) == bus.Unavailable && bus.AsError(err).Details["reason"] == ReasonOverloaded
}

// choose picks where the next attempt goes, and tells what is known of the endpoint there. NATS chooses among the members
// of the queue group, which costs nothing and knows at once of a closed connection. It does not know of frozen processes,
// nor who refused a moment ago: then one of the others is addressed by name.
func (a *attempts) choose() (subject, instance string, ep registry.Endpoint) {
	ns, r := a.client.conn.Namespace(), a.req
	service := a.client.registry.Service(r.Service)
	if r.Instance != "" {
		if i := service.Instance(r.Instance); i != nil {
			ep, _ = i.Endpoint(r.Endpoint)
		}
		return ns.InstanceSubject(r.Service, r.Instance, r.Endpoint), r.Instance, ep
	}
	if a.full || service.Offline() {
		if i := a.pick(service); i != nil {
			ep, _ = i.Endpoint(r.Endpoint)
			return ns.InstanceSubject(r.Service, i.Instance, r.Endpoint), i.Instance, ep
		}
	}
	ep, _ = service.Endpoint(r.Endpoint)
	if r.Version != "" {
		return ns.VersionSubject(r.Service, r.Version, r.Endpoint), "", ep
	}
	return ns.ServiceSubject(r.Service, r.Endpoint), "", ep
}

// pick is a random instance that may answer, nil when there is none.
func (a *attempts) pick(service *registry.Service) *registry.Instance {
	if service == nil {
		return nil
	}
	var fit []*registry.Instance
	for _, i := range service.Online {
		if a.gone[i.Instance] || a.req.Version != "" && i.Version != a.req.Version {
			continue
		}
		if _, ok := i.Endpoint(a.req.Endpoint); ok {
			fit = append(fit, i)
		}
	}
	if len(fit) == 0 {
		return nil
	}
	return fit[rand.IntN(len(fit))]
}

// again tells whether another attempt may be made after err.
func (a *attempts) again(ctx context.Context, err error, patience time.Time) bool {
	if ctx.Err() != nil {
		return false
	}
	switch {
	case errors.Is(err, bus.ErrNoResponders):
		return time.Now().Before(patience) && !a.client.unimplemented(a.req)
	case refused(err):
		return time.Now().Before(patience) && a.req.Instance == "" && a.pick(a.client.registry.Service(a.req.Service)) != nil
	case bus.CodeOf(err) == bus.DeadlineExceeded:
		return a.req.Idempotent
	}
	return false
}

// unimplemented tells whether the service is there and does not have the endpoint.
func (c *Client) unimplemented(r Request) bool {
	s := c.registry.Service(r.Service)
	if s == nil || len(s.Online) == 0 {
		return false
	}
	for _, i := range s.Online {
		if _, ok := i.Endpoint(r.Endpoint); ok {
			return false
		}
	}
	return true
}

// explain turns "nobody listens" into what that means here.
func (c *Client) explain(r Request, err error) error {
	if !errors.Is(err, bus.ErrNoResponders) {
		return err
	}
	target := r.Service + "." + r.Endpoint
	s := c.registry.Service(r.Service)
	switch {
	case c.unimplemented(r):
		return bus.Wrap(bus.Unimplemented, fmt.Sprintf("service %q has no endpoint %q", r.Service, r.Endpoint), err).
			With("service", r.Service).With("endpoint", r.Endpoint)
	case r.Instance != "":
		target += " on instance " + r.Instance
	case r.Version != "":
		target += " in version " + r.Version
	}
	why := "no instance of it is known"
	if s != nil && len(s.Online)+len(s.Rest) > 0 {
		why = fmt.Sprintf("%d known online, %d offline or unregistered, none listens", len(s.Online), len(s.Rest))
	}
	return bus.Wrap(bus.Unavailable, fmt.Sprintf("nobody serves %s: %s", target, why), err).
		With("service", r.Service).With("endpoint", r.Endpoint)
}
