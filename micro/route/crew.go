package route

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// crew is the steps under way in one Run.
type crew struct {
	work        func(jetstream.Msg) (hung bool)
	places      chan struct{} // only fetch takes one
	aside       chan struct{} // places of steps that take long
	reconnected chan struct{}
	closed      <-chan struct{} // of the connection
	running     sync.WaitGroup

	left    chan struct{} // of capacity 1: a place of some subject became free
	mu      sync.Mutex
	busy    map[string]int // places taken, by subject, which names the endpoint
	refused map[string]int // steps given back since a subject was last idle
	trusted map[string]int // places of a subject whose last attempts got no answer
}

func newCrew(closed <-chan struct{}) *crew {
	return &crew{
		places: make(chan struct{}, workers), aside: make(chan struct{}, workers), reconnected: make(chan struct{}, 1), closed: closed, left: make(chan struct{}, 1),
		busy: map[string]int{}, refused: map[string]int{}, trusted: map[string]int{},
	}
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

// begin begins the steps of a batch and returns how many there were. Those that find all places of their endpoint taken wait
// together for crowdPatience, enough for one that works, and are then given back.
func (c *crew) begin(ctx context.Context, batch jetstream.MessageBatch) (n int) {
	var waiting []jetstream.Msg
	for msg := range batch.Messages() {
		n++
		switch {
		case ctx.Err() != nil:
			_ = msg.Nak() // else it would come again only after ackWait
		case c.enter(msg.Subject()):
			c.start(msg)
		default:
			waiting = append(waiting, msg)
		}
	}
	patience, cancel := context.WithTimeout(ctx, crowdPatience)
	defer cancel()
	for _, msg := range waiting {
		if c.enterWithin(patience, msg.Subject()) {
			c.start(msg)
			continue
		}
		if ctx.Err() != nil {
			_ = msg.Nak()
			continue
		}
		_ = msg.NakWithDelay(c.crowded(msg.Subject())) // fails while the connection is down; then it comes again after ackWait
	}
	return n
}

// start works at a step that has entered.
func (c *crew) start(msg jetstream.Msg) {
	c.places <- struct{}{}
	finished := make(chan struct{})
	c.running.Go(func() { c.keepPlace(finished) })
	c.running.Go(func() {
		defer close(finished)
		hung := true // by a panic, too
		defer func() { c.leave(msg.Subject(), hung) }()
		hung = c.work(msg)
	})
}

// keepPlace keeps the place of a step until it is finished. A step that takes long is moved aside as far as there is room, so
// that endpoints that hang do not take all places.
func (c *crew) keepPlace(finished <-chan struct{}) {
	timer := time.NewTimer(longTime)
	defer timer.Stop()
	place := c.places
	select {
	case <-finished:
	case <-timer.C:
		select {
		case c.aside <- struct{}{}:
			<-c.places
			place = c.aside
		default:
		}
		<-finished
	}
	<-place
}

// crowded is how long a step waits that is given back. It grows with what was given back before: what is delivered again comes
// before what is new, so a long queue that came every second would leave no time for others.
func (c *crew) crowded(subject string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[subject]++
	wait := min(crowdFirst+time.Duration(c.refused[subject])*time.Millisecond, crowdLast)
	return wait + rand.N(wait)
}

// enter takes one of the places of a subject, if one is free.
func (c *crew) enter(subject string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	limit, ok := c.trusted[subject]
	if !ok {
		limit = targetPlaces
	}
	if c.busy[subject] >= limit {
		return false
	}
	c.busy[subject]++
	return true
}

// judgeLocked halves the places of a subject after an attempt that got no answer, and doubles them after one that did.
func (c *crew) judgeLocked(subject string, hung bool) {
	limit, ok := c.trusted[subject]
	switch {
	case hung && !ok && len(c.trusted) < maxDistrust:
		c.trusted[subject] = targetPlaces / 2
	case hung && ok:
		c.trusted[subject] = max(1, limit/2)
	case !hung && ok && 2*limit < targetPlaces:
		c.trusted[subject] = 2 * limit
	case !hung:
		delete(c.trusted, subject)
	}
}

// enterWithin waits for a place until ctx ends.
func (c *crew) enterWithin(ctx context.Context, subject string) bool {
	for ctx.Err() == nil {
		if c.enter(subject) {
			return true
		}
		select {
		case <-c.left:
		case <-ctx.Done():
		}
	}
	return false
}

func (c *crew) leave(subject string, hung bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.judgeLocked(subject, hung)
	if c.busy[subject]--; c.busy[subject] == 0 {
		delete(c.busy, subject)
		delete(c.refused, subject)
	}
	select {
	case c.left <- struct{}{}:
	default:
	}
}

func fetchError(err error) error {
	if err == nil || errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrNoMessages) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("route: fetch: %w", err)
}
