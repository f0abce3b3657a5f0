package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/skybus-io/skybus/bus"
)

const (
	chunkSize = 256 << 10
	leastRead = 16 << 10 // at once
)

// errMore says that there is no whole record yet.
var errMore = errors.New("no whole record yet")

// errUTF16 is why nothing of a file can be read.
var errUTF16 = bus.Errorf(bus.InvalidArgument, "the file is UTF-16: want UTF-8")

// piece is a record as it stands in a file.
type piece struct {
	offset int64 // of its first byte
	end    int64 // behind its line end
	data   []byte
	err    *bus.Error // why it cannot be sent; data is nil where it is too large
}

// splitter cuts a file into records. It holds one chunk, or one record where that is larger. The data of pieces is never overwritten.
type splitter struct {
	src   io.ReaderAt
	max   int
	csv   bool
	comma byte

	buf  []byte // what was read and not given out
	pos  int64  // offset of buf in the file
	seen int    // bytes of buf that were looked at

	skipped int64 // bytes of a record that is too large, before buf

	state quoteState // of CSV, after seen bytes
}

// quoteState is where in a CSV record the splitter is.
type quoteState uint8

const (
	fieldStart quoteState = iota
	unquoted
	quoted
	quoteInQuoted // perhaps the end of the field
)

func newSplitter(src io.ReaderAt, cfg *Config, pos int64) *splitter {
	return &splitter{src: src, max: cfg.MaxRecord, csv: cfg.Format == CSV, comma: byte(cfg.Comma), pos: pos} //nolint:gosec // ASCII
}

// at is the offset of the first byte that was not given out.
func (s *splitter) at() int64 { return s.pos - s.skipped }

// next is the next record, errMore where there is none; final says that no more will come. Other errors are those of reading.
func (s *splitter) next(final bool) (piece, error) {
	for {
		if err := s.begin(final); err != nil {
			return piece{}, err
		}
		if p, ok := s.cut(); ok {
			return p, nil
		}
		n, err := s.fill()
		if err != nil {
			return piece{}, err
		}
		if n > 0 {
			continue
		}
		if !final {
			return piece{}, errMore
		}
		if p, ok := s.rest(); ok {
			return p, nil
		}
		return piece{}, io.EOF
	}
}

// begin leaves out a byte order mark.
func (s *splitter) begin(final bool) error {
	if s.pos != 0 || s.skipped > 0 {
		return nil
	}
	for len(s.buf) < 3 {
		n, err := s.fill()
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	switch {
	case bytes.HasPrefix(s.buf, []byte("\xef\xbb\xbf")):
		s.drop(3)
	case bytes.HasPrefix(s.buf, []byte("\xff\xfe")), bytes.HasPrefix(s.buf, []byte("\xfe\xff")):
		return errUTF16
	case len(s.buf) < 3 && !final && bytes.IndexByte(s.buf, '\n') < 0:
		return errMore // it may become one
	}
	return nil
}

// fill reads on. Where the chunk is full, what is left of it moves to a new one: records that were given out keep theirs.
func (s *splitter) fill() (int, error) {
	if have := len(s.buf); cap(s.buf)-have < leastRead {
		buf := make([]byte, have, max(chunkSize, 2*have))
		copy(buf, s.buf)
		s.buf = buf
	}
	n, err := s.src.ReadAt(s.buf[len(s.buf):cap(s.buf)], s.pos+int64(len(s.buf)))
	s.buf = s.buf[:len(s.buf)+n]
	if err != nil && !errors.Is(err, io.EOF) {
		return n, err
	}
	return n, nil
}

// drop leaves n bytes behind, which end a record.
func (s *splitter) drop(n int) {
	s.buf = s.buf[n:]
	s.pos += int64(n)
	s.seen, s.state = 0, fieldStart
}

// cut takes a record off the front of the buffer.
func (s *splitter) cut() (piece, bool) {
	for {
		end := s.recordEnd()
		switch {
		case end >= 0 && s.skipped > 0:
			return s.skippedPiece(end), true
		case end >= 0:
			if p, ok := s.take(end); ok {
				return p, true
			}
		case s.skipped > 0 || len(s.buf) > s.max+2: // a line end may have two
			s.skip()
			return piece{}, false
		default:
			return piece{}, false
		}
	}
}

// recordEnd is the length of the record at the front, with its line end; -1 where that was not read yet.
func (s *splitter) recordEnd() int {
	if s.csv {
		return s.csvEnd()
	}
	i := bytes.IndexByte(s.buf[s.seen:], '\n')
	if i < 0 {
		s.seen = len(s.buf)
		return -1
	}
	return s.seen + i + 1
}

// csvEnd goes on where it was at the end of the last chunk.
func (s *splitter) csvEnd() int {
	for i := s.seen; i < len(s.buf); i++ {
		c := s.buf[i]
		switch s.state {
		case quoted:
			if c == '"' {
				s.state = quoteInQuoted
			}
			continue
		case quoteInQuoted:
			if c == '"' {
				s.state = quoted
				continue
			}
		case fieldStart:
			if c == '"' {
				s.state = quoted
				continue
			}
		case unquoted:
		}
		switch c {
		case '\n':
			return i + 1
		case s.comma:
			s.state = fieldStart
		default:
			s.state = unquoted // also of "a"b, which is then refused for it
		}
	}
	s.seen = len(s.buf)
	return -1
}

// take gives out n bytes; not ok for an empty line.
func (s *splitter) take(n int) (piece, bool) {
	p := piece{offset: s.pos, end: s.pos + int64(n), data: trimEnd(s.buf[:n:n])}
	s.drop(n)
	switch {
	case len(p.data) == 0:
		return piece{}, false
	case len(p.data) > s.max:
		p.err, p.data = tooLarge(int64(len(p.data)), s.max), nil
	}
	return p, true
}

func trimEnd(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r"))
}

func tooLarge(size int64, most int) *bus.Error {
	return bus.Errorf(bus.InvalidArgument, "the record has %d bytes: want at most %d (max_record)", size, most)
}

// skip leaves behind what was read of a record that is too large. Where it ends is still found as if it were not: a line within
// quotes never becomes a record of its own.
func (s *splitter) skip() {
	s.skipped += int64(len(s.buf))
	s.pos += int64(len(s.buf))
	s.buf, s.seen = s.buf[len(s.buf):], 0
}

// skippedPiece ends a record that is too large with the next n bytes.
func (s *splitter) skippedPiece(n int) piece {
	size := s.skipped + int64(n)
	s.drop(n)
	s.skipped = 0
	return piece{offset: s.pos - size, end: s.pos, err: tooLarge(size, s.max)}
}

// rest is what stands at the end of a file without a line end.
func (s *splitter) rest() (piece, bool) {
	open := s.state == quoted
	var p piece
	switch {
	case s.skipped > 0:
		p = s.skippedPiece(len(s.buf))
	case len(s.buf) == 0:
		return piece{}, false
	default:
		var ok bool
		if p, ok = s.take(len(s.buf)); !ok {
			return piece{}, false
		}
	}
	if open {
		p.err = bus.Errorf(bus.InvalidArgument, "a quote is opened in these %d bytes and not closed to the end of the file", p.end-p.offset)
	}
	return p, true
}

// readWhole is the file as one record.
func readWhole(src io.ReaderAt, size int64, most int) (piece, error) {
	p := piece{end: size}
	if size > int64(most) {
		p.err = tooLarge(size, most)
		return p, nil
	}
	p.data = make([]byte, size)
	n, err := src.ReadAt(p.data, 0)
	if int64(n) < size {
		return p, fmt.Errorf("%w: %w", errChanged, err)
	}
	return p, nil
}
