package http

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
)

// codecTarget sends requests in one codec, whatever they come in.
type codecTarget struct {
	initiators.Target

	contentType string
}

// Send translates the body and sends it.
func (t codecTarget) Send(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
	body, err := transcode(req.ContentType, t.contentType, req.Body)
	if err != nil {
		return initiators.Reply{}, bus.Errorf(bus.InvalidArgument, "the request cannot be written as %s: %w", t.contentType, err)
	}
	req.ContentType, req.Body = t.contentType, body
	return t.Target.Send(ctx, req)
}

// transcode translates between JSON and MessagePack. Integers of 64 bits stay what they are; bytes are base64 in JSON, times text. Bodies of other
// types, and empty ones, stay as they are.
func transcode(from, to string, body []byte) ([]byte, error) {
	switch {
	case from == to || len(body) == 0:
		return body, nil
	case (from == typeJSON || from == "") && to == typeMessagePack:
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.UseNumber()
		var v any
		if err := dec.Decode(&v); err != nil {
			return nil, err
		}
		return bus.MessagePack{}.Marshal(numbers(v))
	case from == typeMessagePack && to == typeJSON:
		var v any
		if err := (bus.MessagePack{}).Unmarshal(body, &v); err != nil {
			return nil, err
		}
		return plainJSON(v)
	}
	return body, nil
}

// plainJSON is JSON that is not made fit for the inside of a page.
func plainJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// numbers makes numbers of what JSON has: whole ones where they fit into 64 bits.
func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return n
		}
		if n, err := strconv.ParseUint(v.String(), 10, 64); err == nil {
			return n
		}
		if n, err := v.Float64(); err == nil {
			return n
		}
		return v.String() // beyond what a float holds: lossless, if not a number
	case map[string]any:
		for name, inner := range v {
			v[name] = numbers(inner)
		}
	case []any:
		for i, inner := range v {
			v[i] = numbers(inner)
		}
	}
	return v
}
