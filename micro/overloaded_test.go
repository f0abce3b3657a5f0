package micro_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// A handler that passes on that somebody else refused it has done its part: the request is not sent to another instance.
func TestForwardedOverloadIsNotRetried(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	busy := make(chan struct{})
	defer close(busy)
	entered := make(chan struct{}, 1)
	serve(t, connect(t, srv), micro.Config{Name: "back"}, endpoint("work", func(ctx context.Context, _ hello) (greeting, error) {
		entered <- struct{}{}
		select {
		case <-busy:
		case <-ctx.Done():
		}
		return greeting{}, nil
	}, micro.Concurrency(1)))
	var handled atomic.Int32
	inner := newClient(t, connect(t, srv), micro.ClientConfig{Patience: -1})
	sees(t, inner, "back", 1)
	front := func(ctx context.Context, req hello) (greeting, error) {
		handled.Add(1)
		return micro.Call[greeting](ctx, inner, "back.work", req)
	}
	for range 3 {
		serve(t, connect(t, srv), micro.Config{Name: "front"}, endpoint("charge", front))
	}
	c := newClient(t, connect(t, srv), micro.ClientConfig{})
	sees(t, c, "front", 3)
	held := make(chan struct{})
	holding, release := context.WithCancel(t.Context())
	go func() {
		defer close(held)
		_, _ = micro.Call[greeting](holding, inner, "back.work", hello{}) // canceled at the end
	}()
	bustest.Receive(t, "the first request", entered)
	_, err := micro.Call[greeting](t.Context(), c, "front.charge", hello{})
	wantCode(t, err, bus.Unavailable, "handles 1 requests already")
	if n := handled.Load(); n != 1 {
		t.Errorf("the request was handled %d times, want once", n)
	}
	release()
	<-held
}
