package bus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"

	"github.com/vmihailenco/msgpack/v5"
)

// Codec turns values into bytes and back. It must be safe for concurrent use. What Unmarshal is given comes from outside:
// it must not trust lengths in it.
type Codec interface {
	// ContentType is the media type, without parameters, that marks bodies of this codec.
	ContentType() string
	Marshal(v any) ([]byte, error)
	// Unmarshal reads data into the value v points to. It may keep no reference to data.
	Unmarshal(data []byte, v any) error
}

var (
	_ Codec = JSON{}
	_ Codec = MessagePack{}
	_ Codec = Raw{}
)

// JSON is application/json by encoding/json. Unknown fields are ignored, anything after the value is an error.
type JSON struct{}

// ContentType is application/json.
func (JSON) ContentType() string { return "application/json" }

// Marshal encodes v.
func (JSON) Marshal(v any) ([]byte, error) { return json.Marshal(v) }

// Unmarshal decodes data into v.
func (JSON) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// MessagePack is application/msgpack by vmihailenco/msgpack. Fields are named by their msgpack tag, else by their json
// tag, so that a type has the same names in both codecs. Unknown fields are ignored. Input is checked before it is
// decoded: lengths beyond the input, more than 100 levels, bytes after the value and extension types other than the
// timestamp are errors.
type MessagePack struct{}

// ContentType is application/msgpack.
func (MessagePack) ContentType() string { return "application/msgpack" }

// Marshal encodes v.
func (MessagePack) Marshal(v any) ([]byte, error) {
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	var buf bytes.Buffer
	enc.Reset(&buf)
	enc.SetCustomStructTag("json")
	enc.UseCompactInts(true)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// Unmarshal decodes data into v. What v's type cannot hold is an error.
func (MessagePack) Unmarshal(data []byte, v any) (err error) {
	data, err = checkMessagePack(data)
	if err != nil {
		return err
	}
	dec := msgpack.GetDecoder()
	defer func() {
		// The decoder panics where reflection does: a map key that cannot be one, a value for an interface it does
		// not have. Its state is unknown then, so it does not go back.
		if r := recover(); r != nil {
			err = &misplacedError{recovered: r, cause: fmt.Errorf("decode to %T: %v", v, r)}
			return
		}
		msgpack.PutDecoder(dec)
	}()
	dec.Reset(bytes.NewReader(data))
	dec.SetCustomStructTag("json")
	if err := dec.Decode(v); err != nil {
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}

// Raw is application/octet-stream: bodies are []byte or string and travel as they are.
type Raw struct{}

// ContentType is application/octet-stream.
func (Raw) ContentType() string { return "application/octet-stream" }

// Marshal returns v, which must be a []byte, a string, a pointer to one of them, or nil.
func (Raw) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []byte:
		return v, nil
	case *[]byte:
		return *v, nil
	case string:
		return []byte(v), nil
	case *string:
		return []byte(*v), nil
	}
	return nil, fmt.Errorf("raw codec: want []byte or string, got %T", v)
}

// Unmarshal copies data to v, which must be a *[]byte or a *string.
func (Raw) Unmarshal(data []byte, v any) error {
	switch v := v.(type) {
	case *[]byte:
		*v = bytes.Clone(data)
		return nil
	case *string:
		*v = string(data)
		return nil
	}
	return fmt.Errorf("raw codec: want *[]byte or *string, got %T", v)
}

// CodecFor is the codec for a Content-Type header, JSON for none. Parameters such as a charset are ignored. An unknown
// type is an error with the code [InvalidArgument] and the HTTP status 415.
func (c *Conn) CodecFor(contentType string) (Codec, error) {
	if contentType == "" {
		return JSON{}, nil
	}
	if codec, ok := c.codecs[contentType]; ok {
		return codec, nil
	}
	if media, _, err := mime.ParseMediaType(contentType); err == nil {
		if codec, ok := c.codecs[media]; ok {
			return codec, nil
		}
	}
	e := Errorf(InvalidArgument, "content type %.80q is not known here", contentType)
	e.Status = 415
	return nil, e
}
