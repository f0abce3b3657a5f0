package bus

import (
	"encoding/binary"
	"errors"
	"io"
)

const maxMessagePackDepth = 100

var (
	errMessagePackDepth    = errors.New("msgpack: more than 100 levels deep")
	errMessagePackTrailing = errors.New("msgpack: bytes after the value")
	errMessagePackCode     = errors.New("msgpack: 0xc1 is no type")
)

// checkMessagePack walks over one value and tells whether data is exactly that. The decoder reserves memory by the
// lengths it reads, so a length that the input cannot hold must not reach it.
func checkMessagePack(data []byte) error {
	rest, err := skipMessagePack(data, 0)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return errMessagePackTrailing
	}
	return nil
}

func skipMessagePack(data []byte, depth int) ([]byte, error) {
	if depth > maxMessagePackDepth {
		return nil, errMessagePackDepth
	}
	if len(data) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	code, data := data[0], data[1:]
	switch {
	case code <= 0x7f, code >= 0xe0, code == 0xc0, code == 0xc2, code == 0xc3: // fixint, nil, bool
		return data, nil
	case code <= 0x8f:
		return skipItems(data, 2*uint64(code&0x0f), depth)
	case code <= 0x9f:
		return skipItems(data, uint64(code&0x0f), depth)
	case code <= 0xbf:
		return skipBytes(data, uint64(code&0x1f))
	case code == 0xc1:
		return nil, errMessagePackCode
	}
	return skipSized(code, data, depth)
}

// skipSized skips the types whose size stands in fixed or following bytes.
func skipSized(code byte, data []byte, depth int) ([]byte, error) {
	switch code {
	case 0xcc, 0xd0:
		return skipBytes(data, 1)
	case 0xcd, 0xd1:
		return skipBytes(data, 2)
	case 0xca, 0xce, 0xd2:
		return skipBytes(data, 4)
	case 0xcb, 0xcf, 0xd3:
		return skipBytes(data, 8)
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8: // fixext: a type byte and 1, 2, 4, 8, 16 bytes
		return skipBytes(data, 1+uint64(1)<<(code-0xd4))
	}
	width := sizeWidth(code)
	if len(data) < width {
		return nil, io.ErrUnexpectedEOF
	}
	n := bigEndian(data[:width])
	data = data[width:]
	switch code {
	case 0xdc, 0xdd:
		return skipItems(data, n, depth)
	case 0xde, 0xdf:
		return skipItems(data, 2*n, depth)
	case 0xc7, 0xc8, 0xc9:
		return skipBytes(data, n+1)
	}
	return skipBytes(data, n)
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

func skipItems(data []byte, n uint64, depth int) ([]byte, error) {
	if n > uint64(len(data)) { // an item has at least one byte
		return nil, io.ErrUnexpectedEOF
	}
	var err error
	for range n {
		if data, err = skipMessagePack(data, depth+1); err != nil {
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
