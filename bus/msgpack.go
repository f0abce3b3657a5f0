package bus

import (
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"runtime"
)

const (
	maxMessagePackDepth = 100
	maxNanosecond       = 999_999_999
	timestampType       = 0xff // -1
)

var (
	errMessagePackDepth     = errors.New("msgpack: more than 100 levels deep")
	errMessagePackTrailing  = errors.New("msgpack: bytes after the value")
	errMessagePackCode      = errors.New("msgpack: 0xc1 is no type")
	errMessagePackExtension = errors.New("msgpack: an extension type that is no timestamp")
)

// misplacedError is of a value over which the decoder panicked. Its text speaks of what was sent, as it is for the sender; how that is
// called in Go is in the cause.
type misplacedError struct {
	recovered any
	cause     error
}

func (e *misplacedError) Error() string {
	switch e.recovered.(type) {
	case *reflect.ValueError: // a nil time
		return "msgpack: nil where there must be a value"
	case runtime.Error: // what has no hash
		return "msgpack: a value that cannot be used where it is, such as a list as the key of a map"
	}
	return "msgpack: a value of another kind than there must be"
}

func (e *misplacedError) Unwrap() error { return e.cause }

// checkMessagePack walks over one value and tells whether data is exactly that. The decoder reserves memory by the
// lengths it reads, so a length that the input cannot hold must not reach it.
//
// It returns what to decode, which is data but for some timestamps. Where the decoder wants a map and finds an extension
// it takes the payload for the map's beginning, so the first byte of a payload must not be one that begins a map. In the
// longest form of a timestamp it never is: the others are written anew in that form where needed.
func checkMessagePack(data []byte) ([]byte, error) {
	c := messagePackCheck{all: data}
	rest, err := c.value(data, 0)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, errMessagePackTrailing
	}
	if c.safe != nil {
		return append(c.safe, data[c.copied:]...), nil
	}
	return data, nil
}

type messagePackCheck struct {
	all    []byte
	safe   []byte // a copy with timestamps written anew, nil as long as none needs it
	copied int    // how much of all is in safe
}

// value skips one value and returns what follows it.
func (c *messagePackCheck) value(data []byte, depth int) ([]byte, error) {
	if depth > maxMessagePackDepth {
		return nil, errMessagePackDepth
	}
	if len(data) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	code := data[0]
	switch {
	case code <= 0x7f, code >= 0xe0, code == 0xc0, code == 0xc2, code == 0xc3: // fixint, nil, bool
		return data[1:], nil
	case code <= 0x8f:
		return c.items(data[1:], 2*uint64(code&0x0f), depth)
	case code <= 0x9f:
		return c.items(data[1:], uint64(code&0x0f), depth)
	case code <= 0xbf:
		return skipBytes(data[1:], uint64(code&0x1f))
	case code == 0xc1:
		return nil, errMessagePackCode
	}
	return c.sized(data, depth)
}

// sized skips the types whose size stands in fixed or following bytes.
func (c *messagePackCheck) sized(data []byte, depth int) ([]byte, error) {
	code := data[0]
	switch code {
	case 0xcc, 0xd0:
		return skipBytes(data[1:], 1)
	case 0xcd, 0xd1:
		return skipBytes(data[1:], 2)
	case 0xca, 0xce, 0xd2:
		return skipBytes(data[1:], 4)
	case 0xcb, 0xcf, 0xd3:
		return skipBytes(data[1:], 8)
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8: // fixext 1, 2, 4, 8, 16
		return c.timestamp(data, 1, uint64(1)<<(code-0xd4))
	}
	header := 1 + sizeWidth(code)
	if len(data) < header {
		return nil, io.ErrUnexpectedEOF
	}
	n := bigEndian(data[1:header])
	switch code {
	case 0xdc, 0xdd:
		return c.items(data[header:], n, depth)
	case 0xde, 0xdf:
		return c.items(data[header:], 2*n, depth)
	case 0xc7, 0xc8, 0xc9:
		return c.timestamp(data, header, n)
	}
	return skipBytes(data[header:], n)
}

// timestamp skips an extension, which must be a timestamp: header bytes, one for the type, n for the payload.
func (c *messagePackCheck) timestamp(data []byte, header int, n uint64) ([]byte, error) {
	rest, err := skipBytes(data[header:], 1+n)
	if err != nil {
		return nil, err
	}
	payload := data[header+1 : header+1+int(n)]
	var seconds, nanos uint64
	switch n {
	case 4:
		seconds = bigEndian(payload)
	case 8:
		both := binary.BigEndian.Uint64(payload)
		seconds, nanos = both&(1<<34-1), both>>34
	case 12:
		nanos = bigEndian(payload[:4])
	}
	if data[header] != timestampType || n != 4 && n != 8 && n != 12 || nanos > maxNanosecond {
		return nil, errMessagePackExtension
	}
	if n < 12 && payload[0] > 0x7f { // not a positive fixint, so it may begin a map
		c.safe = append(c.safe, c.all[c.copied:len(c.all)-len(data)]...)
		c.safe = append(c.safe, 0xc7, 12, timestampType)
		c.safe = binary.BigEndian.AppendUint32(c.safe, uint32(nanos))
		c.safe = binary.BigEndian.AppendUint64(c.safe, seconds)
		c.copied = len(c.all) - len(rest)
	}
	return rest, nil
}

// sizeWidth is how many bytes hold the size of a value with the given code.
func sizeWidth(code byte) int {
	switch code {
	case 0xc4, 0xc7, 0xd9: // bin 8, ext 8, str 8
		return 1
	case 0xc5, 0xc8, 0xda, 0xdc, 0xde: // bin, ext, str, array, map 16
		return 2
	}
	return 4 // the same with 32
}

func (c *messagePackCheck) items(data []byte, n uint64, depth int) ([]byte, error) {
	if n > uint64(len(data)) { // an item has at least one byte
		return nil, io.ErrUnexpectedEOF
	}
	var err error
	for range n {
		if data, err = c.value(data, depth+1); err != nil {
			return nil, err
		}
	}
	return data, nil
}

func skipBytes(data []byte, n uint64) ([]byte, error) {
	if n > uint64(len(data)) {
		return nil, io.ErrUnexpectedEOF
	}
	return data[n:], nil
}

func bigEndian(b []byte) uint64 {
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	}
	return uint64(binary.BigEndian.Uint32(b))
}
