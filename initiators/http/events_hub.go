package http

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

const (
	topicTimeout = 5 * time.Second // to subscribe
	topicPending = 16 << 20        // bytes that may wait in a subscription before they are framed
)

// eventHub is the subscribers of a gateway. All who ask for the same events share one subscription of the bus.
type eventHub struct {
	client   *micro.Client
	conn     *bus.Conn
	log      *slog.Logger
	limit    int           // subscribers
	catchUps chan struct{} // places of those who read what they missed
	closing  chan struct{} // closed when the subscribers are to go

	stats eventStats

	mu      sync.Mutex
	topics  map[topicKey]*topic
	entries map[string]int // subscribers by entry
	total   int
	closed  bool
}

// eventStats counts since the gateway was made.
type eventStats struct {
	events  atomic.Uint64 // that were sent to somebody
	slow    atomic.Uint64 // subscribers that were cut off because they fell behind
	refused atomic.Uint64 // because there were too many
	resumed atomic.Uint64 // that brought a Last-Event-ID
	resets  atomic.Uint64 // that were told that events are missing
}

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
	stop   func()
	refs   int // guarded by the hub's mutex

	mu          sync.Mutex
	subscribers map[*subscriber]struct{}
	last        uint64 // sequence of the last event of a stream
}

func newEventHub(client *micro.Client, limit int, log *slog.Logger) *eventHub {
	return &eventHub{
		client: client, conn: client.Conn(), log: log, limit: limit,
		catchUps: make(chan struct{}, maxCatchUps), closing: make(chan struct{}),
		topics: map[topicKey]*topic{}, entries: map[string]int{},
	}
}

// close tells all subscribers to go. Their answers end by themselves.
func (h *eventHub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.closed = true
		close(h.closing)
	}
}

// subscribers is how many there are.
func (h *eventHub) subscribers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total
}

// enter takes one of the places of an entry and of the gateway.
func (h *eventHub) enter(entry string, limit int) (leave func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return nil, bus.Errorf(bus.Unavailable, "this gateway is being stopped")
	case h.total >= h.limit:
		err = bus.Errorf(bus.Unavailable, "this gateway has %d subscribers already", h.total)
	case h.entries[entry] >= limit:
		err = bus.Errorf(bus.Unavailable, "%s has %d subscribers already (max_subscribers)", entry, limit)
	}
	if err != nil {
		h.stats.refused.Add(1)
		return nil, err
	}
	h.total++
	h.entries[entry]++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.total--
		if h.entries[entry]--; h.entries[entry] == 0 {
			delete(h.entries, entry)
		}
	}, nil
}

// join returns the topic of key, which is subscribed to when there was none. Who has joined leaves.
func (h *eventHub) join(ctx context.Context, key topicKey) (*topic, error) {
	h.mu.Lock()
	t, ok := h.topics[key]
	if !ok {
		t = &topic{hub: h, key: key, opened: make(chan struct{}), stop: func() {}, subscribers: map[*subscriber]struct{}{}}
		h.topics[key] = t
	}
	t.refs++
	h.mu.Unlock()
	if !ok {
		// Whoever came first may go while others wait for what he began.
		open, cancel := context.WithTimeout(context.WithoutCancel(ctx), topicTimeout)
		t.err = t.open(open)
		cancel()
		close(t.opened)
	}
	select {
	case <-t.opened:
	case <-ctx.Done():
		t.leave()
		return nil, context.Cause(ctx)
	}
	if t.err != nil {
		t.leave()
		return nil, t.err
	}
	return t, nil
}

// leave ends the subscription after the last has left. A topic that could not be opened is forgotten at once.
func (t *topic) leave() {
	h := t.hub
	h.mu.Lock()
	t.refs--
	last := t.refs == 0
	if last || t.failed() {
		if h.topics[t.key] == t {
			delete(h.topics, t.key)
		}
	}
	h.mu.Unlock()
	if !last {
		return
	}
	<-t.opened // whoever opens it holds a reference
	t.stop()
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
	loss := make(chan struct{}, 1)
	stopLoss := conn.NotifyLoss(loss)
	done := make(chan struct{})
	var watching sync.WaitGroup
	connects := conn.NATS().Stats().Reconnects
	watching.Go(func() { t.watchLoss(sub, connects, loss, done) })
	t.stop = func() {
		stopLoss()
		close(done)
		watching.Wait()
		_ = sub.Unsubscribe() // fails only when the connection is closed
	}
	return nil
}

// watchLoss tells subscribers when events may have been missed.
func (t *topic) watchLoss(sub *nats.Subscription, connects uint64, loss, done <-chan struct{}) {
	dropped := 0
	for {
		select {
		case <-done:
			return
		case <-loss:
		}
		nowConnects := t.hub.conn.NATS().Stats().Reconnects
		nowDropped, _ := sub.Dropped() // an error says that the connection is closed
		if nowConnects == connects && nowDropped == dropped {
			continue // somebody else's
		}
		connects, dropped = nowConnects, nowDropped
		t.publish(resetEvent(0, 0))
	}
}

// hear frames a message of a subject, once for all.
func (t *topic) hear(m *nats.Msg) {
	if checkHearable(t.hub.conn, m.Subject) != nil {
		return // a wide pattern that somebody allowed takes it in
	}
	t.publish(newEvent(0, eventName(t.key.naming, m.Subject, m.Header), eventData(m.Header.Get(bus.HeaderContentType), m.Data)))
}

// publish gives e to all subscribers.
func (t *topic) publish(e event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.sequence > 0 {
		t.last = e.sequence
	}
	for s := range t.subscribers {
		if s.put(e) {
			delete(t.subscribers, s)
		}
	}
}

// attach makes s hear what comes after the sequence after, and tells whether that is possible: it is not when more has come already.
func (t *topic) attach(s *subscriber, after uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last > after {
		return false
	}
	s.mu.Lock()
	s.after = after
	s.mu.Unlock()
	t.subscribers[s] = struct{}{}
	return true
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
