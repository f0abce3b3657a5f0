package tcp

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"

	"github.com/skybus-io/skybus/bus"
)

// firstPart is how many bytes a frame is given room for at first, whatever length it claims.
const firstPart = 4 << 10

// Prefix is the framing of a length before each frame, which does not count itself. The length may be 0.
type Prefix struct {
	// Bytes is how many bytes the length has: 1, 2 or 4. 0 means 4.
	Bytes int
	// LittleEndian sends the lowest byte first. Default is the highest, as networks have it.
	LittleEndian bool
}

// Validate tells what [New] would refuse.
func (f Prefix) Validate() error {
	switch f.Bytes {
	case 0, 1, 2, 4:
		return nil
	}
	return bus.Errorf(bus.InvalidArgument, "tcp: a length of %d bytes before frames: want 1, 2 or 4", f.Bytes)
}

func (f Prefix) bytes() int {
	if f.Bytes == 0 {
		return 4
	}
	return f.Bytes
}

func (f Prefix) order() binary.ByteOrder {
	if f.LittleEndian {
		return binary.LittleEndian
	}
	return binary.BigEndian
}

// longest is how many bytes the prefix can tell.
func (f Prefix) longest() uint64 { return 1<<(8*f.bytes()) - 1 }

// ReadFrame reads a length and as many bytes.
func (f Prefix) ReadFrame(r *bufio.Reader, limit int) ([]byte, error) {
	var b [4]byte
	prefix := b[:f.bytes()]
	if _, err := io.ReadFull(r, prefix); err != nil {
		return nil, err
	}
	var length uint64
	switch len(prefix) {
	case 1:
		length = uint64(prefix[0])
	case 2:
		length = uint64(f.order().Uint16(prefix))
	default:
		length = uint64(f.order().Uint32(prefix))
	}
	if length > uint64(limit) {
		return nil, TooLong(limit)
	}
	return readN(r, int(length))
}

// WriteFrame writes the length of body, and body.
func (f Prefix) WriteFrame(w *bufio.Writer, body []byte) error {
	if uint64(len(body)) > f.longest() {
		return inexpressible("it has %d bytes, and a length of %d bytes tells of at most %d", len(body), f.bytes(), f.longest())
	}
	var b [4]byte
	prefix := b[:f.bytes()]
	switch len(prefix) {
	case 1:
		prefix[0] = byte(len(body))
	case 2:
		f.order().PutUint16(prefix, uint16(len(body)))
	default:
		f.order().PutUint32(prefix, uint32(len(body)))
	}
	if _, err := w.Write(prefix); err != nil {
		return err
	}
	_, err := w.Write(body)
	return err
}

// Fixed is the framing of records that all have the same size.
type Fixed struct {
	// Size is how many bytes each frame has, at least 1 and at most Config.MaxFrame.
	Size int
	// Binary takes and gives bytes as they are; an answer must have exactly Size of them. Without it frames are text: spaces at the end of a request
	// are filling and no part of it, shorter answers are filled with them, and a frame of spaces alone is skipped.
	Binary bool
}

// Validate tells what [New] would refuse.
func (f Fixed) Validate() error {
	if f.Size < 1 || f.Size > MaxMaxFrame {
		return bus.Errorf(bus.InvalidArgument, "tcp: frames of %d bytes: want 1 to %d", f.Size, MaxMaxFrame)
	}
	return nil
}

// ReadFrame reads Size bytes.
func (f Fixed) ReadFrame(r *bufio.Reader, limit int) ([]byte, error) {
	if f.Size > limit {
		return nil, TooLong(limit)
	}
	frame, err := readN(r, f.Size)
	if err != nil || f.Binary {
		return frame, err
	}
	if frame = bytes.TrimRight(frame, " "); len(frame) == 0 {
		return nil, ErrSkip
	}
	return frame, nil
}

// WriteFrame writes Size bytes.
func (f Fixed) WriteFrame(w *bufio.Writer, body []byte) error {
	if len(body) > f.Size || f.Binary && len(body) != f.Size {
		return inexpressible("it has %d bytes, and frames have %d", len(body), f.Size)
	}
	if _, err := w.Write(body); err != nil {
		return err
	}
	for range f.Size - len(body) {
		if err := w.WriteByte(' '); err != nil {
			return err
		}
	}
	return nil
}

// readN reads n bytes. It makes room for them as they come: who only claims to send many costs nothing.
func readN(r *bufio.Reader, n int) ([]byte, error) {
	frame := make([]byte, 0, min(n, firstPart))
	for len(frame) < n {
		if len(frame) == cap(frame) {
			larger := make([]byte, len(frame), min(n, 2*cap(frame)))
			copy(larger, frame)
			frame = larger
		}
		read, err := io.ReadFull(r, frame[len(frame):cap(frame)])
		frame = frame[:len(frame)+read]
		if err != nil {
			return nil, err
		}
	}
	return frame, nil
}
