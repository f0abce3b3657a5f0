package scheduler_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

// mailer is a transport of one's own: beside http, nats, call, route and tcp.
type mailer struct{ sent chan string }

func (mailer) Check(context.Context, scheduler.Target) error { return nil }

func (m mailer) Deliver(_ context.Context, d *scheduler.Delivery) error {
	m.sent <- fmt.Sprintf("to %s, attempt %d: %s", d.Target.URI, d.Attempt, d.Payload)
	return nil // taken: else it is tried again
}

// A program sets a timer, and fires and delivers it itself. Where `skybus up` or `skybus scheduler` runs, it need not call Run.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	conn, done := exampleConn(ctx)
	defer done()

	mail := mailer{make(chan string)}
	timers, err := scheduler.Open(ctx, conn, scheduler.Config{Transports: map[string]scheduler.Transport{"mail": mail}})
	if err != nil {
		panic(err)
	}
	defer func() { _ = timers.Close() }()
	ended := make(chan error)
	go func() { ended <- timers.Run(ctx) }()

	reminder := scheduler.Spec{
		Key: "order-1", After: time.Second, Payload: []byte("your order waits"),
		Target: scheduler.Target{Transport: "mail", URI: "ada@example.com"},
	}
	if _, err := timers.Create(ctx, reminder); err != nil {
		panic(err)
	}
	_, err = timers.Create(ctx, reminder)
	fmt.Println("once more:", bus.CodeOf(err))
	fmt.Println(<-mail.sent)
	stop()
	fmt.Println("ended:", <-ended)
	// Output:
	// once more: already_exists
	// to ada@example.com, attempt 1: your order waits
	// ended: <nil>
}

// Thousands are stored at once. What was made can be found, changed, and cancelled, until it is due.
func ExampleScheduler_CreateMany() {
	ctx := context.Background()
	conn, done := exampleConn(ctx)
	defer done()
	timers, err := scheduler.Open(ctx, conn, scheduler.Config{})
	if err != nil {
		panic(err)
	}
	defer func() { _ = timers.Close() }()

	specs := func(yield func(scheduler.Spec) bool) {
		for n := range 1000 {
			spec := scheduler.Spec{ID: fmt.Sprintf("order-%d", n), After: time.Hour, Target: scheduler.Target{URI: "route://remind"}}
			if !yield(spec) {
				return
			}
		}
	}
	for timer, err := range timers.CreateMany(ctx, specs) {
		if err != nil {
			fmt.Println(timer.ID, err)
		}
	}
	if err := timers.Cancel(ctx, "order-99", 0); err != nil { // whatever its revision
		panic(err)
	}
	var found []string
	for timer, err := range timers.List(ctx, scheduler.Filter{Prefix: "order-99"}) {
		if err != nil {
			panic(err)
		}
		found = append(found, timer.ID)
	}
	slices.Sort(found) // they come shard by shard
	fmt.Println(len(found), "from", found[0], "to", found[9])
	// Output: 10 from order-990 to order-999
}
