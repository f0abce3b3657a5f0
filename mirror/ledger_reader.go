package mirror

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
)

const (
	ledgerBatch = 64 // chunks
	ledgerWait  = 2 * time.Second
	ledgerIdle  = 30 * time.Second // after which the server forgets who reads
)

// ledgerReader reads what the ledger has of a backend when it begins.
type ledgerReader struct {
	m        *Mirror
	b        Backend
	consumer jetstream.Consumer // nil when there is nothing
	left     uint64
	heard    uint64

	after    uint64           // answers up to here are no longer wanted
	complete uint64           // all answers up to here were read, as far as there are any
	waiting  map[uint64]noted // those that were read
}

// noted is an answer, and the generation of the backend that gave it.
type noted struct {
	entry

	generation int64
}

// open begins with the writes that are wanted.
func (r *ledgerReader) open(ctx context.Context) error {
	r.complete = r.after
	cfg := jetstream.ConsumerConfig{
		FilterSubject: r.m.space.ledger(r.b.Name), AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: ledgerIdle,
	}
	if r.after >= r.b.From { // those before are anywhere
		at, err := r.m.findChunk(ctx, r.b, r.after+1)
		if err != nil {
			return err
		}
		if at == 0 {
			r.complete = math.MaxUint64
			return nil
		}
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, at
	}
	consumer, err := r.m.js.CreateConsumer(ctx, streamLedger, cfg)
	if err != nil {
		return fmt.Errorf("mirror: ledger of %q: %w", r.b.Name, err)
	}
	r.consumer, r.left = consumer, consumer.CachedInfo().NumPending
	if r.left == 0 {
		r.complete = math.MaxUint64
	}
	return nil
}

func (r *ledgerReader) close(ctx context.Context) {
	if r.consumer != nil { // else the server forgets it after a while
		_ = r.m.js.DeleteConsumer(context.WithoutCancel(ctx), streamLedger, r.consumer.CachedInfo().Name)
	}
}

// advance reads some more.
func (r *ledgerReader) advance(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("mirror: ledger of %q: %w", r.b.Name, context.Cause(ctx))
	}
	batch, err := r.consumer.Fetch(int(min(r.left, ledgerBatch)), jetstream.FetchMaxWait(ledgerWait)) //nolint:gosec // no more than ledgerBatch
	if err != nil {
		return fmt.Errorf("mirror: ledger of %q: %w", r.b.Name, err)
	}
	n := uint64(0)
	for msg := range batch.Messages() {
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("mirror: ledger of %q: %w", r.b.Name, err)
		}
		if r.heard++; meta.Sequence.Consumer != r.heard {
			return bus.Errorf(bus.Unavailable, "mirror: ledger of %q: a part was lost on the way, try again", r.b.Name)
		}
		if c, err := decodeChunk(msg.Data(), true); err == nil {
			r.take(c)
		}
		n++
	}
	if err := batch.Error(); err != nil {
		return fmt.Errorf("mirror: ledger of %q: %w", r.b.Name, err)
	}
	if r.left -= n; n == 0 || r.left == 0 { // the rest was removed meanwhile
		r.left, r.complete = 0, math.MaxUint64
	}
	return nil
}

// take adopts a chunk. What an older generation says of the writes of this one is void.
func (r *ledgerReader) take(c *chunk) {
	own := c.generation == r.b.Generation
	for _, e := range c.entries {
		if e.seq > r.after && (own || e.seq <= r.b.From) {
			r.waiting[e.seq] = noted{e, c.generation}
		}
	}
	if own {
		r.complete = max(r.complete, c.floor)
	} else {
		r.complete = max(r.complete, min(c.floor, r.b.From))
	}
	if len(r.waiting) > diffAhead { // one lane is far behind
		seqs := slices.Sorted(maps.Keys(r.waiting))
		r.complete = max(r.complete, seqs[len(seqs)/2])
	}
}
