package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
)

const (
	pullsPerShard = 2 // at once, so that one is asked for while the other comes in
	pullExpires   = 30 * time.Second
	pullHeartbeat = time.Second
	pullLost      = 5 * pullHeartbeat / 2 // without a sign of life
	pullBytes     = 8 << 20               // of one pull; more than any message has
	minHeld       = 128                   // messages of a shard that a process may have at once, whatever its workers
	maxHeld       = 512
	maxHeldBytes  = 16 << 20 // of a shard: no further pull begins above it
	reopenFirst   = 50 * time.Millisecond
	reopenLast    = 2 * time.Second
	leaveTimeout  = 5 * time.Second
	pullMark      = "mark"      // the token of what a puller sends to itself
	pullStood     = ackWait / 2 // without running; what was sent before that may have been given to others
)

// pipe is where messages of one shard come from.
type pipe struct {
	*shard

	courier *courier
	batch   int64
	free    atomic.Int64  // messages that may still be asked for
	bytes   atomic.Int64  // of those that are held
	freed   chan struct{} // of capacity 1: there may be enough for a pull

	receipts receipts
	lull     lull
}

func (c *courier) newPipe(sh *shard) *pipe {
	size := int64(min(max(8*c.s.cfg.Workers/len(c.s.shards), minHeld), maxHeld))
	p := &pipe{shard: sh, courier: c, batch: size / 4, freed: make(chan struct{}, 1)}
	p.free.Store(size)
	return p
}

// take takes leave to ask for a batch, and waits for it until ctx ends.
func (p *pipe) take(ctx context.Context) bool {
	for ctx.Err() == nil {
		if n := p.free.Load(); n >= p.batch && p.bytes.Load() < maxHeldBytes {
			if p.free.CompareAndSwap(n, n-p.batch) {
				if n >= 2*p.batch {
					p.signal()
				}
				return true
			}
			continue
		}
		select {
		case <-p.freed:
		case <-ctx.Done():
		}
	}
	return false
}

// give gives back what was held, or asked for and did not come.
func (p *pipe) give(messages, bytes int64) {
	p.bytes.Add(-bytes)
	if p.free.Add(messages) >= p.batch {
		p.signal()
	}
}

func (p *pipe) signal() {
	select {
	case p.freed <- struct{}{}:
	default:
	}
}

// pull takes messages from all shards until ctx ends. What comes after that it takes too, so that it can be given back.
func (c *courier) pull(ctx, work context.Context) {
	var all sync.WaitGroup
	for _, sh := range c.s.shards {
		p := c.newPipe(sh)
		for range pullsPerShard {
			all.Go(func() { newPuller(p).run(ctx, work) })
		}
	}
	all.Wait()
}

// puller asks for messages, one pull after the other. nats.go's own would do, but that they keep messages in a buffer of theirs, where
// nobody tells the server that they are still wanted.
type puller struct {
	*pipe

	inbox string
	over  chan struct{} // of capacity 1: the pull is over
	waits bool          // it has told the pipe so

	mu    sync.Mutex
	n     uint64 // number of the pull
	left  int64  // messages that it still may bring; 0 when it is over
	came  bool   // it brought some
	alive bool   // something was heard of it
	heard time.Time
	fault error     // why it ended, where that was neither time nor success
	ran   time.Time // when the process ran, last
	stale bool      // it stood still, and what comes may have been sent before that
}

func newPuller(p *pipe) *puller {
	return &puller{pipe: p, inbox: p.courier.s.conn.NATS().NewInbox() + ".", over: make(chan struct{}, 1)}
}

// run pulls until ctx ends: through restarts, changes of leaders and the loss of the consumer.
func (p *puller) run(ctx, work context.Context) {
	c := p.courier
	lost := make(chan struct{}, 1)
	defer c.s.conn.NotifyLoss(lost)()
	left := make(chan struct{})
	sub, err := c.s.conn.NATS().Subscribe(p.inbox+"*", func(msg *nats.Msg) { p.hear(work, msg) })
	if err != nil {
		return // the connection is closed
	}
	sub.SetClosedHandler(func(string) { close(left) })
	if err := sub.SetPendingLimits(-1, -1); err != nil { // batches bound it
		c.log.DebugContext(ctx, "limits of a subscription", "error", err)
	}
	defer p.leave(sub, left)
	var insisting sync.WaitGroup
	defer insisting.Wait()

	epoch, faulty, wait := p.receipts.present(), false, reopenFirst
	for ctx.Err() == nil {
		delivered, err := c.openConsumer(ctx, p.shard)
		if err == nil {
			now, cerr := p.clock.now(ctx) // by which it shows what was fired too early; without it this process's clock must do
			if cerr != nil {
				now = p.clock.at(time.Now())
			}
			if faulty && p.receipts.begin(epoch, now) {
				insisting.Go(func() { p.insist(ctx, delivered) })
			}
			epoch = p.receipts.present()
		}
		for err == nil && ctx.Err() == nil {
			if err = p.once(ctx, lost); err == nil {
				wait = reopenFirst
			}
		}
		if ctx.Err() != nil {
			return
		}
		faulty = true
		p.waitsFor(ctx, err)
		backoff.Sleep(ctx, wait/2+rand.N(wait/2))
		wait = min(2*wait, reopenLast)
	}
}

// leave stops listening. Nothing is lost of what the server had sent.
func (p *puller) leave(sub *nats.Subscription, left <-chan struct{}) {
	if sub.Drain() != nil {
		return // the connection is closed
	}
	select {
	case <-left:
	case <-time.After(leaveTimeout): // without a connection; what was sent is delivered again after ackWait
		_ = sub.Unsubscribe()
	}
}

// errRenew: the connection came back, or nothing was heard. The consumer may be gone.
var errRenew = errors.New("scheduler: the server was silent, or is another one")

// once makes one pull. An error means that the consumer is to be looked after.
func (p *puller) once(ctx context.Context, lost <-chan struct{}) error {
	if !p.take(ctx) {
		return nil
	}
	defer func() { p.give(p.end(nil), 0) }()
	reply, request := p.begin()
	subject := "$JS.API.CONSUMER.MSG.NEXT." + streamName(p.shard.shard) + "." + consumerName(p.ns)
	if err := p.courier.s.conn.NATS().PublishRequest(subject, reply, request); err != nil {
		return err
	}
	ticker := time.NewTicker(pullHeartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-p.over:
			p.mu.Lock()
			fault := p.fault
			p.mu.Unlock()
			if fault == nil {
				p.goesOn(ctx)
			}
			return fault
		case <-lost:
			return errRenew
		case <-ticker.C:
			p.mu.Lock()
			p.runsLocked(time.Now())
			silent, alive := time.Since(p.heard), p.alive
			p.mu.Unlock()
			if silent > pullLost {
				return errRenew
			}
			if alive {
				p.goesOn(ctx)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *puller) begin() (reply string, request []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.over:
	default:
	}
	p.runsLocked(time.Now())
	if p.stale {
		p.markLocked()
	}
	p.n++
	p.left, p.came, p.alive, p.heard, p.fault = p.batch, false, false, time.Now(), nil
	request, _ = json.Marshal(struct { // never fails
		Expires   time.Duration `json:"expires"`
		Batch     int64         `json:"batch"`
		MaxBytes  int           `json:"max_bytes"`
		Heartbeat time.Duration `json:"idle_heartbeat"`
	}{pullExpires, p.batch, pullBytes, pullHeartbeat})
	return p.inbox + strconv.FormatUint(p.n, 10), request
}

// end ends the pull, if it is not over, and returns how many messages did not come.
func (p *puller) end(fault error) (left int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.endLocked(fault)
}

func (p *puller) endLocked(fault error) (left int64) {
	left, p.left, p.fault = p.left, 0, fault
	select {
	case p.over <- struct{}{}:
	default:
	}
	return left
}

// hear takes what the server sends: messages, and how the pull goes.
func (p *puller) hear(work context.Context, msg *nats.Msg) {
	if strings.HasPrefix(msg.Subject, p.inbox) {
		p.status(msg)
		return
	}
	now := time.Now()
	p.mu.Lock()
	p.runsLocked(now)
	p.heard, p.came, p.alive = now, true, true
	if p.left > 0 {
		if p.left--; p.left == 0 {
			p.endLocked(nil)
		}
	} else {
		p.free.Add(-1) // of a pull that was given up
	}
	stale := p.stale
	p.mu.Unlock()
	p.bytes.Add(int64(msg.Size()))
	if stale { // it comes again, if nobody has it
		p.give(1, int64(msg.Size()))
		return
	}
	p.courier.take(work, p.pipe, msg)
}

// status is how the present pull goes; of an earlier one it is not of interest any more.
func (p *puller) status(msg *nats.Msg) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if msg.Subject == p.inbox+pullMark {
		p.stale = false
		return
	}
	if strings.TrimPrefix(msg.Subject, p.inbox) != strconv.FormatUint(p.n, 10) || p.left == 0 {
		return
	}
	p.heard = time.Now()
	var fault error
	switch code := first(msg.Header, "Status"); {
	case code == "100": // a sign of life
		p.alive = true
		return
	case code == "408" || code == "404" || p.came: // its time is over, or the next message would make it too large
	default:
		fault = bus.Errorf(bus.Unavailable, "scheduler: pull: %s %s", code, first(msg.Header, "Description"))
	}
	left := p.endLocked(fault)
	p.give(left, 0)
}

// runsLocked notes that the process runs. What was sent to it before it stood still it drops, up to a mark that it sends to itself.
func (p *puller) runsLocked(now time.Time) {
	if now.Sub(p.ran) > pullStood && !p.stale && !p.ran.IsZero() {
		p.stale = true
		p.markLocked()
	}
	p.ran = now
}

func (p *puller) markLocked() {
	_ = p.courier.s.conn.NATS().Publish(p.inbox+pullMark, nil) // fails without a connection; then it is sent with the next pull
}
