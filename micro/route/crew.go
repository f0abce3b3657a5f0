package route

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// crew is the steps under way in one Run.
type crew struct {
	work        func(jetstream.Msg)
	places      chan struct{} // only fetch takes one
	reconnected chan struct{}
	closed      <-chan struct{} // of the connection
	running     sync.WaitGroup
}

// fetch begins what there is to do for the free places, of which it waits for one, and else waits for the next step. Only
// that wait ends with ctx: what the server had sent meanwhile would come again only after ackWait.
func (c *crew) fetch(ctx context.Context, consumer jetstream.Consumer) error {
	select {
	case c.places <- struct{}{}:
		<-c.places // nobody else takes it
	case <-ctx.Done():
		return nil
	}
	there, err := consumer.FetchNoWait(cap(c.places) - len(c.places))
	if err != nil {
		return fetchError(err)
	}
	if n := c.begin(ctx, there); n > 0 || there.Error() != nil {
		return fetchError(there.Error())
	}
	wait, cancel := context.WithTimeout(ctx, fetchWait)
	defer cancel()
	c.running.Go(func() {
		select {
		case <-c.reconnected: // the server has forgotten that somebody waits
			cancel()
		case <-c.closed:
			cancel()
		case <-wait.Done():
		}
	})
	next, err := consumer.Fetch(1, jetstream.FetchContext(wait))
	if err != nil {
		return fetchError(err)
	}
	c.begin(ctx, next)
	return fetchError(next.Error())
}

// begin begins the steps of a batch and returns how many there were.
func (c *crew) begin(ctx context.Context, batch jetstream.MessageBatch) (n int) {
	for msg := range batch.Messages() {
		n++
		if ctx.Err() != nil {
			_ = msg.Nak() // else it would come again only after ackWait
			continue
		}
		c.places <- struct{}{}
		c.running.Go(func() {
			defer func() { <-c.places }()
			c.work(msg)
		})
	}
	return n
}

func fetchError(err error) error {
	if err == nil || errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrNoMessages) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("route: fetch: %w", err)
}
