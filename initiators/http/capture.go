package http

import (
	"context"
	"time"

	"github.com/skybus-io/skybus/initiators"
)

// captureTarget notes what a target would be sent, in the ctx of [withCapture], and answers with it. Others it answers with nothing.
type captureTarget struct{}

var _ initiators.Target = captureTarget{}

// captured is what a target would be sent.
type captured struct {
	request *initiators.Request // nil: nothing
	timeout time.Duration       // for its answer; 0 for none
}

type captureContext struct{}

func withCapture(ctx context.Context, to *captured) context.Context {
	return context.WithValue(ctx, captureContext{}, to)
}

// Send notes the request.
func (captureTarget) Send(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
	to, ok := ctx.Value(captureContext{}).(*captured)
	if !ok {
		return initiators.Reply{}, nil
	}
	to.request = &req
	if at, ok := ctx.Deadline(); ok {
		to.timeout = time.Until(at).Round(time.Millisecond)
	}
	return initiators.Reply{ContentType: req.ContentType, Body: req.Body}, nil
}
