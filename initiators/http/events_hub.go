package http

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// lookEvery is how often it is looked whether a stream is still the same.
const lookEvery = 5 * time.Second

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
	unwatch func()         // ends the watch over the topics; nil while there are none
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
		t = newTopic(h, key)
		h.topics[key] = t
		if h.unwatch == nil {
			h.watchLocked()
		}
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

// forgetLocked takes a topic out of those there are. The watch that ends with the last of them is to be called without the lock.
func (h *eventHub) forgetLocked(t *topic) (unwatch func()) {
	if h.topics[t.key] != t {
		return nil
	}
	delete(h.topics, t.key)
	if len(h.topics) > 0 {
		return nil
	}
	unwatch, h.unwatch = h.unwatch, nil
	return unwatch
}

// watchLocked begins to watch over the topics: one goroutine and one place in the connection's list for all of them.
func (h *eventHub) watchLocked() {
	ctx, cancel := context.WithCancel(context.Background())
	loss := make(chan struct{}, 1)
	stop := h.conn.NotifyLoss(loss)
	var watching sync.WaitGroup
	watching.Go(func() { h.watch(ctx, loss) })
	h.unwatch = func() {
		stop()
		cancel()
		watching.Wait()
	}
}

// watch tells topics when they may have missed something: the connection was away, a subscription was too slow, or their stream is another
// one of the same name.
func (h *eventHub) watch(ctx context.Context, loss <-chan struct{}) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-loss:
			for _, t := range h.open() {
				t.tellLoss()
			}
		case <-look.C:
		}
		h.lookAtStreams(ctx)
	}
}

// open are the topics that are subscribed to.
func (h *eventHub) open() []*topic {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*topic, 0, len(h.topics))
	for _, t := range h.topics {
		if t.isOpen() {
			all = append(all, t)
		}
	}
	return all
}

// lookAtStreams has topics begin anew whose stream is another one by now. What the leader of a stream does not say now it says the next time.
func (h *eventHub) lookAtStreams(ctx context.Context) {
	streams := map[string][]*topic{}
	for _, t := range h.open() {
		if name := t.key.stream; name != "" {
			streams[name] = append(streams[name], t)
		}
	}
	for name, topics := range streams {
		ask, cancel := context.WithTimeout(ctx, streamAttempt)
		is, err := h.streamState(ask, name)
		cancel()
		if err != nil {
			continue
		}
		for _, t := range topics {
			if _, same := t.epochOf(is); same {
				continue
			}
			if err := t.keepUp(ctx); err != nil && ctx.Err() == nil {
				h.log.WarnContext(ctx, "a stream that was made anew cannot be followed yet", "stream", name, "error", err)
			}
		}
	}
}
