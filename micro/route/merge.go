package route

import (
	"bytes"
	"encoding/json"
	"maps"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// accumulator is the response so far. Objects in JSON or MessagePack are merged by their top-level fields, without
// looking into them; anything else replaces what was there.
type accumulator struct {
	conn   *bus.Conn
	codec  bus.Codec
	fields map[string][]byte // of the object; nil when the response is none
	whole  []byte            // the response that is no object
	cached []byte
}

func newAccumulator(conn *bus.Conn, contentType string) (*accumulator, error) {
	codec, err := conn.CodecFor(contentType)
	if err != nil {
		return nil, err
	}
	return &accumulator{conn: conn, codec: codec}, nil
}

// add takes in the response of a step.
func (a *accumulator) add(reply micro.Reply) error {
	body, err := a.transcode(reply)
	if err != nil || len(body) == 0 {
		return err
	}
	a.cached = nil
	fields, ok := a.split(body)
	switch {
	case !ok:
		a.fields, a.whole = nil, body
	case a.fields == nil:
		a.fields, a.whole = fields, nil
	default:
		maps.Copy(a.fields, fields)
	}
	return nil
}

// transcode turns the body of a step that answered in another codec into ours.
func (a *accumulator) transcode(reply micro.Reply) ([]byte, error) {
	codec, err := a.conn.CodecFor(reply.ContentType)
	if err != nil || codec.ContentType() == a.codec.ContentType() || len(reply.Body) == 0 {
		return reply.Body, err
	}
	var v any
	if err := codec.Unmarshal(reply.Body, &v); err != nil {
		return nil, bus.Errorf(bus.Internal, "answer of %s is not %s: %w", reply.From, codec.ContentType(), err)
	}
	body, err := a.codec.Marshal(v)
	if err != nil {
		return nil, bus.Errorf(bus.Internal, "answer of %s does not encode as %s: %w", reply.From, a.codec.ContentType(), err)
	}
	return body, nil
}

// split takes an object apart. It tells whether body is one.
func (a *accumulator) split(body []byte) (map[string][]byte, bool) {
	switch a.codec.(type) {
	case bus.JSON:
		return splitInto[json.RawMessage](a.codec, body)
	case bus.MessagePack:
		return splitInto[msgpack.RawMessage](a.codec, body)
	}
	return nil, false
}

func splitInto[Raw ~[]byte](codec bus.Codec, body []byte) (map[string][]byte, bool) {
	var raw map[string]Raw
	if err := codec.Unmarshal(body, &raw); err != nil || raw == nil {
		return nil, false
	}
	fields := make(map[string][]byte, len(raw))
	for k, v := range raw {
		fields[k] = bytes.Clone(v)
	}
	return fields, true
}

// bytes is the response so far, encoded.
func (a *accumulator) bytes() ([]byte, error) {
	switch {
	case a.fields == nil:
		return a.whole, nil
	case a.cached != nil:
		return a.cached, nil
	}
	var err error
	if _, ok := a.codec.(bus.JSON); ok {
		a.cached, err = joinFrom[json.RawMessage](a.codec, a.fields)
	} else {
		a.cached, err = joinFrom[msgpack.RawMessage](a.codec, a.fields)
	}
	if err != nil {
		return nil, bus.Errorf(bus.Internal, "the merged response does not encode: %w", err)
	}
	return a.cached, nil
}

func joinFrom[Raw ~[]byte](codec bus.Codec, fields map[string][]byte) ([]byte, error) {
	raw := make(map[string]Raw, len(fields))
	for k, v := range fields {
		raw[k] = v
	}
	return codec.Marshal(raw)
}
