package route

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"strconv"

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

// fork is a copy that can be added to, and be left alone when that fails.
func (a *accumulator) fork() *accumulator {
	b := *a
	b.fields = maps.Clone(a.fields)
	return &b
}

// add takes in the response of a step. None, or null, changes nothing.
func (a *accumulator) add(reply micro.Reply) error {
	if len(reply.Body) == 0 {
		return nil
	}
	who := cmp.Or(reply.From, "the service")
	body, err := a.transcode(reply, who)
	if err != nil {
		return err
	}
	fields, object, err := a.split(body)
	if err != nil {
		return bus.Errorf(bus.Internal, "answer of %s is not %s: %w", who, a.codec.ContentType(), err)
	}
	switch {
	case !object:
		a.fields, a.whole = nil, body
	case fields == nil: // null
		return nil
	case a.fields == nil:
		a.fields, a.whole = fields, nil
	default:
		maps.Copy(a.fields, fields)
	}
	a.cached = nil
	return nil
}

// transcode turns the body of a step that answered in another codec into ours.
func (a *accumulator) transcode(reply micro.Reply, who string) ([]byte, error) {
	codec, err := a.conn.CodecFor(reply.ContentType)
	if err != nil {
		return nil, bus.Errorf(bus.Internal, "answer of %s: %w", who, err)
	}
	if codec.ContentType() == a.codec.ContentType() {
		return reply.Body, nil
	}
	v, err := decodeAny(codec, reply.Body)
	if err != nil {
		return nil, bus.Errorf(bus.Internal, "answer of %s is not %s: %w", who, codec.ContentType(), err)
	}
	body, err := a.codec.Marshal(v)
	if err != nil {
		return nil, bus.Errorf(bus.Internal, "answer of %s does not encode as %s: %w", who, a.codec.ContentType(), err)
	}
	return body, nil
}

// decodeAny decodes body into what any codec encodes. The numbers of JSON stay what they are: 64 bits of an integer do not
// fit into a float64.
func decodeAny(codec bus.Codec, body []byte) (any, error) {
	switch codec.(type) {
	case bus.JSON:
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.UseNumber()
		var v any
		if err := dec.Decode(&v); err != nil {
			return nil, err
		}
		if _, err := dec.Token(); !errors.Is(err, io.EOF) {
			return nil, errors.New("there is text after the value")
		}
		return numbers(v)
	case bus.Raw:
		return body, nil
	}
	var v any
	err := codec.Unmarshal(body, &v)
	return v, err
}

// numbers replaces each json.Number in v by an int64, a uint64 or a float64.
func numbers(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return n, nil
		}
		if n, err := strconv.ParseUint(v.String(), 10, 64); err == nil {
			return n, nil
		}
		return v.Float64()
	case map[string]any:
		for k, e := range v {
			if v[k], err = numbers(e); err != nil {
				return nil, err
			}
		}
	case []any:
		for i, e := range v {
			if v[i], err = numbers(e); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// split takes an object apart; null is one without fields. It tells whether body is one, and fails where it is nothing
// that the codec reads.
func (a *accumulator) split(body []byte) (fields map[string][]byte, object bool, err error) {
	switch a.codec.(type) {
	case bus.JSON:
		return splitInto[json.RawMessage](a.codec, body)
	case bus.MessagePack:
		return splitInto[msgpack.RawMessage](a.codec, body)
	}
	return nil, false, nil
}

func splitInto[Raw ~[]byte](codec bus.Codec, body []byte) (fields map[string][]byte, object bool, err error) {
	var raw map[string]Raw
	if err := codec.Unmarshal(body, &raw); err != nil {
		var whole Raw
		return nil, false, codec.Unmarshal(body, &whole)
	}
	if raw == nil {
		return nil, true, nil
	}
	fields = make(map[string][]byte, len(raw))
	for k, v := range raw {
		fields[k] = bytes.Clone(v)
	}
	return fields, true, nil
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
