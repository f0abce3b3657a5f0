package route

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/micro"
)

const (
	workers       = 64
	targetPlaces  = workers / 4     // of one endpoint: one that hangs leaves places for the others
	maxDistrust   = 4096            // endpoints that are remembered as hanging
	longTime      = 5 * time.Second // after which a step is moved aside
	ackWait       = 10 * time.Second
	workTimeout   = 30 * time.Second
	fetchWait     = 5 * time.Second
	finishTime    = time.Second
	reopenFirst   = 200 * time.Millisecond
	reopenLast    = 2 * time.Second
	backoffFirst  = time.Second
	backoffLast   = 5 * time.Minute
	maxAttempts   = 20
	crowdFirst    = time.Second
	crowdLast     = 10 * time.Second
	crowdPatience = 20 * time.Millisecond
	leastAge      = time.Hour // the longest that 20 attempts wait for each other, rounded up
)

// Worker does the asynchronous steps of a namespace: it calls the endpoint of each until that succeeds, with exponential
// backoff and full jitter between 1 s and 5 min. Any number of workers share the work; 64 steps at a time each, and as
// many more that have taken longer than 5 s. At most 16 of them are for one endpoint, fewer for one that did not answer. What a
// worker had begun that crashed is done again after 10 s.
//
// A step that fails becomes a dead letter in SKYBUS_DLQ: at once when the service says that the request itself is bad, else
// when it was delivered 20 times and is 1 h old. The age matters because a delivery that found its endpoint's 16 places taken
// made no call, yet JetStream counts it. A dead letter that cannot be stored leaves its step in the queue; where there is no room
// for it, see [FullPolicy]. [DeadLetters] looks at them and sends them again.
//
// A step that is a route is run by the worker itself. As a whole: what fails in it has all its steps done again.
type Worker struct {
	client *micro.Client
	conn   *bus.Conn
	log    *slog.Logger
	cfg    WorkerConfig

	dropping chan struct{} // of capacity 1: held by who makes room for dead letters
}

// WorkerConfig adjusts a [Worker]. The zero value works.
type WorkerConfig struct {
	// Runner runs steps that are routes. Nil means one of the worker's own.
	Runner *Runner
	// DeadLetters says what happens when there is no room for dead letters. The zero value is [Keep].
	DeadLetters FullPolicy
	Logger      *slog.Logger // nil means the connection's
}

// NewWorker makes a worker that does nothing before [Worker.Run]. The client stays the caller's.
func NewWorker(client *micro.Client, cfg WorkerConfig) *Worker {
	log := cfg.Logger
	if log == nil {
		log = client.Conn().Logger()
	}
	return &Worker{client: client, conn: client.Conn(), log: log.With("component", "route"), cfg: cfg, dropping: make(chan struct{}, 1)}
}

// Run works until ctx ends. Steps begun are then given 1 s to finish, else they are given back, and done again by another
// worker. While JetStream is away it keeps trying; its only error is that the connection was closed for good.
func (w *Worker) Run(ctx context.Context) error {
	c := newCrew(w.conn.Closed())
	defer w.conn.NotifyLoss(c.reconnected)()
	working, giveBack := context.WithCancel(context.WithoutCancel(ctx))
	runner := w.cfg.Runner
	c.work = func(msg jetstream.Msg) bool { return w.work(working, runner, msg) }
	defer func() {
		timer := time.AfterFunc(finishTime, giveBack)
		c.running.Wait()
		timer.Stop()
		giveBack()
		if runner != w.cfg.Runner {
			_ = runner.Close() // has no error to tell
		}
	}()
	wait, level := reopenFirst, slog.LevelWarn
	var since time.Time // when it was told that steps are waiting
	for ctx.Err() == nil {
		consumer, err := w.open(ctx)
		if err == nil && runner == nil {
			runner, err = NewRunner(ctx, w.client, Config{Logger: w.cfg.Logger})
		}
		for err == nil && ctx.Err() == nil {
			if err = c.fetch(ctx, consumer); err != nil {
				break
			}
			wait, level = reopenFirst, slog.LevelWarn
			if !since.IsZero() && ctx.Err() == nil {
				w.log.InfoContext(ctx, "asynchronous steps go on", "waited", time.Since(since).Round(time.Millisecond).String())
				since = time.Time{}
			}
		}
		if ctx.Err() != nil {
			break
		}
		if since.IsZero() {
			since = time.Now()
		}
		w.log.Log(ctx, level, "asynchronous steps are waiting", "error", err)
		select {
		case <-ctx.Done():
		case <-w.conn.Closed():
			return bus.Wrap(bus.Unavailable, "route: worker: the connection was closed", err)
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
		wait, level = min(2*wait, reopenLast), slog.LevelDebug
	}
	return nil
}

// open binds stream and consumer, creating what is not there: a memory store forgets them in a restart.
func (w *Worker) open(ctx context.Context) (jetstream.Consumer, error) {
	if err := openAsync(ctx, w.conn); err != nil {
		return nil, err
	}
	ns := w.conn.Namespace()
	consumer, err := w.conn.JetStream().CreateOrUpdateConsumer(ctx, AsyncStream, jetstream.ConsumerConfig{
		Durable:       ns.App + "=" + ns.Env, // "=" is in no token, so no two namespaces share a name
		FilterSubject: asyncPrefix(ns) + ">",
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       ackWait,
		MaxAckPending: -1, // else the steps of a broken service, waiting for their next attempt, would hold up all others
		MaxDeliver:    -1,
	})
	if err != nil {
		return nil, fmt.Errorf("route: consumer of %s: %w", AsyncStream, err)
	}
	return consumer, nil
}

// work makes one attempt at a step and settles it, and tells whether the attempt got no answer. When ctx ends, the step is
// given back.
func (w *Worker) work(ctx context.Context, runner *Runner, msg jetstream.Msg) (hung bool) {
	attempt, age := history(msg)
	defer bus.KeepInProgress(msg, ackWait)()
	err := w.call(ctx, runner, msg, attempt)
	hung = bus.CodeOf(err) == bus.DeadlineExceeded
	switch {
	case err == nil:
		err = msg.Ack()
	case ctx.Err() != nil:
		err = msg.Nak()
	case (attempt < maxAttempts || age < leastAge) && !hopeless(err):
		w.log.DebugContext(ctx, "asynchronous step failed", "subject", msg.Subject(), "attempt", attempt, "error", err)
		err = msg.NakWithDelay(stepBackoff(attempt))
	default:
		err = w.bury(ctx, msg, attempt, err)
	}
	if err != nil {
		w.log.WarnContext(ctx, "asynchronous step will be done again", "subject", msg.Subject(), "error", err)
	}
	return hung
}

// history tells how often a step was delivered, which is at least as often as it was called, and how long ago it was stored.
func history(msg jetstream.Msg) (deliveries int, age time.Duration) {
	meta, err := msg.Metadata()
	if err != nil {
		return 1, 0
	}
	return int(meta.NumDelivered), time.Since(meta.Timestamp)
}

func (w *Worker) call(ctx context.Context, runner *Runner, msg jetstream.Msg, attempt int) error {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	target := strings.TrimPrefix(msg.Subject(), asyncPrefix(w.conn.Namespace()))
	service, endpoint, err := micro.ParseTarget(target)
	if err != nil {
		return err
	}
	env, err := bus.ReadEnvelope(msg.Headers())
	if err != nil {
		return err
	}
	// Who may not store steps can still have JetStream send its answers here, without headers or as a copy of what is stored.
	if env.RequestID == "" || len(msg.Headers()[jetstream.SequenceHeader]) > 0 {
		return bus.Errorf(bus.PermissionDenied, "route: step %s was not stored by who runs a route", target)
	}
	ctx = micro.Continue(ctx, micro.RequestInfo{RequestID: env.RequestID, Origin: env.Origin, Traceparent: env.Traceparent})
	if service == RouterService {
		if ctx, err = withPath(ctx, msg.Headers().Get(headerPath)); err != nil {
			return err
		}
		if _, err := runner.route(endpoint); err != nil { // it may be known a moment later
			return bus.Wrap(bus.Unavailable, err.Error(), err)
		}
		_, err = runner.Run(ctx, endpoint, Request{ContentType: env.ContentType, Body: msg.Data(), Header: bus.UserHeader(msg.Headers())})
		return err
	}
	_, err = w.client.Do(ctx, micro.Request{
		Service: service, Endpoint: endpoint, Version: msg.Headers().Get(headerVersion),
		ContentType: env.ContentType, Body: msg.Data(), Header: bus.UserHeader(msg.Headers()), Attempt: attempt,
		Patience: -1, // the step waits in its queue, not in one of our places
	})
	return err
}

// hopeless tells whether another attempt would end the same way: the service said that the request itself is bad.
func hopeless(err error) bool {
	switch bus.CodeOf(err) {
	case bus.InvalidArgument, bus.FailedPrecondition, bus.OutOfRange, bus.NotFound, bus.AlreadyExists, bus.PermissionDenied:
		return true
	default:
		return false
	}
}

func stepBackoff(attempt int) time.Duration {
	return max(backoffFirst/10, backoff.Full(attempt, backoffFirst, backoffLast))
}

func asyncPrefix(ns bus.Namespace) string { return "skybus.async." + ns.String() + "." }
