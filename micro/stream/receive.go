package stream

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

const statusNoResponders = "503"

// first is the first value of a header, "" when there is none.
func first(h nats.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Recv returns the next message, which is the caller's to keep and change. It waits until ctx ends; what comes later is not lost. io.EOF is the end of what the other
// side sends, any other error why the stream failed, told after the messages before it. A message above MaxMessage ends the
// stream with resource_exhausted (413).
func (s *Stream) Recv(ctx context.Context) ([]byte, error) {
	if err := s.turn(ctx, s.reading); err != nil {
		return nil, err
	}
	defer func() { <-s.reading }()
	for {
		data, last, err := s.wait(ctx)
		if err != nil {
			return nil, err
		}
		if last && s.assembled == nil {
			return data, nil
		}
		if len(s.assembled)+len(data) > s.mux.cfg.MaxMessage {
			err := tooLarge("stream: a message has more than %d bytes", s.mux.cfg.MaxMessage)
			s.Cancel(err)
			return nil, err
		}
		s.assembled = append(s.assembled, data...)
		if last {
			data, s.assembled = s.assembled, nil
			return data, nil
		}
	}
}

// RecvPart is Recv that leaves it to the caller to put large messages together: it returns a message, or the next piece of
// one, and whether that was the last.
func (s *Stream) RecvPart(ctx context.Context) (data []byte, last bool, err error) {
	if err := s.turn(ctx, s.reading); err != nil {
		return nil, false, err
	}
	defer func() { <-s.reading }()
	return s.wait(ctx)
}

// wait waits for the next frame.
func (s *Stream) wait(ctx context.Context) (data []byte, last bool, err error) {
	for {
		p, ok, err := s.next()
		if ok || err != nil {
			return p.data, p.last, err
		}
		select {
		case <-s.readable:
		case <-s.over:
		case <-ctx.Done():
			return nil, false, contextError(ctx)
		}
	}
}

// next takes a frame from the queue and gives the other side credit when half of the window is read.
func (s *Stream) next() (p part, ok bool, err error) {
	s.mu.Lock()
	if len(s.queue) == 0 {
		defer s.mu.Unlock()
		if s.ended && (s.err == nil || errors.Is(s.err, io.EOF)) {
			return part{}, false, io.EOF
		}
		return part{}, false, s.err
	}
	p = s.queue[0]
	s.queue[0] = part{}
	s.queue = s.queue[1:]
	s.read++
	s.readBytes += uint64(len(p.data))
	s.waiting -= uint64(len(p.data))
	cfg := &s.mux.cfg
	due := !s.ended && s.err == nil &&
		(s.read-s.granted >= uint64(cfg.Window+1)/2 || s.readBytes-s.grantedBytes >= uint64(cfg.WindowBytes+1)/2)
	var f frame
	if due {
		s.granted, s.grantedBytes = s.read, s.readBytes
		f = frame{kind: kindCredit, messages: s.read + uint64(cfg.Window), bytes: s.readBytes + uint64(cfg.WindowBytes)}
	}
	s.mu.Unlock()
	if due {
		_ = s.publish(f, nil, nil) // who does not get it is dead or says so
	}
	return p, true, nil
}

// receive takes a frame. It is called for one at a time, in the order they came.
func (s *Stream) receive(msg *nats.Msg) {
	if len(msg.Data) == 0 && first(msg.Header, "Status") == statusNoResponders {
		s.gone()
		return
	}
	select {
	case <-s.opened:
	default:
		s.answered(msg)
		return
	}
	f, err := parseFrame(first(msg.Header, bus.HeaderStream))
	s.mu.Lock()
	foreign := f.kind != kindCancel && msg.Reply != s.peer
	s.mu.Unlock()
	if err != nil || foreign {
		s.mux.foreign.Add(1)
		s.mux.log.Debug("frame dropped", "subject", msg.Subject, "error", err)
		return
	}
	if !s.inOrder(f) {
		_ = s.finish(bus.Errorf(bus.DataLoss, "stream: frames were lost on the way"), nil, true)
		return
	}
	s.take(f, msg)
}

// gone is told by the server: nobody received the last frame.
func (s *Stream) gone() {
	select {
	case <-s.opened:
		s.end(bus.Errorf(bus.Unavailable, "stream: the other side is gone"), true, nil)
	default:
		s.end(bus.Wrap(bus.Unavailable, "stream: nobody listens", bus.ErrNoResponders), true, nil)
	}
}

// answered takes the first message that comes for who opens a stream.
func (s *Stream) answered(msg *nats.Msg) {
	conn := s.mux.conn
	f, err := parseFrame(first(msg.Header, bus.HeaderStream))
	switch {
	case err == nil && f.kind == kindAccept && conn.CheckRequest(msg) == "":
		s.mu.Lock()
		s.peer, s.accepted, s.heard = msg.Reply, msg.Header, time.Now()
		s.allowed, s.allowedBytes = f.messages, f.bytes
		s.mu.Unlock()
		close(s.opened)
	case conn.ReplyError(msg) != nil:
		s.end(conn.ReplyError(msg), true, nil)
	default:
		s.end(bus.Errorf(bus.FailedPrecondition, "stream: it was answered as a plain request"), true, nil)
	}
}

// inOrder tells whether no frame before f is missing, and counts it.
func (s *Stream) inOrder(f frame) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = time.Now()
	if f.kind == kindCancel {
		return true
	}
	if f.kind.numbered() {
		s.received++
	}
	return f.seq == s.received
}

func (s *Stream) take(f frame, msg *nats.Msg) {
	switch f.kind {
	case kindHead:
		s.takeHead(bus.UserHeader(msg.Header))
	case kindPart, kindData:
		s.takeHead(nil)
		s.takeData(f.kind == kindData, msg.Data)
	case kindEnd:
		s.takeHead(nil)
		s.takeEnd(bus.UserHeader(msg.Header))
	case kindDone:
		s.takeHead(nil)
		s.takeDone(msg)
	case kindCredit:
		s.takeCredit(f)
	case kindCancel:
		err := s.mux.conn.ReplyError(msg)
		if err == nil {
			err = bus.Errorf(bus.Canceled, "stream: the other side has canceled it")
		}
		s.end(err, false, nil)
	case kindPing:
		_ = s.publish(frame{kind: kindPong}, nil, nil) // its sender finds out
	case kindPong, kindOpen, kindAccept:
	}
}

func (s *Stream) takeHead(h nats.Header) {
	select {
	case <-s.headed:
	default:
		s.mu.Lock()
		s.peerHead = h
		s.mu.Unlock()
		close(s.headed)
	}
}

func (s *Stream) takeData(last bool, data []byte) {
	cfg := &s.mux.cfg
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	over := s.ended || len(s.queue) >= cfg.Window || s.waiting >= uint64(cfg.WindowBytes)
	if !over {
		s.queue = append(s.queue, part{data, last})
		s.waiting += uint64(len(data))
	}
	s.mu.Unlock()
	if over {
		_ = s.finish(bus.Errorf(bus.ResourceExhausted, "stream: more was sent than the other side had room for"), nil, true)
		return
	}
	signal(s.readable)
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func (s *Stream) takeEnd(trailer nats.Header) {
	s.mu.Lock()
	s.ended, s.peerTrailer = true, trailer
	closed := s.closed
	s.mu.Unlock()
	if closed {
		s.end(io.EOF, true, nil)
	}
	signal(s.readable)
}

func (s *Stream) takeDone(msg *nats.Msg) {
	s.mu.Lock()
	if trailer := bus.UserHeader(msg.Header); s.peerTrailer == nil || trailer != nil {
		s.peerTrailer = trailer
	}
	s.mu.Unlock()
	s.end(orEOF(s.mux.conn.ReplyError(msg)), true, nil)
}

// takeCredit takes what the other side grants in all, so that a grant that is lost is made good by the next one.
func (s *Stream) takeCredit(f frame) {
	s.mu.Lock()
	s.allowed = max(s.allowed, f.messages)
	s.allowedBytes = max(s.allowedBytes, f.bytes)
	s.mu.Unlock()
	signal(s.writable)
}

// keepAlive asks a silent peer whether it lives, and ends the stream when it has been silent too long.
func (s *Stream) keepAlive(ask, dead time.Duration) {
	now := time.Now()
	s.mu.Lock()
	silent := now.Sub(s.heard)
	due := silent >= ask && now.Sub(s.asked) >= ask
	if due {
		s.asked = now
	}
	s.mu.Unlock()
	switch {
	case silent >= dead:
		s.Cancel(bus.Errorf(bus.Unavailable, "stream: the other side has been silent for %v", silent.Round(time.Millisecond)))
	case due:
		_ = s.publish(frame{kind: kindPing}, nil, nil) // as when nobody answers
	}
}
