package micro

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// subscriptions of a running service. Each has a channel that is closed when it is drained and its last message was
// handed over.
type subscriptions struct {
	nc     *nats.Conn
	queues []*subscription
	rest   []*subscription

	watches []func() // ends waiting for the server's refusal of each
}

type subscription struct {
	*nats.Subscription

	closed chan struct{}
}

// subscribe makes all subscriptions and returns when the server has them. One that it refuses is permission_denied.
func (s *Service) subscribe(ctx context.Context, h *handlers) (*subscriptions, error) {
	subs := &subscriptions{nc: s.conn.NATS()}
	defer subs.unwatch()
	ns, name, id := s.conn.Namespace(), s.cfg.Name, s.cfg.Instance
	denied := make(chan *bus.Error, 1)
	add := func(list *[]*subscription, subject, queue string, cb nats.MsgHandler) error {
		subs.watches = append(subs.watches, s.conn.NotifyDenied(denied, bus.Access{Subscribe: []string{subject}}))
		sub, err := s.conn.NATS().QueueSubscribe(subject, queue, cb)
		if err != nil {
			return fmt.Errorf("micro: subscribe %s: %w", subject, err)
		}
		closed := make(chan struct{})
		sub.SetClosedHandler(func(string) { close(closed) })
		*list = append(*list, &subscription{sub, closed})
		return nil
	}
	for _, ep := range s.sortedEndpoints() {
		request := func(m *nats.Msg) { s.dispatch(h, ep, m, takesRequests) }
		oneWay := func(m *nats.Msg) { s.dispatch(h, ep, m, takesOneWay) }
		both := func(m *nats.Msg) { s.dispatch(h, ep, m, takesBoth) }
		type spec struct {
			list           *[]*subscription
			subject, queue string
			cb             nats.MsgHandler
		}
		specs := []spec{
			{&subs.rest, ns.InstanceSubject(name, id, ep.name), "", both},
			{&subs.rest, ns.AllSubject(name, ep.name), "", both},
			{&subs.queues, ns.VersionSubject(name, s.cfg.Version, ep.name), bus.QueueVersion, request},
			{&subs.queues, ns.ServiceSubject(name, ep.name), bus.QueueService, request},
		}
		if ep.oneWay {
			specs = append(specs, spec{&subs.queues, ns.OneWaySubject(name, ep.name), bus.QueueOneWay, oneWay})
		}
		for _, sp := range specs {
			if err := add(sp.list, sp.subject, sp.queue, sp.cb); err != nil {
				subs.unsubscribe()
				return nil, err
			}
		}
	}
	for subject, cb := range s.controlSubjects() {
		if err := add(&subs.rest, subject, "", cb); err != nil {
			subs.unsubscribe()
			return nil, err
		}
	}
	flush, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if err := s.conn.Flush(flush); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "the server has not confirmed the subscriptions yet", "error", err)
	}
	select {
	case err := <-denied:
		subs.unsubscribe()
		return nil, fmt.Errorf("micro: service %q: %w", name, err)
	default:
		return subs, nil
	}
}

func (s *subscriptions) unwatch() {
	for _, stop := range s.watches {
		stop()
	}
}

func (s *subscriptions) unsubscribe() {
	for _, sub := range append(s.queues, s.rest...) {
		_ = sub.Unsubscribe() // fails when the connection is closed
	}
}

// drainQueues leaves the queue groups: the server sends no more, and what it sent is handed over first.
func (s *subscriptions) drainQueues(deadline time.Time) { drain(s.nc, s.queues, deadline) }

func (s *subscriptions) drainRest(deadline time.Time) { drain(s.nc, s.rest, deadline) }

// drain ends subs and returns when the last message of each was handed over, at the latest at the deadline.
func drain(nc *nats.Conn, subs []*subscription, deadline time.Time) {
	for _, sub := range subs {
		_ = sub.Drain() // fails when the connection is closed, and the subscription with it
		if !nc.IsConnected() {
			// Nothing more comes, and the reconnect would subscribe again what is still draining without ever telling
			// the server of its end: requests would vanish there.
			_ = sub.Unsubscribe() // as above
		}
	}
	late := time.NewTimer(time.Until(deadline))
	defer late.Stop()
	for _, sub := range subs {
		select {
		case <-sub.closed:
		case <-late.C:
			return
		}
	}
}
