package micro

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// subscription has a channel that is closed when it is drained and its last message was handed over.
type subscription struct {
	*nats.Subscription

	closed chan struct{}
}

// place is a subject where something listens, in a queue group or in none.
type place struct {
	subject, queue string
	handle         nats.MsgHandler
}

// settling is a number of subscriptions that the server may refuse, until they are confirmed.
type settling struct {
	denied  chan *bus.Error
	watches []func()
}

func newSettling() *settling { return &settling{denied: make(chan *bus.Error, 1)} }

// subscribe listens at all of places, or at none and says why.
func (s *Service) subscribe(to *settling, places []place) ([]*subscription, error) {
	subs := make([]*subscription, 0, len(places))
	for _, p := range places {
		to.watches = append(to.watches, s.conn.NotifyDenied(to.denied, bus.Access{Subscribe: []string{p.subject}}))
		sub, err := s.conn.NATS().QueueSubscribe(p.subject, p.queue, p.handle)
		if err != nil {
			unsubscribe(subs)
			return nil, fmt.Errorf("micro: subscribe %s: %w", p.subject, err)
		}
		closed := make(chan struct{})
		sub.SetClosedHandler(func(string) { close(closed) })
		subs = append(subs, &subscription{sub, closed})
	}
	return subs, nil
}

// listen subscribes to what an endpoint takes by the instance's own name and as a broadcast, and to the queue groups where
// it is registered.
func (s *Service) listen(to *settling, ep *endpoint, registered bool) (err error) {
	if ep.named, err = s.subscribe(to, s.namedPlaces(ep)); err != nil || !registered {
		return err
	}
	if err = s.join(to, ep); err != nil {
		unsubscribe(ep.named)
		ep.named = nil
	}
	return err
}

// join enters the queue groups of an endpoint.
func (s *Service) join(to *settling, ep *endpoint) (err error) {
	ep.queues, err = s.subscribe(to, s.queuePlaces(ep))
	return err
}

func (s *Service) namedPlaces(ep *endpoint) []place {
	ns := s.conn.Namespace()
	both := func(m *nats.Msg) { s.dispatch(ep, m, takesBoth) }
	return []place{
		{ns.InstanceSubject(s.cfg.Name, s.cfg.Instance, ep.name), "", both},
		{ns.AllSubject(s.cfg.Name, ep.name), "", both},
	}
}

func (s *Service) queuePlaces(ep *endpoint) []place {
	ns := s.conn.Namespace()
	request := func(m *nats.Msg) { s.dispatch(ep, m, takesRequests) }
	places := []place{
		{ns.VersionSubject(s.cfg.Name, s.cfg.Version, ep.name), bus.QueueVersion, request},
		{ns.ServiceSubject(s.cfg.Name, ep.name), bus.QueueService, request},
	}
	if ep.oneWay {
		oneWay := func(m *nats.Msg) { s.dispatch(ep, m, takesOneWay) }
		places = append(places, place{ns.OneWaySubject(s.cfg.Name, ep.name), bus.QueueOneWay, oneWay})
	}
	return places
}

// confirm returns when the server has the subscriptions. One that it refuses is permission_denied. A server that is away gets
// them when it is back.
func (s *Service) confirm(ctx context.Context, to *settling) error {
	defer to.end()
	flush, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if err := s.conn.Flush(flush); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "the server has not confirmed the subscriptions yet", "error", err)
	}
	select {
	case err := <-to.denied:
		return fmt.Errorf("micro: service %q: %w", s.cfg.Name, err)
	default:
		return nil
	}
}

func (to *settling) end() {
	for _, stop := range to.watches {
		stop()
	}
	to.watches = nil
}

func unsubscribe(subs []*subscription) {
	for _, sub := range subs {
		_ = sub.Unsubscribe() // fails when the connection is closed
	}
}

// drain ends subs and returns when the last message of each was handed over, at the latest at the deadline: the server
// sends no more, and what it sent is handed over first.
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
