package leanhttp

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// Stream is an answer whose body is read as it comes. When it was read to its end the connection is free for others, also before Close.
// Close before that closes the connection. Read is for one goroutine, Close may be called by another meanwhile, and twice.
type Stream struct {
	Status int // 200 to 999
	Header Header
	Length int64 // of the body; -1 means that only its end will tell. For HEAD, what the header says

	x     exchange
	stall time.Duration
	until time.Time   // the deadline that was set last
	ended atomic.Bool // the connection is somebody else's
	err   error       // of the last Read
	trail Header
}

var _ io.ReadCloser = (*Stream)(nil)

func newStream(x exchange, method string, stall time.Duration) *Stream {
	s := &Stream{Status: x.head.status, Header: x.head.fields, Length: max(x.head.length, -1), x: x, stall: stall}
	if method == http.MethodHead {
		s.Length = x.head.said
	}
	if x.head.length == 0 {
		s.err = io.EOF
		s.end(true)
	}
	return s
}

// Read returns an [*Error] if the answer breaks off, and io.EOF only at its end.
func (s *Stream) Read(p []byte) (int, error) {
	if s.err != nil || len(p) == 0 {
		return 0, s.err
	}
	if s.ended.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	s.extend()
	n, err := s.x.body.Read(p)
	if errors.Is(err, io.EOF) {
		s.trail, s.err = s.x.body.trailers, io.EOF
		s.end(true)
	} else if err != nil {
		s.err = s.x.failed("read", err)
		s.end(false)
	}
	return n, s.err
}

// extend moves the deadline on, not at each call where they follow each other quickly.
func (s *Stream) extend() {
	if s.stall == 0 || s.x.conn.r.Buffered() > 0 {
		return
	}
	now := time.Now()
	if until := now.Add(s.stall); s.until.Sub(now) < s.stall-s.stall/8 {
		s.until = until
		_ = s.x.conn.nc.SetDeadline(until) // a connection that is closed says so to Read
	}
}

// Trailer returns the fields behind the body, once Read has returned io.EOF.
func (s *Stream) Trailer() Header { return s.trail }

// Close ends the answer. Its error is always nil.
func (s *Stream) Close() error {
	s.end(false)
	return nil
}

// end has an effect once: it decides who closes the connection or gives it back.
func (s *Stream) end(whole bool) {
	if s.ended.CompareAndSwap(false, true) {
		s.x.end(whole)
	}
}
