package msgjson

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

const timestampType = -1

// ToJSON makes JSON of MessagePack. Bytes become base64, timestamps text (RFC 3339); maps need texts as keys.
func ToJSON(packed []byte) ([]byte, error) {
	in := bytes.NewReader(packed)
	u := unpacker{in: in, dec: msgpack.NewDecoder(in)}
	u.enc = json.NewEncoder(&u.out)
	u.enc.SetEscapeHTML(false)
	if err := u.value(0); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if in.Len() > 0 {
		return nil, errors.New("bytes after the value")
	}
	return u.out.Bytes(), nil
}

type unpacker struct {
	in  *bytes.Reader // dec reads from it, and not ahead
	dec *msgpack.Decoder
	enc *json.Encoder
	out bytes.Buffer
}

// write adds a value as encoding/json writes it.
func (u *unpacker) write(v any) error {
	if err := u.enc.Encode(v); err != nil {
		return err
	}
	u.out.Truncate(u.out.Len() - 1) // the line feed
	return nil
}

func (u *unpacker) value(depth int) error {
	if depth > maxDepth {
		return errDepth
	}
	code, err := u.dec.PeekCode()
	if err != nil {
		return err
	}
	switch {
	case msgpcode.IsFixedMap(code), code == msgpcode.Map16, code == msgpcode.Map32:
		return u.object(depth)
	case msgpcode.IsFixedArray(code), code == msgpcode.Array16, code == msgpcode.Array32:
		return u.list(depth)
	case msgpcode.IsString(code):
		text, err := u.text()
		if err != nil {
			return err
		}
		return u.write(text)
	case msgpcode.IsBin(code):
		b, err := u.bytes()
		if err != nil {
			return err
		}
		return u.write(base64.StdEncoding.EncodeToString(b))
	case msgpcode.IsExt(code):
		return u.timestamp()
	}
	return u.scalar(code)
}

// scalar is what has no length. NaN and infinities are no JSON.
func (u *unpacker) scalar(code byte) error {
	var v any
	var err error
	switch code {
	case msgpcode.Nil:
		err = u.dec.DecodeNil()
	case msgpcode.True, msgpcode.False:
		v, err = u.dec.DecodeBool()
	case msgpcode.Float, msgpcode.Double:
		v, err = u.dec.DecodeFloat64()
	case msgpcode.Uint64:
		v, err = u.dec.DecodeUint64()
	default:
		v, err = u.dec.DecodeInt64()
	}
	if err != nil {
		return err
	}
	return u.write(v)
}

func (u *unpacker) object(depth int) error {
	n, err := u.dec.DecodeMapLen()
	if err != nil {
		return err
	}
	names := map[string]bool{}
	u.out.WriteByte('{')
	for i := range n {
		if i > 0 {
			u.out.WriteByte(',')
		}
		if code, err := u.dec.PeekCode(); err != nil {
			return err
		} else if !msgpcode.IsString(code) {
			return errors.New("a key of a map is no text")
		}
		name, err := u.text()
		if err != nil {
			return err
		}
		if names[name] {
			return twice(name)
		}
		names[name] = true
		if err := u.write(name); err != nil {
			return err
		}
		u.out.WriteByte(':')
		if err := u.value(depth + 1); err != nil {
			return err
		}
	}
	u.out.WriteByte('}')
	return nil
}

func (u *unpacker) list(depth int) error {
	n, err := u.dec.DecodeArrayLen()
	if err != nil {
		return err
	}
	u.out.WriteByte('[')
	for i := range n {
		if i > 0 {
			u.out.WriteByte(',')
		}
		if err := u.value(depth + 1); err != nil {
			return err
		}
	}
	u.out.WriteByte(']')
	return nil
}

func (u *unpacker) text() (string, error) {
	b, err := u.bytes()
	if err == nil && !utf8.Valid(b) {
		err = errText
	}
	return string(b), err
}

// bytes are those of a text too. A length that the input cannot hold takes no room.
func (u *unpacker) bytes() ([]byte, error) {
	n, err := u.dec.DecodeBytesLen()
	if err != nil {
		return nil, err
	}
	if n > u.in.Len() {
		return nil, io.ErrUnexpectedEOF
	}
	b := make([]byte, n)
	return b, u.dec.ReadFull(b)
}

// timestamp is the one extension that there is.
func (u *unpacker) timestamp() error {
	id, size, err := u.dec.DecodeExtHeader()
	if err != nil {
		return err
	}
	if id != timestampType || size != 4 && size != 8 && size != 12 {
		return fmt.Errorf("an extension of type %d with %d bytes is no timestamp", id, size)
	}
	b := make([]byte, size)
	if err := u.dec.ReadFull(b); err != nil {
		return err
	}
	var seconds int64
	var nanos uint32
	switch size {
	case 4:
		seconds = int64(binary.BigEndian.Uint32(b))
	case 8:
		both := binary.BigEndian.Uint64(b)
		seconds, nanos = int64(both&(1<<34-1)), uint32(both>>34) //nolint:gosec // it fits
	case 12:
		nanos, seconds = binary.BigEndian.Uint32(b), int64(binary.BigEndian.Uint64(b[4:])) //nolint:gosec // it is signed
	}
	if nanos >= uint32(time.Second) {
		return fmt.Errorf("a timestamp with %d nanoseconds", nanos)
	}
	return u.write(time.Unix(seconds, int64(nanos)).UTC())
}
