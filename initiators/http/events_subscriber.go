package http

import (
	"context"
	"sync"
)

// subscriber is what waits for one client. The zero value with its channels is ready.
type subscriber struct {
	limit int           // events that may wait
	ready chan struct{} // holds one value after there was something to take
	room  chan struct{} // the same after something was taken

	mu    sync.Mutex
	queue []event
	bytes int
	after uint64 // events of a stream up to here are known
	slow  bool   // more came than may wait: nothing more is kept
	over  bool   // nothing more comes
}

func newSubscriber(limit int) *subscriber {
	return &subscriber{limit: limit, ready: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// begin says that the client knows the events of a stream up to the sequence after, and no others.
func (s *subscriber) begin(after uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = after
}

// put keeps e for the client. A client that has too much waiting is slow, and gets no more.
func (s *subscriber) put(e event) (slow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slow || s.over || e.sequence > 0 && e.sequence <= s.after {
		return s.slow
	}
	if s.fullLocked() {
		s.slow, s.queue, s.bytes = true, nil, 0
	} else {
		s.appendLocked(e)
	}
	signal(s.ready)
	return s.slow
}

// offer keeps e once there is room, and tells whether ctx ended before.
func (s *subscriber) offer(ctx context.Context, e event) error {
	for {
		s.mu.Lock()
		full := s.fullLocked()
		if !full {
			s.appendLocked(e)
		}
		s.mu.Unlock()
		if !full {
			signal(s.ready)
			return nil
		}
		select {
		case <-s.room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *subscriber) fullLocked() bool {
	return len(s.queue) >= s.limit || s.bytes >= eventBytes
}

func (s *subscriber) appendLocked(e event) {
	s.queue = append(s.queue, e)
	s.bytes += len(e.frame)
}

// end says that nothing comes after what waits.
func (s *subscriber) end() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	signal(s.ready)
}

// take returns what waits, and how the subscriber stands.
func (s *subscriber) take() (events []event, slow, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events = s.queue
	s.queue, s.bytes = nil, 0 // nobody waits with an empty queue's memory
	signal(s.room)
	return events, s.slow, s.over
}

// fellBehind tells whether more came than may wait.
func (s *subscriber) fellBehind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slow
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
