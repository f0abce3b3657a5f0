package micro

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/micro/balance"
	"github.com/skybus-io/skybus/micro/registry"
)

const (
	firstRetry = 5 * time.Millisecond
	lastRetry  = 250 * time.Millisecond

	// How long before the deadline the last attempt begins: a tenth of the time left after the first, within these bounds.
	minLastChance = 20 * time.Millisecond
	maxLastChance = 200 * time.Millisecond
)

// perform makes the attempts of a call. It may change r.
func (c *Client) perform(ctx context.Context, r *Request) (Reply, error) {
	if err := checkRequest(r); err != nil {
		return Reply{}, err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.settings.total(r, c.cfg.Timeout))
		defer cancel()
	}
	if r.Trace != nil {
		outer := ctx
		ctx = withHops(ctx)
		defer func() { r.trace(outer, hopsOf(ctx)) }()
	}
	a := &attempts{client: c, req: r, env: c.envelope(ctx, r), peer: c.peer(r.Service), n: max(0, r.Attempt-1)}
	a.inherited = Info(ctx).RequestID != ""
	a.attemptTimeout = c.settings.retry(r, c.cfg.AttemptTimeout)
	a.patience = time.Now().Add(orDefault(r.Patience, c.cfg.Patience))
	if r.send && r.Hedge == 0 {
		r.Hedge = a.attemptTimeout
	}
	a.peer.budget.Request()
	if r.Hedge > 0 && !r.Once {
		return a.hedged(ctx)
	}
	return a.inTurn(ctx)
}

func (c *Client) envelope(ctx context.Context, r *Request) bus.Envelope {
	info := Info(ctx)
	env := bus.Envelope{
		ContentType: r.ContentType,
		RequestID:   info.RequestID,
		From:        c.from,
		Origin:      info.Origin,
		Traceparent: info.Traceparent,
		Trace:       wantsHops(ctx),
	}
	if env.RequestID == "" {
		env.RequestID = nuid.Next()
	}
	if info.Service != "" { // called by a handler: that instance is the caller
		env.From = bus.Address{Namespace: c.conn.Namespace(), Service: info.Service, Instance: info.Instance}.String()
	}
	return env
}

// attempts are the attempts of one call. One goroutine plans them and learns from them; [attempt.run] may be in others.
type attempts struct {
	client *Client
	req    *Request
	env    bus.Envelope
	peer   *peer
	n      int
	one    attempt // the first one: most calls have no other

	inherited      bool // the request id is of the request that this call is made for
	attemptTimeout time.Duration
	patience       time.Time // until when to try where nobody is
	lastStart      time.Time // until when attempts begin; not known before there is a second

	foreign  *foreignEndpoint // where the service is none of ours
	found    bool             // that was found out just now
	unfit    error            // why it cannot be sent the request
	gone     []string         // instances that did not listen, or refused because they had too much to do
	tried    []string         // instances that were sent an attempt
	noCanary bool             // nobody listened for the version that the weights chose
	untold   bool             // nobody will tell how it ended: it is no probe of an instance that failed
}

// attempt is one of them. What is above the line is planned, what is below is known when it ran.
type attempt struct {
	n          int
	subject    string
	instance   string // empty where NATS chooses
	canary     bool   // to a version that weights chose
	foreign    *foreignEndpoint
	idempotent bool
	timeout    time.Duration // 0 means as long as the call
	prior      int           // bytes at the end of the message
	msg        *nats.Msg
	observe    func(took time.Duration, err error) // nil when nobody does

	reply Reply
	err   error
}

// inTurn makes one attempt after the other.
func (a *attempts) inTurn(ctx context.Context) (Reply, error) {
	retry := firstRetry
	for {
		_ = a.client.conn.WaitConnected(ctx) // an attempt's time counts from here; a failure Request meets too
		t := a.plan()
		a.run(ctx, t)
		a.learn(t)
		if t.err == nil || !a.again(ctx, t) {
			return t.reply, a.explain(t.err)
		}
		if errors.Is(t.err, bus.ErrNoResponders) && (a.found || a.elsewhere(t)) {
			a.found = false
			continue // the next one is known
		}
		if wait := a.pause(ctx, retry); wait <= 0 || !backoff.Sleep(ctx, wait) || late(ctx) {
			return t.reply, a.explain(t.err)
		}
		retry = min(2*retry, lastRetry)
	}
}

// pause is how long to wait before the next attempt, 0 or less when there is no time for one: an attempt that the deadline
// cuts short would hide what is known of those before.
func (a *attempts) pause(ctx context.Context, retry time.Duration) time.Duration {
	if a.lastStart.IsZero() {
		deadline, _ := ctx.Deadline()
		a.lastStart = deadline.Add(-min(max(time.Until(deadline)/10, minLastChance), maxLastChance))
	}
	return min(rand.N(retry)+retry/2, time.Until(a.lastStart))
}

// late tells whether who slept before an attempt woke too late for it.
func late(ctx context.Context) bool {
	deadline, _ := ctx.Deadline()
	return time.Until(deadline) < minLastChance/2
}

// prepare makes the message of a planned attempt.
func (a *attempts) prepare(t *attempt, endpoint registry.Endpoint) {
	t.idempotent = a.req.Idempotent || endpoint.Idempotent
	if t.idempotent && a.req.Hedge == 0 && !a.req.Once {
		t.timeout = a.attemptTimeout
	}
	body := a.req.Body
	if endpoint.Amends && len(a.req.Prior) > 0 {
		body = append(append(make([]byte, 0, len(body)+len(a.req.Prior)), body...), a.req.Prior...)
		t.prior = len(a.req.Prior)
	}
	t.msg = &nats.Msg{Subject: t.subject, Data: body}
}

// run sends the attempt and waits for its answer.
func (a *attempts) run(ctx context.Context, t *attempt) {
	if t.err != nil {
		return // nobody to send it to
	}
	if t.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.timeout)
		defer cancel()
	}
	env := a.env
	env.Attempt, env.Prior = t.n, t.prior
	if deadline, ok := ctx.Deadline(); ok { // the attempt's: nobody hears an answer after it
		env.Timeout = time.Until(deadline)
	}
	if a.inherited {
		env.Call = nuid.Next()
	}
	t.msg.Header = env.Header()
	maps.Copy(t.msg.Header, a.req.Header)
	begun := ctx.Err() == nil
	var start time.Time
	if t.observe != nil {
		start = time.Now()
	}
	answer, err := a.client.exchange(ctx, t.msg, t.foreign != nil)
	t.err = err
	t.reply.Attempts = t.n
	if answer != nil {
		t.reply.ContentType = first(answer.Header, bus.HeaderContentType)
		t.reply.Body = answer.Data
		t.reply.From = first(answer.Header, bus.HeaderFrom)
		t.reply.Header = userHeader(answer.Header)
		if env.Trace {
			readHops(ctx, answer)
		}
	}
	fault := a.fault(err, answer != nil)
	if t.observe != nil {
		t.observe(time.Since(start), orFault(fault, err))
	}
	if fault != nil || answer != nil && a.peer.suspects() {
		a.client.report(a.peer, a.req.Service, a.instance(t), fault)
	}
	if begun && answer == nil && errors.Is(ctx.Err(), context.Canceled) && t.foreign == nil {
		a.client.cancelRemote(a.req, env, a.client.conn.NATS().NewRespInbox())
	}
}

// fault is err if it says something against the instance: see [OutlierConfig].
func (a *attempts) fault(err error, answered bool) error {
	if err == nil {
		return nil
	}
	switch bus.CodeOf(err) {
	case bus.DeadlineExceeded:
		if answered || a.client.conn.NATS().IsConnected() {
			return err
		}
	case bus.Unavailable, bus.Internal:
		if answered {
			return err
		}
	default:
	}
	return nil
}

// orFault is what an observer is told: also that nobody listens is no good sign.
func orFault(fault, err error) error {
	if errors.Is(err, bus.ErrNoResponders) {
		return err
	}
	return fault
}

// instance is who the attempt went to, or who says that it answered; empty when nobody knows.
func (a *attempts) instance(t *attempt) string {
	if t.instance != "" {
		return t.instance
	}
	from, err := bus.ParseAddress(t.reply.From)
	if err != nil || from.Service != a.req.Service || from.Namespace != a.client.conn.Namespace() {
		return ""
	}
	return from.Instance
}

// learn takes from an attempt what the next ones have to know.
func (a *attempts) learn(t *attempt) {
	if t.err == nil {
		return
	}
	nobody := errors.Is(t.err, bus.ErrNoResponders)
	if t.canary && nobody {
		a.noCanary = true
	}
	if a.foreign != nil && nobody {
		a.client.foreign.forget(a.req.Service)
		a.foreign = nil
	}
	instance := a.instance(t)
	if instance == "" {
		return
	}
	if nobody || refused(t.err) {
		a.gone = append(a.gone, instance)
		return
	}
	if !slices.Contains(a.tried, instance) {
		a.tried = append(a.tried, instance)
	}
}

// refused tells whether err says that an instance had too much to do, so that nothing was done.
func refused(err error) bool {
	return bus.CodeOf(err) == bus.Unavailable && bus.AsError(err).Details["reason"] == ReasonOverloaded
}

// again tells whether another attempt may be made after t.
func (a *attempts) again(ctx context.Context, t *attempt) bool {
	nobody := errors.Is(t.err, bus.ErrNoResponders)
	if ctx.Err() != nil || a.req.Once && (!nobody || t.foreign != nil) {
		return false
	}
	if nobody && a.findForeign(ctx) {
		return true
	}
	switch {
	case a.req.Once:
		return a.elsewhere(t) // it has reached nobody: the one it was addressed to died a moment ago
	case nobody:
		return a.elsewhere(t) || time.Now().Before(a.patience) && !a.unimplemented()
	case refused(t.err):
		return time.Now().Before(a.patience) && a.req.Instance == "" && a.others() && a.peer.budget.Retry()
	case bus.CodeOf(t.err) == bus.DeadlineExceeded:
		return t.idempotent && a.peer.budget.Retry()
	}
	return false
}

// elsewhere tells whether the attempt was addressed to one of several, and another is left.
func (a *attempts) elsewhere(t *attempt) bool {
	return t.instance != "" && a.req.Instance == "" && a.others()
}

// unimplemented tells whether the service is there and does not have the endpoint.
func (a *attempts) unimplemented() bool {
	s := a.client.registry.Service(a.req.Service)
	if s == nil {
		return a.client.foreign.lacks(a.req.Service, a.req.Endpoint)
	}
	if len(s.Online) == 0 {
		return false
	}
	_, ok := s.Endpoint(a.req.Endpoint)
	return !ok
}

// explain turns "nobody listens" into what that means here.
func (a *attempts) explain(err error) error {
	if err == nil || !errors.Is(err, bus.ErrNoResponders) {
		return err
	}
	r := a.req
	target := r.Service + "." + r.Endpoint
	s := a.client.registry.Service(r.Service)
	if a.unimplemented() {
		return bus.Wrap(bus.Unimplemented, fmt.Sprintf("service %q has no endpoint %q", r.Service, r.Endpoint), err).
			With("service", r.Service).With("endpoint", r.Endpoint)
	}
	if r.Instance != "" {
		target += " on instance " + r.Instance
	} else if r.Version != "" {
		target += " in version " + r.Version
	}
	if r.Region != "" {
		target += fmt.Sprintf(" in region %q", r.Region)
	}
	why := "no instance of it is known"
	if s != nil && len(s.Online)+len(s.Rest) > 0 {
		why = fmt.Sprintf("%d known online, %d offline or unregistered, none listens", len(s.Online), len(s.Rest))
		if r.Region != "" {
			why += " there"
		}
	}
	return bus.Wrap(bus.Unavailable, fmt.Sprintf("nobody serves %s: %s", target, why), err).
		With("service", r.Service).With("endpoint", r.Endpoint)
}

// call is what a policy is told.
func (a *attempts) call() balance.Call {
	cfg := &a.client.cfg
	return balance.Call{Endpoint: a.req.Endpoint, Key: a.req.Key, Attempt: a.n, Region: cfg.Region, Host: cfg.Host}
}

// first is the first value of a header, empty when there is none.
func first(h nats.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// userHeader is [bus.UserHeader], at no cost for a reply that has none.
func userHeader(h nats.Header) nats.Header {
	for name := range h {
		switch name {
		case bus.HeaderContentType, bus.HeaderFrom, bus.HeaderHops, bus.HeaderErrorCode, bus.HeaderServiceError, bus.HeaderServiceErrorCode:
		default:
			return bus.UserHeader(h)
		}
	}
	return nil
}
