package http

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

const (
	topicTimeout = 5 * time.Second // to subscribe
	topicPending = 16 << 20        // bytes that may wait in a subscription before they are framed
)

// topicKey tells who shares a subscription.
type topicKey struct {
	stream, subject string
	naming          string // frames hold names
}

// topic is one subscription of the bus.
type topic struct {
	hub    *eventHub
	key    topicKey
	opened chan struct{} // closed when it is known whether there is one
	err    error         // why there is none
	gone   chan struct{} // closed when the last has left
	refs   int           // guarded by the hub's mutex

	// Of a subject: what is known of losses. Only who opens the topic, and then who watches, looks at them.
	sub      *nats.Subscription
	connects uint64
	dropped  int

	// Of a stream.
	turn     chan struct{}  // of capacity 1: held by who begins to follow one
	stopping sync.WaitGroup // of what followed one that is no more

	mu          sync.Mutex
	stop        func()
	subscribers map[*subscriber]struct{}
	last        uint64    // sequence of the last event of a stream
	created     time.Time // of the stream that is followed
	epoch       int       // counts the streams of that name; a sequence is one of an epoch
}

func newTopic(h *eventHub, key topicKey) *topic {
	return &topic{
		hub: h, key: key, opened: make(chan struct{}), gone: make(chan struct{}), turn: make(chan struct{}, 1), stop: func() {},
		subscribers: map[*subscriber]struct{}{},
	}
}

// leave ends the subscription after the last has left. A topic that could not be opened is forgotten at once.
func (t *topic) leave() {
	h := t.hub
	h.mu.Lock()
	t.refs--
	last := t.refs == 0
	var unwatch func()
	if last || t.failed() {
		unwatch = h.forgetLocked(t)
	}
	h.mu.Unlock()
	if unwatch != nil {
		unwatch()
	}
	if !last {
		return
	}
	<-t.opened // whoever opens it holds a reference
	close(t.gone)
	t.turn <- struct{}{} // who watches may be about to follow another stream; after this nobody does
	t.mu.Lock()
	stop := t.stop
	t.mu.Unlock()
	stop()
	t.stopping.Wait()
}

func (t *topic) isOpen() bool {
	select {
	case <-t.opened:
		return t.err == nil
	default:
		return false
	}
}

func (t *topic) failed() bool {
	select {
	case <-t.opened:
		return t.err != nil
	default:
		return false
	}
}

func (t *topic) open(ctx context.Context) error {
	if t.key.stream != "" {
		return t.openStream(ctx)
	}
	conn := t.hub.conn
	var sub *nats.Subscription
	err := conn.Permitted(ctx, bus.Access{Subscribe: []string{t.key.subject}}, func(ctx context.Context) (err error) {
		if sub, err = conn.NATS().Subscribe(t.key.subject, t.hear); err != nil {
			return err
		}
		if err := sub.SetPendingLimits(-1, topicPending); err != nil {
			return err
		}
		return conn.Flush(ctx) // a refusal is told first
	})
	if err != nil {
		if sub != nil {
			_ = sub.Unsubscribe() // fails only when the connection is closed
		}
		return openError(t.key, err)
	}
	t.sub, t.connects = sub, conn.NATS().Stats().Reconnects
	t.stop = func() { _ = sub.Unsubscribe() } // as above
	return nil
}

// tellLoss tells subscribers of a subject that they may have missed something, if it was this one.
func (t *topic) tellLoss() {
	if t.sub == nil {
		return
	}
	connects := t.hub.conn.NATS().Stats().Reconnects
	dropped, _ := t.sub.Dropped() // an error says that the connection is closed
	if connects == t.connects && dropped == t.dropped {
		return // somebody else's
	}
	t.connects, t.dropped = connects, dropped
	t.publish(resetEvent("", 0, 0))
}

// hear frames a message of a subject, once for all.
func (t *topic) hear(m *nats.Msg) {
	if checkHearable(t.hub.conn, m.Subject) != nil {
		return // a wide pattern that somebody allowed takes it in
	}
	t.publish(newEvent(eventID{}, eventName(t.key.naming, m.Subject, m.Header), eventData(m.Header.Get(bus.HeaderContentType), m.Data)))
}

// publish gives e to all subscribers.
func (t *topic) publish(e event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.publishLocked(e)
}

func (t *topic) publishLocked(e event) {
	if e.sequence > 0 {
		t.last = e.sequence
	}
	for s := range t.subscribers {
		if s.put(e) {
			delete(t.subscribers, s)
		}
	}
}

// heard is the sequence of the last event of a stream that was given out, if it is still the one of that place.
func (t *topic) heard(at place) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.epoch != at.epoch {
		return 0
	}
	return t.last
}

// attach makes s hear what comes after a place, and tells whether that is possible: it is not when more has come already, nor when the stream is
// another one by now, which is renewed.
func (t *topic) attach(s *subscriber, at place) (attached, renewed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.epoch != at.epoch || t.last > at.after {
		return false, t.epoch != at.epoch
	}
	s.begin(at.after)
	t.subscribers[s] = struct{}{}
	return true, false
}

func (t *topic) detach(s *subscriber) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.subscribers, s)
}

// openError says what could not be subscribed to.
func openError(key topicKey, err error) error {
	code := bus.CodeOf(err)
	if code == bus.Unknown || code == bus.DeadlineExceeded {
		code = bus.Unavailable
	}
	return bus.Wrap(code, "events of "+key.subject+": "+bus.AsError(err).Message, err)
}
