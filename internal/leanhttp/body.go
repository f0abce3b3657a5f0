package leanhttp

import (
	"bufio"
	"cmp"
	"errors"
	"io"
	"net"
	"net/http/httputil"
)

const firstRead = 512 // bytes, of a body of unknown length

// body reads the body of an answer.
type body struct {
	r        *bufio.Reader
	length   int64 // as in head
	left     int64 // where the length is known
	chunks   io.Reader
	limit    int // of the trailers
	trailers Header
}

func (b *body) init(r *bufio.Reader, length int64, limit int) {
	b.r, b.length, b.left, b.limit = r, length, length, limit
	if length == inChunks {
		b.chunks = httputil.NewChunkedReader(r)
	}
}

// Read returns io.EOF with the last bytes where it knows that they are.
func (b *body) Read(p []byte) (n int, err error) {
	switch b.length {
	case inChunks:
		n, err = b.chunks.Read(p)
		return n, b.afterChunk(err)
	case untilClose:
		return b.r.Read(p)
	}
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err = b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	switch {
	case b.left == 0:
		return n, io.EOF
	case errors.Is(err, io.EOF):
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// afterChunk reads the trailers at the end, and says what is no error of the network.
func (b *body) afterChunk(err error) error {
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if errors.Is(err, io.EOF) {
		return cmp.Or(b.readTrailers(), io.EOF)
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return err
	}
	return responsef("%v", err)
}

func (b *body) readTrailers() error {
	block, err := readBlock(b.r, nil, b.limit)
	if err != nil || len(block) == 0 {
		return err
	}
	b.trailers, err = parseFields(string(block), nil)
	return err
}

// all reads up to limit bytes of the body, and tells whether there are more.
func (b *body) all(limit int64) (data []byte, truncated bool, err error) {
	if b.length >= 0 {
		data = make([]byte, min(b.length, limit))
		for n := 0; n < len(data); { // not io.ReadFull, through which b would escape to the heap
			m, err := b.Read(data[n:])
			if n += m; err != nil && n < len(data) {
				return nil, false, err
			}
		}
		return data, b.length > limit, nil
	}
	data = make([]byte, 0, min(firstRead, limit+1))
	for {
		n, err := b.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case int64(len(data)) > limit:
			return data[:limit], true, nil
		case errors.Is(err, io.EOF):
			return data, false, nil
		case err != nil:
			return nil, false, err
		}
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
	}
}
