package tcp

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/skybus-io/skybus/bus"
)

// Framing tells where frames begin and end. It keeps no state, and is safe for concurrent use: all connections share it.
type Framing interface {
	// ReadFrame reads one frame and returns what it holds, which the caller keeps: it must not be part of r's buffer. It is called once the first byte of
	// the frame is there. A frame that holds more than limit bytes is refused with [TooLong] as soon as that is known, and nothing is allocated for a length before
	// the bytes have come. [ErrSkip] says that what was read is no request. After any other error the connection is closed: a [bus.Error] is
	// what the client did wrong, and is told to it; errors of r are returned as they are, io.EOF too.
	ReadFrame(r *bufio.Reader, limit int) ([]byte, error)
	// WriteFrame writes one frame that holds body. What the framing cannot express is refused with a [bus.Error] before anything is
	// written: the client is told of that in an error frame. Errors of w are returned as they are.
	WriteFrame(w *bufio.Writer, body []byte) error
}

// ErrSkip is returned by a [Framing] for what is no request, such as a sign of life. Nothing is answered, and the connection counts as used.
var ErrSkip = errors.New("tcp: what was read is no request")

var errTooLong = errors.New("tcp: frame too long")

// TooLong is the error for a frame that holds more than limit bytes: resource_exhausted, 413.
func TooLong(limit int) error {
	e := bus.Wrap(bus.ResourceExhausted, fmt.Sprintf("the frame is longer than %d bytes", limit), errTooLong)
	e.Status = http.StatusRequestEntityTooLarge
	return e
}

// inexpressible is the error for an answer that cannot be a frame.
func inexpressible(format string, args ...any) error {
	return bus.Errorf(bus.OutOfRange, "the answer cannot be a frame: "+format, args...)
}

var (
	_ Framing = Line{}
	_ Framing = Prefix{}
	_ Framing = Fixed{}
)

// Line is the framing of text: a frame ends with a line feed. A carriage return before that belongs to the line's end too. Empty lines are skipped,
// as people and signs of life send them. Answers must not contain a line feed; those that are JSON are written without theirs.
type Line struct {
	// CRLF ends answers with a carriage return and a line feed.
	CRLF bool
	// KeepCR leaves a carriage return before the line feed in the frame. It cannot be with CRLF.
	KeepCR bool
	// Empty makes a request of an empty line too.
	Empty bool
}

// Validate tells what [New] would refuse.
func (f Line) Validate() error {
	if f.CRLF && f.KeepCR {
		return bus.Errorf(bus.InvalidArgument, "tcp: crlf and keep_cr do not go together: a request would hold a part of what answers end with")
	}
	return nil
}

// ReadFrame reads a line.
func (f Line) ReadFrame(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		if _, err := r.Peek(1); err != nil { // all that has come is in the buffer then
			return nil, err
		}
		part, _ := r.Peek(r.Buffered())
		end := bytes.IndexByte(part, '\n')
		if end >= 0 {
			part = part[:end+1]
		}
		line = append(line, part...)
		_, _ = r.Discard(len(part))
		if end >= 0 {
			break
		}
		if len(line) > limit+1 { // a carriage return may be among it
			return nil, TooLong(limit)
		}
	}
	line = line[:len(line)-1]
	if !f.KeepCR {
		line = bytes.TrimSuffix(line, []byte{'\r'})
	}
	if len(line) > limit {
		return nil, TooLong(limit)
	}
	if len(line) == 0 && !f.Empty {
		return nil, ErrSkip
	}
	return line, nil
}

// WriteFrame writes a line.
func (f Line) WriteFrame(w *bufio.Writer, body []byte) error {
	if bytes.IndexByte(body, '\n') >= 0 || !f.KeepCR && bytes.HasSuffix(body, []byte{'\r'}) {
		var line bytes.Buffer
		if json.Compact(&line, body) != nil {
			return inexpressible("it has a line feed in it, or ends with a carriage return, and is not JSON")
		}
		body = line.Bytes()
	}
	if _, err := w.Write(body); err != nil {
		return err
	}
	if f.CRLF {
		if err := w.WriteByte('\r'); err != nil {
			return err
		}
	}
	return w.WriteByte('\n')
}
