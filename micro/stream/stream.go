// Package stream carries streams of messages over core NATS, in both directions, between who opens one and the one instance
// that accepts it.
//
// # Delivery and order
//
// Messages arrive in the order they were sent, each at most once. Frames are numbered: a lost one ends the stream at both ends
// with the code data_loss, so that what was read is always all that was sent up to there. Nothing is sent again.
//
// # Flow
//
// Each side tells how much it takes that is not read yet, in frames and in bytes, and more as it is read. Who sends waits for
// that in Send, so a slow reader holds no more than its window. A peer that sends more is cut off with resource_exhausted.
//
// # Failure
//
// A peer whose connection is gone is noticed at once by what is sent to it, a frozen or unreachable one because it answers no
// ping: within [Config].DeadAfter. When this side's own connection was lost and made again its streams have ended. All of
// that has the code unavailable.
//
// # On the wire
//
// Each side receives all its streams on one inbox, a token for each stream, so the permission to subscribe to one's own inboxes
// and to publish to those of others is all it needs. A frame is a message whose header Skybus-Stream holds its kind and number;
// its reply subject is where the sender receives, and the server answers there when the peer is gone.
package stream

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// Stream is one end of a stream. One goroutine may send while another receives; further callers of either wait their turn.
type Stream struct {
	mux     *Mux
	opener  bool
	token   string
	subject string // where it receives
	made    uint64 // reconnects before it was made

	opened   chan struct{} // closed when the other side has accepted
	over     chan struct{} // closed when nothing more is sent and only what came already is read
	headed   chan struct{} // closed when it is known whether the other side has sent headers
	readable chan struct{} // holds one value after something to read came
	writable chan struct{} // the same for credit
	sending  chan struct{} // held by who sends
	reading  chan struct{} // held by who reads

	assembled []byte // the pieces of a message that are read already; of who holds reading

	writing sync.Mutex // held while a frame is numbered and published, so that they go out in order
	sent    uint64     // the last number

	mu           sync.Mutex
	peer         string // where the other side receives
	release      func() // lets go of the ctx
	err          error  // why it is over; io.EOF when all went well
	received     uint64 // the last number
	queue        []part
	ended        bool // the other side sends nothing more
	closed       bool // this side sends nothing more
	head         nats.Header
	headSent     bool
	accepted     nats.Header
	peerHead     nats.Header
	peerTrailer  nats.Header
	waiting      uint64 // bytes in queue
	allowed      uint64 // frames the other side takes in all
	allowedBytes uint64
	used         uint64
	usedBytes    uint64
	read         uint64 // frames read in all
	readBytes    uint64
	granted      uint64 // read when it was told last
	grantedBytes uint64
	heard        time.Time
	asked        time.Time
}

type part struct {
	data []byte
	last bool
}

func newStream(m *Mux, opener bool) *Stream {
	return &Stream{
		mux:      m,
		opener:   opener,
		made:     m.conn.NATS().Stats().Reconnects,
		opened:   make(chan struct{}),
		over:     make(chan struct{}),
		headed:   make(chan struct{}),
		readable: make(chan struct{}, 1),
		writable: make(chan struct{}, 1),
		sending:  make(chan struct{}, 1),
		reading:  make(chan struct{}, 1),
		heard:    time.Now(),
	}
}

// follow ends the stream when ctx does.
func (s *Stream) follow(ctx context.Context) {
	s.followWith(ctx, func() {})
}

func (s *Stream) followWith(ctx context.Context, release func()) {
	stop := context.AfterFunc(ctx, func() {
		defer s.mux.running.Done()
		s.Cancel(contextError(ctx))
	})
	var once sync.Once
	s.mu.Lock()
	s.release = func() {
		once.Do(func() {
			if stop() {
				s.mux.running.Done()
			}
			release()
		})
	}
	over := s.err != nil
	s.mu.Unlock()
	if over {
		s.release()
	}
}

// derive makes the ctx of an accepted stream.
func (s *Stream) derive(ctx context.Context, timeout time.Duration) context.Context {
	var release context.CancelFunc
	if timeout > 0 {
		ctx, release = context.WithTimeout(ctx, timeout)
	} else {
		ctx, release = context.WithCancel(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s.followWith(ctx, func() {
		if err := s.failure(); !errors.Is(err, io.EOF) {
			cancel(err)
		}
		release()
	})
	return ctx
}

// contextError is what the other side is told when ctx has ended.
func contextError(ctx context.Context) error {
	err := context.Cause(ctx)
	if _, ok := errors.AsType[*bus.Error](err); ok {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return bus.Wrap(bus.DeadlineExceeded, "stream: its time is over", err)
	}
	return bus.Wrap(bus.Canceled, "stream: canceled", err)
}

// Accepted are all headers of the answer that accepted the stream, for who opened it.
func (s *Stream) Accepted() nats.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// Header waits for the other side's headers, and is nil where it sent none before its first message or its end.
func (s *Stream) Header(ctx context.Context) (nats.Header, error) {
	select {
	case <-s.headed:
	case <-s.over:
	case <-ctx.Done():
		return nil, contextError(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peerHead, nil
}

// Trailer are the headers that came with the end of what the other side sent, nil before that and where there were none.
func (s *Stream) Trailer() nats.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peerTrailer
}

// turn waits until nobody else does the same.
func (s *Stream) turn(ctx context.Context, held chan struct{}) error {
	select {
	case held <- struct{}{}:
		return nil
	default:
	}
	select {
	case held <- struct{}{}:
		return nil
	case <-ctx.Done():
		return contextError(ctx)
	}
}

// end makes the stream over on this side, unless it is. Of what came and is not read keep decides. tell, if not nil, tells the
// other side: before the stream is forgotten here, since from then on its frames are answered by a plain refusal.
func (s *Stream) end(err error, keep bool, tell func()) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = err
	if !keep {
		s.queue = nil
	}
	release := s.release
	s.mu.Unlock()
	if tell != nil {
		tell()
	}
	close(s.over)
	s.mux.remove(s)
	if release != nil {
		release()
	}
}

// failure is why the stream is over, nil before it is.
func (s *Stream) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
