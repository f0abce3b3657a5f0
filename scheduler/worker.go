package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
)

const (
	ackWait       = 6 * time.Second  // after which the server gives a delivery to somebody else, unless it hears of it
	maxAckPending = 5000             // deliveries of a shard that are under way, in all processes
	openTimeout   = 2 * time.Second  // of one attempt: an answer that was under way when a server went never comes
	settleTimeout = 10 * time.Second // for storing what came of a delivery
	flushTimeout  = 2 * time.Second
)

// runWorkers delivers what is due until ctx ends. Its only error is that the connection was closed for good.
func (s *Scheduler) runWorkers(ctx context.Context) error {
	return newCourier(s).run(ctx)
}

// courier delivers what is due: it holds what Run has under way in this process.
//
// Messages come from the pullers, one set for each shard, which ask for no more than is free. They wait in the queue of their
// destination for one of Config.Workers places, which the destinations take in turns. What would wait too long there is
// put off: given back to the stream as a schedule, so that it keeps nobody from anything.
type courier struct {
	s   *Scheduler
	log *slog.Logger

	running sync.WaitGroup
	wake    chan struct{} // of capacity 1: there is something to watch
	done    finished
	rarely  struct{ buried, full, unknown sometimes } // what is logged once in a while

	mu           sync.Mutex
	stopped      bool
	busy         int // places taken
	settling     int // goroutines that settle what is not delivered
	waiting      int // parcels in queues of destinations
	destinations map[string]*destination
	ready        fifo[*destination] // with a parcel that may be delivered
	aside        fifo[*parcel]      // to be settled without a delivery
	underway     map[attemptKey]struct{}
	held         parcels
	late         []*nats.Msg         // what came after the stop
	warned       map[string]struct{} // transports that are not known here
	beat, woke   time.Time           // when the process ran, and when it last did again after it had stood still
}

func newCourier(s *Scheduler) *courier {
	return &courier{
		s: s, log: s.log, wake: make(chan struct{}, 1), done: newFinished(),
		destinations: map[string]*destination{}, underway: map[attemptKey]struct{}{}, warned: map[string]struct{}{},
	}
}

// run takes and delivers until ctx ends, and then lets what is being delivered finish for Config.Drain.
func (c *courier) run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	watching, unwatch := context.WithCancel(work)
	defer unwatch()
	pulling, stop := context.WithCancel(ctx)
	defer stop()
	closed := c.s.conn.Closed()
	defer context.AfterFunc(pulling, c.stop)()

	var watch sync.WaitGroup
	watch.Go(func() { c.watch(watching) })
	watch.Go(func() { c.checkDeadLetters(pulling) })
	watch.Go(func() {
		select {
		case <-closed:
			stop()
		case <-pulling.Done():
		}
	})
	c.pull(pulling, work)
	stop()

	c.giveBack()
	timer := time.AfterFunc(c.s.cfg.Drain, cancel)
	c.running.Wait()
	timer.Stop()
	unwatch()
	watch.Wait()
	c.flush(ctx)
	select {
	case <-closed:
		return bus.Errorf(bus.Unavailable, "scheduler: workers: the connection was closed")
	default:
		return nil
	}
}

// flush sees to it that the server has the last acknowledgements. Where it fails, those deliveries are made again.
func (c *courier) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if nc := c.s.conn.NATS(); nc.IsConnected() {
		if err := nc.FlushWithContext(ctx); err != nil {
			c.log.DebugContext(ctx, "last acknowledgements not sent", "error", err)
		}
	}
}

// openConsumer makes the consumer of the namespace in a shard, which all processes share, and returns up to where it has delivered.
func (c *courier) openConsumer(ctx context.Context, sh *shard) (delivered uint64, err error) {
	stream, name, filter := streamName(sh.shard), consumerName(sh.ns), sh.all(kindDue)
	if err := c.s.conn.WaitConnected(ctx); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	err = c.s.conn.Permitted(ctx, bus.Access{Publish: []string{
		"$JS.API.CONSUMER.CREATE." + stream + "." + name + "." + filter,
		"$JS.API.CONSUMER.MSG.NEXT." + stream + "." + name,
	}}, func(ctx context.Context) error {
		consumer, err := c.s.js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
			Durable:       name,
			FilterSubject: filter,
			AckPolicy:     jetstream.AckExplicitPolicy,
			AckWait:       ackWait,
			MaxAckPending: maxAckPending,
			MaxDeliver:    -1,
		})
		if err == nil {
			delivered = consumer.CachedInfo().Delivered.Stream
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("scheduler: consumer of %s: %w", stream, err)
	}
	return delivered, nil
}

// consumerName has "=", which is in no token, so no two namespaces share a name.
func consumerName(ns bus.Namespace) string { return ns.App + "=" + ns.Env }

// storeExpecting stores msg if the last message of its subject is the one of that sequence, 0 for none. Else the error is errConflict.
func (s *Scheduler) storeExpecting(ctx context.Context, msg *nats.Msg, seq uint64) error {
	msg.Header[headerExpectSeq] = []string{strconv.FormatUint(seq, 10)}
	_, err := s.publish(ctx, msg)
	return err
}
