package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

const (
	workers      = 64
	ackWait      = time.Minute
	workTimeout  = 30 * time.Second
	fetchWait    = 5 * time.Second
	reopenWait   = 200 * time.Millisecond
	backoffFirst = time.Second
	backoffLast  = 5 * time.Minute
	maxAttempts  = 20
)

// Headers of a dead letter.
const (
	HeaderDeadSubject  = "Skybus-Dead-Subject"
	HeaderDeadError    = "Skybus-Dead-Error"
	HeaderDeadAttempts = "Skybus-Dead-Attempts"
)

// Worker does the asynchronous steps of a namespace: it calls the endpoint of each until that succeeds, with exponential
// backoff and full jitter between 1 s and 5 min. After 20 attempts the step becomes a dead letter in SKYBUS_DLQ. Any number
// of workers share the work; 64 steps at a time each.
type Worker struct {
	client *micro.Client
	conn   *bus.Conn
	log    *slog.Logger
}

// NewWorker makes a worker that does nothing before [Worker.Run]. The client stays the caller's.
func NewWorker(client *micro.Client, cfg Config) *Worker {
	log := cfg.Logger
	if log == nil {
		log = client.Conn().Logger()
	}
	return &Worker{client: client, conn: client.Conn(), log: log.With("component", "route")}
}

// Run works until ctx ends; steps begun are finished or given back first. While JetStream is away it keeps trying.
func (w *Worker) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, workers)
	for ctx.Err() == nil {
		consumer, err := w.open(ctx)
		if err == nil {
			err = w.consume(ctx, consumer, slots, &running)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		w.log.Warn("asynchronous steps are waiting", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(reopenWait + rand.N(reopenWait)):
		}
	}
	return nil
}

// open binds streams and consumer, creating what is not there: a memory store forgets them in a restart.
func (w *Worker) open(ctx context.Context) (jetstream.Consumer, error) {
	if err := openAsync(ctx, w.conn); err != nil {
		return nil, err
	}
	if _, err := w.conn.OpenStream(ctx, jetstream.StreamConfig{
		Name:        DeadLetterStream,
		Description: "skybus: what was given up",
		Subjects:    []string{"skybus.dlq.>"},
		Storage:     jetstream.FileStorage,
	}); err != nil {
		return nil, err
	}
	ns := w.conn.Namespace()
	consumer, err := w.conn.JetStream().CreateOrUpdateConsumer(ctx, AsyncStream, jetstream.ConsumerConfig{
		Durable:       ns.App + "=" + ns.Env, // "=" is in no token, so no two namespaces share a name
		FilterSubject: "skybus.async." + ns.String() + ".>",
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       ackWait,
		MaxAckPending: 16 * workers,
		MaxDeliver:    -1,
	})
	if err != nil {
		return nil, fmt.Errorf("route: consumer of %s: %w", AsyncStream, err)
	}
	return consumer, nil
}

// consume fetches as many steps as there are free places and begins them as they come.
func (w *Worker) consume(ctx context.Context, consumer jetstream.Consumer, slots chan struct{}, running *sync.WaitGroup) error {
	fetch, cancel := context.WithTimeout(ctx, fetchWait)
	defer cancel()
	batch, err := consumer.Fetch(max(1, workers-len(slots)), jetstream.FetchContext(fetch))
	if err != nil {
		return fetchError(err)
	}
	for msg := range batch.Messages() {
		if ctx.Err() != nil {
			_ = msg.Nak() // else it would come again only after ackWait
			continue
		}
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			w.work(context.WithoutCancel(ctx), msg)
		})
	}
	return fetchError(batch.Error())
}

func fetchError(err error) error {
	if err == nil || errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrNoMessages) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("route: fetch: %w", err)
}

// work makes one attempt at a step and settles it.
func (w *Worker) work(ctx context.Context, msg jetstream.Msg) {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	attempt := 1
	if meta, err := msg.Metadata(); err == nil {
		attempt = int(meta.NumDelivered)
	}
	err := w.call(ctx, msg, attempt)
	switch {
	case err == nil:
		err = msg.Ack()
	case attempt < maxAttempts && !hopeless(err):
		w.log.Debug("asynchronous step failed", "subject", msg.Subject(), "attempt", attempt, "error", err)
		err = msg.NakWithDelay(backoff(attempt))
	default:
		err = w.bury(ctx, msg, attempt, err)
	}
	if err != nil {
		w.log.Warn("asynchronous step will be done again", "subject", msg.Subject(), "error", err)
	}
}

func (w *Worker) call(ctx context.Context, msg jetstream.Msg, attempt int) error {
	tokens := strings.Split(msg.Subject(), ".")
	service, endpoint, err := micro.ParseTarget(strings.Join(tokens[len(tokens)-2:], "."))
	if err != nil {
		return err
	}
	env, err := bus.ReadEnvelope(msg.Headers())
	if err != nil {
		return err
	}
	_, err = w.client.Do(micro.WithRequestID(ctx, env.RequestID), micro.Request{
		Service: service, Endpoint: endpoint, Version: msg.Headers().Get(headerVersion),
		ContentType: env.ContentType, Body: msg.Data(), Attempt: attempt,
	})
	return err
}

// hopeless tells whether another attempt would end the same way: the service said that the request itself is bad.
func hopeless(err error) bool {
	switch bus.CodeOf(err) {
	case bus.InvalidArgument, bus.FailedPrecondition, bus.OutOfRange, bus.NotFound, bus.AlreadyExists, bus.PermissionDenied:
		return true
	}
	return false
}

func backoff(attempt int) time.Duration {
	ceiling := backoffLast
	if shift := attempt - 1; shift < 9 {
		ceiling = min(backoffLast, backoffFirst<<shift)
	}
	return max(backoffFirst/10, rand.N(ceiling))
}

// bury stores the step as a dead letter before it leaves the queue.
func (w *Worker) bury(ctx context.Context, msg jetstream.Msg, attempt int, cause error) error {
	id := msg.Headers().Get(nats.MsgIdHdr)
	if bus.CheckToken("id", id) != nil {
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		id = strconv.FormatUint(meta.Sequence.Stream, 10)
	}
	dead := &nats.Msg{Subject: w.conn.Namespace().DeadLetterSubject("async", id), Header: nats.Header{}, Data: msg.Data()}
	for k, v := range msg.Headers() {
		dead.Header[k] = v
	}
	dead.Header.Set(nats.MsgIdHdr, "async-"+id)
	dead.Header.Set(HeaderDeadSubject, msg.Subject())
	dead.Header.Set(HeaderDeadError, fmt.Sprintf("%.1000s", cause))
	dead.Header.Set(HeaderDeadAttempts, strconv.Itoa(attempt))
	if _, err := w.conn.JetStream().PublishMsg(ctx, dead); err != nil {
		return errors.Join(fmt.Errorf("route: dead letter: %w", err), msg.NakWithDelay(backoff(attempt)))
	}
	w.log.Warn("asynchronous step given up", "subject", msg.Subject(), "id", id, "attempts", attempt, "error", cause)
	return msg.Ack()
}
