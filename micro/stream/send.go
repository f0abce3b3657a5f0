package stream

import (
	"context"
	"errors"
	"io"
	"maps"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

const (
	// frameOverhead is what a frame may have beside its data: subject, reply and header.
	frameOverhead = 512
	// maxPart is the size of the pieces of messages that do not fit into one frame: a few of them fill a window.
	maxPart = 256 << 10
)

// SetHeader sets the headers that go to the other side before the first message: those [bus.CheckHeader] takes. Once they are
// sent it is failed_precondition.
func (s *Stream) SetHeader(h nats.Header) error {
	if err := bus.CheckHeader(h); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.headSent {
		return bus.Errorf(bus.FailedPrecondition, "stream: the headers are sent already")
	}
	s.head = h
	return nil
}

// SendHeader sends the headers set, without waiting for the first message.
func (s *Stream) SendHeader() error {
	s.mu.Lock()
	h, sent, err := s.head, s.headSent, s.err
	s.headSent = true
	s.mu.Unlock()
	switch {
	case err != nil:
		return err
	case sent:
		return nil
	}
	if len(h) == 0 {
		h = nil
	}
	return s.publish(frame{kind: kindHead}, h, nil)
}

// headFirst sends headers that are set and not sent.
func (s *Stream) headFirst() error {
	s.mu.Lock()
	pending := !s.headSent && len(s.head) > 0
	if !pending {
		s.headSent = true
	}
	s.mu.Unlock()
	if !pending {
		return nil
	}
	return s.SendHeader()
}

// Send sends one message. It waits while the other side takes no more, until ctx ends; a message that does not fit into one
// frame goes in pieces, and when ctx ends between them the stream is over. io.EOF means that the other side has finished
// without an error, another error that it failed; [Stream.Recv] tells of both too. After a nil the message is on its way, no
// more. data is not kept.
func (s *Stream) Send(ctx context.Context, data []byte) error {
	if err := s.turn(ctx, s.sending); err != nil {
		return err
	}
	defer func() { <-s.sending }()
	if err := s.headFirst(); err != nil {
		return err
	}
	size := int(s.mux.conn.NATS().MaxPayload()) - frameOverhead
	if len(data) > size {
		size = min(size, maxPart)
	}
	if size < 1 {
		return bus.Errorf(bus.FailedPrecondition, "stream: the server takes messages of %d bytes: want more than %d", s.mux.conn.NATS().MaxPayload(), frameOverhead)
	}
	for begun := false; ; begun = true {
		n, k := min(size, len(data)), kindData
		if n < len(data) {
			k = kindPart
		}
		if err := s.credit(ctx, n); err != nil {
			if begun {
				s.Cancel(bus.Errorf(bus.CodeOf(err), "stream: a message was not sent to its end"))
			}
			return err
		}
		if err := s.publish(frame{kind: k}, nil, data[:n]); err != nil {
			return err
		}
		if data = data[n:]; k == kindData {
			return nil
		}
	}
}

// credit waits until the other side takes a frame, and counts it.
func (s *Stream) credit(ctx context.Context, n int) error {
	for {
		s.mu.Lock()
		err, closed := s.err, s.closed
		ok := err == nil && !closed && s.used < s.allowed && s.usedBytes < s.allowedBytes
		if ok {
			s.used++
			s.usedBytes += uint64(n)
		}
		s.mu.Unlock()
		switch {
		case ok:
			return nil
		case err != nil:
			return err
		case closed:
			return bus.Errorf(bus.FailedPrecondition, "stream: nothing can be sent after CloseSend")
		}
		select {
		case <-s.writable:
		case <-s.over:
		case <-ctx.Done():
			return contextError(ctx)
		}
	}
}

// CloseSend tells the other side that nothing more is sent; receiving goes on. Further calls do nothing.
func (s *Stream) CloseSend(trailer nats.Header) error {
	if err := bus.CheckHeader(trailer); err != nil {
		return err
	}
	if err := s.headFirst(); err != nil {
		return err
	}
	s.mu.Lock()
	closed, err := s.closed, s.err
	s.closed = true
	ended := s.ended
	s.mu.Unlock()
	if closed || err != nil {
		return err
	}
	err = s.publish(frame{kind: kindEnd}, trailer, nil)
	if ended {
		s.end(io.EOF, true, nil)
	}
	return err
}

// Finish ends the stream: the other side reads what was sent before and then io.EOF, or err if that is not nil. What it sends
// meanwhile is dropped. After the end of the stream it does nothing.
func (s *Stream) Finish(err error, trailer nats.Header) error {
	if herr := bus.CheckHeader(trailer); herr != nil {
		return errors.Join(herr, s.Finish(err, nil))
	}
	return s.finish(err, trailer, false)
}

func (s *Stream) finish(err error, trailer nats.Header, keep bool) error {
	_ = s.headFirst() // over already, or the next frame fails too
	header, data := nats.Header{}, []byte(nil)
	if err != nil {
		told := bus.NewErrorReply(bus.JSON{}, err)
		header, data = told.Header, told.Data
	}
	maps.Copy(header, trailer)
	if len(data) > int(s.mux.conn.NATS().MaxPayload())/2 {
		data = nil // the headers say all but the details
	}
	var failed error
	s.end(orEOF(err), keep, func() { failed = s.publish(frame{kind: kindDone}, header, data) })
	return failed
}

func orEOF(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

// Cancel ends the stream at once on both sides, with err: what is on its way is dropped. After the end it does nothing.
func (s *Stream) Cancel(err error) {
	if err == nil {
		err = bus.Errorf(bus.Canceled, "stream: canceled")
	}
	s.end(err, false, func() {
		told := bus.NewErrorReply(bus.JSON{}, err)
		_ = s.publish(frame{kind: kindCancel}, told.Header, told.Data) // its pings find out otherwise
	})
}

// publish sends a frame to the other side, with the headers and the data given. Its number is spent only when it is sent.
func (s *Stream) publish(f frame, header nats.Header, data []byte) error {
	s.mu.Lock()
	peer := s.peer
	s.mu.Unlock()
	if peer == "" {
		return nil // not accepted yet: the other side is told when it does
	}
	h := make(nats.Header, len(header)+1)
	maps.Copy(h, header)
	s.writing.Lock()
	defer s.writing.Unlock()
	f.seq = s.sent
	if f.kind.numbered() {
		f.seq++
	}
	h[bus.HeaderStream] = []string{f.String()}
	err := s.mux.conn.Publish(&nats.Msg{Subject: peer, Reply: s.subject, Header: h, Data: data})
	if err != nil {
		return err
	}
	s.sent = f.seq
	return nil
}
