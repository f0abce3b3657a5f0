package stream

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// leastRate is how many bytes a second have to come of what is fetched.
const leastRate = 128 << 10

// offer is data for whoever opens a stream on its subject.
type offer struct {
	data    []byte
	base    func() context.Context
	fetched chan struct{} // holds one value after it was sent to somebody, or nobody wants it
}

// Offer makes a subject of which data can be had by [Mux.Fetch], as often as somebody asks before withdraw is called. fetched
// is sent a value, once, when data is on its way to the first of them, when [Mux.Decline] told that nobody will ask, or when a
// message with subject as its reply has reached nobody. What is on its way when ctx ends is not sent to its
// end. Until both, data must not change. Who is told the subject must be told over the Mux's own connection.
func (m *Mux) Offer(ctx context.Context, data []byte) (subject string, fetched <-chan struct{}, withdraw func(), err error) {
	o := &offer{data: data, base: func() context.Context { return ctx }, fetched: make(chan struct{}, 1)}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.readyLocked(); err != nil {
		return "", nil, nil, err
	}
	token := rand.Text()
	m.offers[token] = o
	return m.prefix + token, o.fetched, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.offers, token)
	}, nil
}

// serveLocked sends what is offered to who asks for it by msg.
func (m *Mux) serveLocked(o *offer, msg *nats.Msg) {
	if m.closed {
		return
	}
	if msg.Reply == "" { // who was told is gone, or declines
		signal(o.fetched)
		return
	}
	m.running.Go(func() {
		ctx, s, err := m.Accept(o.base(), msg, nil)
		if err != nil {
			if m.conn.CheckRequest(msg) == "" {
				m.tell(msg.Reply, err)
			}
			return
		}
		if err := s.Send(ctx, o.data); err != nil {
			s.Cancel(err)
			return
		}
		_ = s.Finish(nil, nil) // who gets it knows by then that this was all
		signal(o.fetched)
	})
}

// Decline tells who offers something on subject, of which [Mux.Fetch] got nothing, that it need not be kept.
func (m *Mux) Decline(subject string) {
	if m.conn.IsInbox(subject) {
		_ = m.conn.NATS().Publish(subject, nil) // unheard it is kept until its deadline
	}
}

// FetchTime is how long a [Mux.Fetch] of so many bytes may take: DeadAfter, and a second for each 128 KiB.
func (m *Mux) FetchTime(size int) time.Duration {
	return m.cfg.DeadAfter + time.Duration(size/leastRate)*time.Second
}

// Fetch gets what is offered on subject, which came from outside and must be an inbox, and must have the size that was told.
// The memory is taken at once. Who offers has it all and can send it at once: what has not come after [Mux.FetchTime] is
// deadline_exceeded, however long ctx has, so that nobody keeps memory and a handler's place taken by sending nothing.
func (m *Mux) Fetch(ctx context.Context, subject string, size int) ([]byte, error) {
	if size < 0 || !m.conn.IsInbox(subject) {
		return nil, bus.Errorf(bus.InvalidArgument, "stream: fetch %d bytes of %.80q: want a size and an inbox", size, subject)
	}
	limit := m.FetchTime(size)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, bus.Errorf(bus.DeadlineExceeded, "stream: %d bytes did not come within %v", size, limit))
	defer cancel()
	s, err := m.Open(ctx, &nats.Msg{Subject: subject})
	if err != nil {
		return nil, err
	}
	data := make([]byte, 0, size)
	for {
		piece, last, err := s.RecvPart(ctx)
		if err == nil && len(data)+len(piece) > size {
			err = tooLarge("stream: more came than the %d bytes that were told", size)
		}
		if err == nil && last && len(data)+len(piece) < size {
			err = bus.Errorf(bus.DataLoss, "stream: %d bytes came of %d", len(data)+len(piece), size)
		}
		if err != nil {
			s.Cancel(err)
			return nil, err
		}
		data = append(data, piece...)
		if last {
			return data, s.Finish(nil, nil)
		}
	}
}

func tooLarge(format string, args ...any) *bus.Error {
	err := bus.Errorf(bus.ResourceExhausted, format, args...)
	err.Status = http.StatusRequestEntityTooLarge
	return err
}
