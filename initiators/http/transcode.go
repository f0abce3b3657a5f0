package http

import (
	"context"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/internal/msgjson"
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

// transcode translates between JSON and MessagePack. What the other cannot hold is an error; bytes are base64 in JSON, times text. Bodies of other
// types, and empty ones, stay as they are.
func transcode(from, to string, body []byte) ([]byte, error) {
	switch {
	case from == to || len(body) == 0:
		return body, nil
	case (from == typeJSON || from == "") && to == typeMessagePack:
		return msgjson.FromJSON(body)
	case from == typeMessagePack && to == typeJSON:
		return msgjson.ToJSON(body)
	}
	return body, nil
}
